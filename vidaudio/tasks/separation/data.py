"""Data streams of a training run: the training mixtures and the validation mixtures."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from vidaudio.encoders.spec import RESNET
from vidaudio.errors import PackError
from vidaudio.stream.loader import MixtureStream, StreamConfig
from vidaudio.stream.packed_corpus import PackedCorpus
from vidaudio.stream.vector_columns import columns_in_words
from vidaudio.stream.windows import WindowShape
from vidaudio.tasks.separation.recipe import SeparationRecipe
from vidaudio.training.base import Data


def streams(recipe: SeparationRecipe, data: Data) -> tuple[MixtureStream, MixtureStream | None]:
    """Return the training stream, and the validation stream or None if no corpus has the validation split.

    Args:
        recipe: Recipe of the run.
        data: A packed corpus, or several with their weights.

    Raises:
        PackError: When `MixtureStream` raises it, or a corpus lacks the vectors that the system is asked by.
    """
    block = recipe.data
    weights = dict(data) if isinstance(data, Mapping) else {os.fspath(data): 1.0}
    shape = WindowShape(
        frames=block.window_frames,
        frame_spacing_seconds=block.frame_spacing_seconds,
        samples=recipe.model.front_end.window_samples,
        max_padding_seconds=block.max_padding_seconds,
    )
    common: dict[str, Any] = {
        "sources": block.sources,
        "shape": shape,
        "batch_size": block.part_size,
        "frames": recipe.query.kind == "pictures",
        "sample_rate": recipe.model.front_end.sample_rate,
        "block_shards": block.block_shards,
        "cache_folder": block.cache_folder,
        "cache_bytes": block.cache_bytes,
        "vectors": block.vectors if recipe.query.kind == "corpus" else (),
    }
    training = StreamConfig(
        split=recipe.split,
        seed=recipe.seed,
        gain_range=block.gain_range,
        partners=block.partners,
        same_source=block.same_source,
        distant_candidates=block.distant_candidates,
        across_corpora=block.across_corpora,
        use_weights=block.use_weights,
        **common,
    )
    train_stream = MixtureStream(weights, training)
    for corpus in train_stream.corpora if recipe.query.kind == "corpus" else ():
        _check_asked_by(recipe, corpus)
    having = {
        corpus.url: weights[corpus.url]
        for corpus in train_stream.corpora
        if recipe.validation.split in corpus.index.splits
    }
    if not having:
        return train_stream, None
    config = StreamConfig(split=recipe.validation.split, shuffle=False, gain_range=None, **common)
    return train_stream, MixtureStream(having, config)


def _check_asked_by(recipe: SeparationRecipe, corpus: PackedCorpus) -> None:
    """Refuse vectors that are no pictures', or not of the wanted kind of encoder if the pack has such vectors too."""
    (given,), wants_resnet = corpus.vectors, recipe.query.encoder == RESNET
    fitting = [
        column.encoder
        for column in corpus.index.vectors
        if column.input == "frames" and str(column.fingerprint.get("architecture")).startswith(RESNET) == wants_resnet
    ]
    if given.encoder in fitting or (given.input == "frames" and not fitting):
        return  # another kind of encoder is refused where queries are made
    remedy = f"name it: --set data.vectors={fitting[0]}" if fitting else "pack those of pictures, too (pack.vectors)"
    raise PackError(
        f"{recipe.system} is asked by the vectors of pictures of a {recipe.query.encoder}, and not by those of "
        f"{given.encoder} ({given.input}); {corpus.url} holds those of {columns_in_words(corpus.index.vectors)}: "
        f"{remedy}"
    )
