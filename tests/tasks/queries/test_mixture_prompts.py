"""Prompts of mixtures: exactly K sources that add up to everything that is named."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import FrozenInstanceError

import pytest

from vidaudio.errors import QueryError, UsageError
from vidaudio.tasks.queries.mixture_prompts import (
    Prompts,
    PromptTemplates,
    mixture_prompt,
    prompts_of_caption,
    prompts_of_labels,
)
from vidaudio.tasks.queries.phrases import phrases

CAPTIONS = (
    "A dog barks",
    "A man speaks while a dog barks in the background",
    "Rain falls and thunder roars followed by a car passing",
    "A man speaks, a dog barks, a cat meows, birds chirp and rain falls",
)
LABELS = (("violin",), ("violin", "acoustic_guitar"), ("a", "b", "c"), ("a", "b", "c", "d", "e"))


def sums(prompts: Prompts) -> dict[str, float]:
    """Return the sum of the weights of each prompt."""
    total: dict[str, float] = defaultdict(float)
    for source, weight in zip(prompts.sources, prompts.weights, strict=True):
        total[source] += weight
    return total


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("caption", CAPTIONS)
def test_a_caption_gives_exactly_as_many_prompts_whose_weights_sum_to_one_each(caption: str, count: int):
    prompts = prompts_of_caption(caption, count)
    assert len(prompts.sources) == len(prompts.weights) == count
    assert set(sums(prompts)) == set(prompts.sources)
    assert list(sums(prompts).values()) == pytest.approx([1.0] * len(set(prompts.sources)))
    assert prompts.mixture == caption
    assert all(phrase in " ".join(prompts.sources) for phrase in phrases(caption))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("labels", LABELS)
def test_labels_give_exactly_as_many_prompts_whose_weights_sum_to_one_each(labels: tuple[str, ...], count: int):
    prompts = prompts_of_labels(labels, count)
    assert len(prompts.sources) == len(prompts.weights) == count
    assert list(sums(prompts).values()) == pytest.approx([1.0] * min(count, len(labels)))
    assert all(label.replace("_", " ") in " ".join(prompts.sources) for label in labels)
    assert all(source.startswith("The sound of ") for source in prompts.sources)


def test_published_sentences():
    assert prompts_of_labels(["violin", "acoustic_guitar"], 2) == Prompts(
        "The sound mixture of violin and acoustic guitar",
        ("The sound of violin", "The sound of acoustic guitar"),
        (1.0, 1.0),
    )
    assert mixture_prompt(["a", "b", "c"]) == "The sound mixture of a and b and c"


def test_few_prompts_are_repeated_and_share_their_weight():
    assert prompts_of_caption("A man speaks as a dog barks", 3) == Prompts(
        "A man speaks as a dog barks", ("a man speaks", "a dog barks", "a man speaks"), (0.5, 1.0, 0.5)
    )


def test_many_prompts_have_the_last_ones_joined():
    assert prompts_of_labels(["a", "b", "c", "d"], 2).sources == ("The sound of a", "The sound of b, c and d")
    assert prompts_of_caption("Rain falls, a dog barks and a cat meows", 2).sources == (
        "rain falls",
        "a dog barks and a cat meows",
    )


def test_a_joined_prompt_is_one_source_even_if_it_equals_none_of_its_parts():
    assert prompts_of_caption("Rain falls, a dog barks and a cat meows", 2).weights == (1.0, 1.0)


def test_labels_that_differ_in_case_or_underscores_count_once():
    assert prompts_of_labels(["Dog_barking", "dog  barking ", "", "_"], 2).sources == ("The sound of Dog barking",) * 2


def test_one_label_is_asked_for_as_the_source_that_it_is():
    assert prompts_of_labels(["violin"], 2).mixture == "The sound of violin"
    assert prompts_of_labels(["violin", "Violin"], 2).mixture == "The sound of violin"


def test_templates_are_arguments():
    templates = PromptTemplates("only {}", "all of {}")
    assert prompts_of_labels(["a", "b"], 2, templates) == Prompts("all of a and b", ("only a", "only b"), (1.0, 1.0))


@pytest.mark.parametrize("template", ["nothing", "{} and {}", ""])
def test_templates_have_one_place(template: str):
    with pytest.raises(ValueError, match=r"every template of a source has one \{\} for the label"):
        PromptTemplates(source=template)
    with pytest.raises(ValueError, match=r"every template of a mixture has one \{\} for the label"):
        PromptTemplates(mixture=template)
    with pytest.raises(ValueError, match=r"every template of a mixture has one \{\} for the label"):
        mixture_prompt(["a"], template)


def test_nothing_to_make_prompts_from_is_refused():
    with pytest.raises(QueryError, match="there is no label"):
        prompts_of_labels(["", "_"], 2)
    with pytest.raises(QueryError, match="no words"):
        prompts_of_caption(" ", 2)
    with pytest.raises(QueryError, match="at least one name"):
        mixture_prompt([])


@pytest.mark.parametrize("count", [0, -1])
def test_the_number_of_sources_is_positive(count: int):
    with pytest.raises(UsageError, match=f"must be 1 or more, not {count}"):
        prompts_of_labels(["a"], count)
    with pytest.raises(UsageError, match=f"must be 1 or more, not {count}"):
        prompts_of_caption("a dog barks", count)


def test_prompts_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        prompts_of_labels(["a"], 1).mixture = "b"  # type: ignore[misc]
