"""Construction of a recipe's query encoder, checked against the vectors of the corpus."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vidaudio.encoders.joint import ClapJoint
from vidaudio.errors import PackError
from vidaudio.separation import RankedSeparator, Separator
from vidaudio.tasks.queries.checks import check_vectors
from vidaudio.tasks.queries.clap_queries import ClapQueries
from vidaudio.tasks.queries.encoders import (
    BertQueries,
    CorpusQueries,
    FrozenPictureQueries,
    LabelQueries,
    NoQueries,
    PictureQueries,
    QueryEncoder,
)
from vidaudio.tasks.queries.trained_encoder import warn_unused_encoder
from vidaudio.tasks.queries.vector_table import table_queries
from vidaudio.tasks.separation.recipe import SeparationRecipe


def make_query_encoder(
    recipe: SeparationRecipe,
    *,
    encoder: dict[str, Any] | None,
    labels: Sequence[str] = (),
    weights: str | None = None,
    trained: bool = False,
) -> QueryEncoder:
    """Return the query encoder of a recipe.

    Args:
        recipe: Recipe of the system.
        encoder: Fingerprint of an encoder: in training the corpus's, afterwards the one recorded with the model.
        labels: Labels of the training split, or those recorded with the model.
        weights: Place of the encoder on this machine; None for the recorded place.
        trained: Whether the model is trained already, so that `encoder` is the encoder it was trained with.

    Raises:
        PackError: When the corpus's vectors or labels do not suit the recipe.
        EncoderError: When an encoder cannot be loaded, or differs from the one in training.
    """
    query = recipe.query
    recorded = encoder if trained else None
    own = query.kind == "pictures" and query.pictures.trained and trained
    if weights is not None and (own or query.kind in ("label", "none")):
        warn_unused_encoder(weights, recipe.system)
    if query.kind == "corpus":
        assert encoder is not None, "vectors of a corpus have an encoder"
        check_vectors(query, encoder)
        return CorpusQueries(encoder, query, weights)
    if query.kind == "label":
        if not labels:
            raise PackError("the system learns a vector a label, and no clip of the training split has a label")
        return LabelQueries(labels, query.label_dimensions)
    if query.kind == "bert":
        return BertQueries(query, recorded, weights)
    if query.kind == "clap":
        rate, with_states = recipe.model.front_end.sample_rate, recipe.model.condition is not None
        return ClapQueries(query, rate, recorded, weights, with_states=with_states)
    if query.kind == "vectors":
        return table_queries(query, recorded, weights)
    if query.kind == "pictures":
        return PictureQueries() if query.pictures.trained else FrozenPictureQueries(query, recorded, weights)
    return NoQueries()


def attach_ranker(model: Separator, maker: QueryEncoder) -> None:
    """Give a system whose heads are ranked the encoder of its queries; nothing for other systems."""
    if isinstance(model, RankedSeparator) and isinstance(maker, ClapQueries):
        model.rank_by(ClapJoint(maker.clap).to(next(model.parameters()).device))
