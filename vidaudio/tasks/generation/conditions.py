"""Encoder of a generator's conditions: the corpus's CLIP, a CLAP, or a table of vectors."""

from __future__ import annotations

from typing import Any

from vidaudio.tasks.generation.recipe import GenerationRecipe
from vidaudio.tasks.queries.checks import check_vectors
from vidaudio.tasks.queries.clap_queries import ClapQueries
from vidaudio.tasks.queries.encoders import CorpusQueries, QueryEncoder
from vidaudio.tasks.queries.vector_table import table_queries


def condition_encoder(
    recipe: GenerationRecipe, encoder: dict[str, Any] | None, weights: str | None = None, *, trained: bool = False
) -> QueryEncoder:
    """Return the encoder of a recipe's conditions.

    Args:
        recipe: Recipe of the generator.
        encoder: Fingerprint of an encoder: in training the corpus's, afterwards the one recorded with the generator.
        weights: Place of the encoder on this machine; None for the recorded place.
        trained: Whether the generator is trained already, so that `encoder` is the encoder it was trained with.

    Raises:
        PackError: When the corpus's vectors do not suit the recipe.
        EncoderError: When an encoder cannot be loaded, or differs from the one in training.
    """
    if recipe.query.kind == "clap":
        return ClapQueries(recipe.query, recipe.model.mel.sample_rate, encoder if trained else None, weights)
    if recipe.query.kind == "vectors":
        return table_queries(recipe.query, encoder if trained else None, weights)
    assert encoder is not None, "packs without vectors are refused"
    check_vectors(recipe.query, encoder)
    return CorpusQueries(encoder, recipe.query, weights)
