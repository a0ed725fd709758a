"""Prompts for sounds that hold several sources: one for the mixture, and exactly K for what is in it.

Weakly supervised separation trains on natural mixtures: no source is known, so the estimates for K prompts have to add
up to the mixture. A clip seldom names exactly K sources, so each estimate has a weight in that sum.

Source: Mahmud et al., ICLR 2024. Its templates are the defaults; a caption is split into phrases by rules of our own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from vidaudio.encoders.prompts import check_templates, fill
from vidaudio.errors import QueryError, UsageError
from vidaudio.tasks.queries.phrases import phrases

SOURCE_TEMPLATE = "The sound of {}"
MIXTURE_TEMPLATE = "The sound mixture of {}"


@dataclass(frozen=True, slots=True)
class PromptTemplates:
    """Sentences for sources and for mixtures, each with one {} for the names.

    Raises:
        ValueError: When a template does not have exactly one {}.
    """

    source: str = SOURCE_TEMPLATE
    mixture: str = MIXTURE_TEMPLATE

    def __post_init__(self) -> None:
        """Check the templates."""
        check_templates((self.source,), "template of a source")
        check_templates((self.mixture,), "template of a mixture")


PUBLISHED_TEMPLATES = PromptTemplates()


@dataclass(frozen=True, slots=True)
class Prompts:
    """Prompts of one mixture.

    Attributes:
        mixture: Prompt for everything that is heard.
        sources: Prompts for K parts, which together are everything; a prompt may occur several times.
        weights: Weight of each source's estimate in the sum of all, in (0, 1]: 1 / occurrences of its prompt.
    """

    mixture: str
    sources: tuple[str, ...]
    weights: tuple[float, ...]


def prompts_of_labels(labels: Sequence[str], count: int, templates: PromptTemplates = PUBLISHED_TEMPLATES) -> Prompts:
    """Return the prompts of a clip with these labels, or of a mix of clips that have one of the labels each.

    Underscores become spaces. Labels that are then equal, except for case, count once. If fewer than `count` are left,
    they are repeated in their order; if more, the last ones are joined into one prompt. A clip with one label is asked
    for by the prompt of this source.

    Args:
        labels: Labels of a natural mixture, or the first label of each source of a made mixture.
        count: Number of source prompts, K, 1 or more.
        templates: Sentences for sources and for the mixture.

    Raises:
        QueryError: When no label has a word.
        UsageError: When `count` is less than 1.
    """
    names = _distinct([" ".join(label.replace("_", " ").split()) for label in labels])
    if not names:
        raise QueryError("there is no label to make prompts from; use clips with labels, or their captions")
    sources, weights = _exactly([fill((templates.source,), name)[0] for name in _at_most(names, count)], count)
    mixture = sources[0] if len(names) == 1 else mixture_prompt(names, templates.mixture)
    return Prompts(mixture, sources, weights)


def prompts_of_caption(caption: str, count: int) -> Prompts:
    """Return the prompts of a clip with a caption: the caption for the mixture, its phrases for the sources.

    If there are fewer than `count` phrases, they are repeated in their order; if more, the last ones are joined.

    Args:
        caption: A caption with at least one word.
        count: Number of source prompts, K, 1 or more.

    Raises:
        QueryError: When the caption has no words.
        UsageError: When `count` is less than 1.
    """
    sources, weights = _exactly(_at_most(phrases(caption), count), count)
    return Prompts(" ".join(caption.split()), sources, weights)


def mixture_prompt(names: Sequence[str], template: str = MIXTURE_TEMPLATE) -> str:
    """Return the prompt for a mixture of named sources, as published: "The sound mixture of a and b and c".

    Args:
        names: Names of the sources, one or more.
        template: A sentence with one {}.

    Raises:
        QueryError: When there are no names.
        ValueError: When the template does not have exactly one {}.
    """
    (template,) = check_templates((template,), "template of a mixture")
    if not names:
        raise QueryError("a mixture has at least one name, and there is none")
    return fill((template,), " and ".join(names))[0]


def _joined(names: Sequence[str]) -> str:
    """Return names as a list in words: "a", "a and b", "a, b and c"."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def _distinct(names: Sequence[str]) -> list[str]:
    """Return the names that are not blank, the first of those that differ in case only."""
    found: dict[str, str] = {}
    for name in filter(None, names):
        found.setdefault(name.casefold(), name)
    return list(found.values())


def _at_most(names: Sequence[str], count: int) -> list[str]:
    """Return at most `count` names, the last ones joined into one."""
    if count < 1:
        raise UsageError(f"the number of source prompts must be 1 or more, not {count}")
    return [*names[: count - 1], _joined(names[count - 1 :])] if len(names) > count else list(names)


def _exactly(prompts: Sequence[str], count: int) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """Return `count` prompts, repeated in their order, and 1 / occurrences of each."""
    sources = tuple(prompts[place % len(prompts)] for place in range(count))
    occurrences = Counter(sources)
    return sources, tuple(1 / occurrences[prompt] for prompt in sources)
