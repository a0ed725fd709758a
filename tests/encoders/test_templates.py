"""Templates: whatever passes a recipe's check can be filled with a label."""

from __future__ import annotations

import pytest

from vidaudio.config.recipes import check
from vidaudio.encoders.prompts import MAX_TEMPLATES, fill
from vidaudio.errors import RecipeError
from vidaudio.tasks.queries.blocks import QueryBlock


def test_other_braces_of_a_template_are_text() -> None:
    stated = ["{} {x}", "{} {", "a {} }", "a photo of {}"]
    templates = check(QueryBlock, {"templates": stated, "train_templates": stated}, "a checkpoint").templates
    assert fill(templates, "playing_violin ") == [
        "playing violin {x}",
        "playing violin {",
        "a playing violin }",
        "a photo of playing violin",
    ]


@pytest.mark.parametrize("key", ["templates", "train_templates"])
def test_more_templates_than_anybody_needs_are_refused(key: str) -> None:
    check(QueryBlock, {key: ["a {}"] * MAX_TEMPLATES}, "a checkpoint")
    with pytest.raises(RecipeError, match=r"501 templates, and at most 500 may be stated"):
        check(QueryBlock, {key: ["a {}"] * (MAX_TEMPLATES + 1)}, "a checkpoint")
    with pytest.raises(RecipeError, match=r"every template has one \{\}"):
        check(QueryBlock, {key: ["a {x}"]}, "a checkpoint")
