"""Phrasings: one and the same sound asked for in other words, to see how much the words matter (CLIPSep, appendix G).

A list of phrasings is a YAML file: a name, and the sentences whose mean embedding is the query.
"""

from __future__ import annotations

from pathlib import Path

import torch
from pydantic import field_validator
from torch import Tensor

from vidaudio.config.recipes import RecipeModel, check, load_values
from vidaudio.encoders.prompts import check_templates, fill
from vidaudio.errors import QueryError
from vidaudio.tasks.separation.queries import QueryEncoder
from vidaudio.tasks.separation.recipe import TrainRecipe

PHRASING_FOLDER = "manifests/phrasings"


class Phrasing(RecipeModel):
    """One way to ask: a name for the table, and sentences with a {} for the label."""

    name: str
    sentences: tuple[str, ...]

    @field_validator("sentences")
    @classmethod
    def _have_a_place(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return check_templates(value, "sentence")


class PhrasingList(RecipeModel):
    phrasings: tuple[Phrasing, ...]

    @field_validator("phrasings")
    @classmethod
    def _have_names(cls, value: tuple[Phrasing, ...]) -> tuple[Phrasing, ...]:
        if len({phrasing.name for phrasing in value}) < len(value):
            raise ValueError("two phrasings have one name")
        return value


def load_phrasings(name: str) -> tuple[Phrasing, ...]:
    """Phrasings by name (`default`) or from a YAML file.

    Raises:
        RecipeError: There is none, or a key or sentence of it is wrong.
    """
    values = load_values(name, PHRASING_FOLDER)
    return check(PhrasingList, values, f"phrasings {Path(name).name}").phrasings


def plain_words(recipe: TrainRecipe) -> TrainRecipe:
    """The recipe with words taken as they come, so that sentences can be asked."""
    return recipe.model_copy(update={"query": recipe.query.model_copy(update={"templates": ("{}",)})})


def phrased_query(maker: QueryEncoder, phrasing: Phrasing, label: str) -> Tensor:
    """Mean of the sentences' queries; `maker` takes words as they come.

    Raises:
        QueryError: The system knows labels only.
    """
    if maker.labels:
        raise QueryError("this system knows labels and no sentences; it cannot be asked in other words")
    return torch.stack([maker.encode_text(sentence) for sentence in fill(phrasing.sentences, label)]).mean(dim=0)
