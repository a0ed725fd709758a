"""Data streams of a generator's run: single windows of sound, and the vectors of what is seen in their middle."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from vidaudio.stream.loader import MixtureStream, StreamConfig
from vidaudio.stream.windows import WindowShape
from vidaudio.tasks.generation.recipe import GenerationRecipe
from vidaudio.training.base import Data


def streams(recipe: GenerationRecipe, data: Data) -> tuple[MixtureStream, MixtureStream | None]:
    """Return the training stream, and the validation stream or None if no corpus has the validation split.

    Args:
        recipe: Recipe of the run.
        data: A packed corpus, or several with their weights.

    Raises:
        PackError: When `MixtureStream` raises it.
    """
    block = recipe.data
    weights = dict(data) if isinstance(data, Mapping) else {os.fspath(data): 1.0}
    shape = WindowShape(
        frames=block.window_frames,
        frame_spacing_seconds=block.frame_spacing_seconds,
        samples=recipe.samples,
        max_padding_seconds=block.max_padding_seconds,
    )
    common: dict[str, Any] = {
        "sources": 1,
        "shape": shape,
        "batch_size": block.part_size,
        "gain_range": None,
        "sample_rate": recipe.model.mel.sample_rate,
        "block_shards": block.block_shards,
        "cache_folder": block.cache_folder,
        "cache_bytes": block.cache_bytes,
        "vectors": block.vectors,
    }
    config = StreamConfig(split=recipe.split, seed=recipe.seed, use_weights=block.use_weights, **common)
    train_stream = MixtureStream(weights, config)
    having = {
        corpus.url: weights[corpus.url]
        for corpus in train_stream.corpora
        if recipe.validation.split in corpus.index.splits
    }
    if not having:
        return train_stream, None
    return train_stream, MixtureStream(having, StreamConfig(split=recipe.validation.split, shuffle=False, **common))
