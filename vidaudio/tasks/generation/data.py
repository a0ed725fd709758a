"""Data streams of a generator's run: single windows of sound, and the vectors of what is seen in their middle."""

from __future__ import annotations

from typing import Any

from vidaudio.errors import PackError
from vidaudio.stream.loader import MixtureStream, StreamConfig
from vidaudio.stream.windows import WindowShape
from vidaudio.tasks.data import weights_of, weights_with_split
from vidaudio.tasks.generation.recipe import GenerationRecipe
from vidaudio.tasks.queries.checks import check_asked_by
from vidaudio.training.base import Data


def streams(recipe: GenerationRecipe, data: Data) -> tuple[MixtureStream, MixtureStream | None]:
    """Return the training stream, and the validation stream or None if no corpus has the validation split.

    Args:
        recipe: Recipe of the run.
        data: A packed corpus, or several with their weights.

    Raises:
        PackError: When `MixtureStream` raises it, or a corpus has no vectors of pictures by CLIP.
    """
    weights, common = weights_of(data), _common_settings(recipe)
    block = recipe.data
    config = StreamConfig(split=recipe.split, seed=recipe.seed, use_weights=block.use_weights, **common)
    train_stream = MixtureStream(weights, config)
    for corpus in train_stream.corpora if recipe.query.kind == "corpus" else ():
        if not corpus.vectors:
            raise PackError(f"{corpus.url} holds sounds without pictures, so no vectors to generate from")
        check_asked_by(recipe.system, recipe.query, corpus)
    having = weights_with_split(train_stream, weights, recipe.validation.split)
    if not having:
        return train_stream, None
    return train_stream, MixtureStream(having, StreamConfig(split=recipe.validation.split, shuffle=False, **common))


def ordered_windows(recipe: GenerationRecipe, url: str, split: str, batch_size: int) -> MixtureStream:
    """Return the middle windows of a split's clips, one after another, as a validation sees them.

    Raises:
        PackError: When there is no such split, or its clips do not fit the recipe.
    """
    common = _common_settings(recipe) | {"batch_size": batch_size}
    return MixtureStream({url: 1.0}, StreamConfig(split=split, shuffle=False, **common))


def _common_settings(recipe: GenerationRecipe) -> dict[str, Any]:
    block = recipe.data
    shape = WindowShape(
        frames=block.window_frames,
        frame_spacing_seconds=block.frame_spacing_seconds,
        samples=recipe.samples,
        max_padding_seconds=block.max_padding_seconds,
    )
    return {
        "sources": 1,
        "shape": shape,
        "batch_size": block.part_size,
        "gain_range": None,
        "sample_rate": recipe.model.mel.sample_rate,
        "block_shards": block.block_shards,
        "cache_folder": block.cache_folder,
        "cache_bytes": block.cache_bytes,
        "vectors": block.vectors if recipe.query.kind == "corpus" else (),
    }
