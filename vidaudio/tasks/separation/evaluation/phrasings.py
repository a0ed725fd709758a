"""Phrasings: the same sound requested in other words, to measure the effect of the words (CLIPSep, appendix G).

A list of phrasings is a YAML file. Each entry has a name, and sentences whose mean embedding is the query.
"""

from __future__ import annotations

from pathlib import Path

import torch
from pydantic import field_validator
from torch import Tensor

from vidaudio.config.recipes import RecipeModel, check, load_values
from vidaudio.encoders.prompts import check_templates, fill
from vidaudio.errors import QueryError
from vidaudio.tasks.queries.encoders import QueryEncoder
from vidaudio.tasks.separation.recipe import SeparationRecipe

PHRASING_FOLDER = "manifests/phrasings"


class Phrasing(RecipeModel):
    """One phrasing of a query: a name for the table, and sentences with a {} for the label."""

    name: str
    sentences: tuple[str, ...]

    @field_validator("sentences")
    @classmethod
    def _have_a_place(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return check_templates(value, "sentence")


class PhrasingList(RecipeModel):
    """List of phrasings in a YAML file; the names are unique."""

    phrasings: tuple[Phrasing, ...]

    @field_validator("phrasings")
    @classmethod
    def _have_names(cls, value: tuple[Phrasing, ...]) -> tuple[Phrasing, ...]:
        if len({phrasing.name for phrasing in value}) < len(value):
            raise ValueError("two phrasings have one name")
        return value


def load_phrasings(name: str) -> tuple[Phrasing, ...]:
    """Read phrasings by name (`default`) or from a YAML file.

    Raises:
        RecipeError: When the list does not exist, or one of its keys or sentences is invalid.
    """
    values = load_values(name, PHRASING_FOLDER)
    return check(PhrasingList, values, f"phrasings {Path(name).name}").phrasings


def plain_words(recipe: SeparationRecipe) -> SeparationRecipe:
    """Return the recipe with the text template `{}`, so that whole sentences can be queries."""
    return recipe.model_copy(update={"query": recipe.query.model_copy(update={"templates": ("{}",)})})


def phrased_query(maker: QueryEncoder, phrasing: Phrasing, label: str) -> Tensor:
    """Return the mean of the sentences' queries; `maker` must use the text template `{}`.

    Raises:
        QueryError: When the system knows only labels.
    """
    if maker.labels:
        raise QueryError("this system knows labels and no sentences; it cannot be asked in other words")
    return torch.stack([maker.encode_text(sentence) for sentence in fill(phrasing.sentences, label)]).mean(dim=0)
