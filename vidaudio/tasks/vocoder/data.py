"""Data streams of a vocoder's run: windows of sound alone. Vectors are not read, so packs without any do too."""

from __future__ import annotations

from typing import Any

from vidaudio.stream.loader import MixtureStream, StreamConfig
from vidaudio.stream.windows import WindowShape
from vidaudio.tasks.data import weights_of, weights_with_split
from vidaudio.tasks.vocoder.recipe import VocoderRecipe
from vidaudio.training.base import Data


def streams(recipe: VocoderRecipe, data: Data) -> tuple[MixtureStream, MixtureStream | None]:
    """Return the training stream, and the validation stream or None if no corpus has the validation split.

    Args:
        recipe: Recipe of the run.
        data: A packed corpus, or several with their weights.

    Raises:
        PackError: When `MixtureStream` raises it.
    """
    block = recipe.data
    weights = weights_of(data)
    common: dict[str, Any] = {
        "sources": 1,
        "shape": WindowShape(
            frames=1,
            frame_spacing_seconds=block.frame_spacing_seconds,
            samples=recipe.window_samples,
            max_padding_seconds=block.max_padding_seconds,
        ),
        "batch_size": block.part_size,
        "sample_rate": recipe.model.mel.sample_rate,
        "block_shards": block.block_shards,
        "cache_folder": block.cache_folder,
        "cache_bytes": block.cache_bytes,
        "vectors": (),
    }
    config = StreamConfig(
        split=recipe.split, seed=recipe.seed, use_weights=block.use_weights, gain_range=block.gain_range, **common
    )
    train_stream = MixtureStream(weights, config)
    having = weights_with_split(train_stream, weights, recipe.validation.split)
    if not having:
        return train_stream, None
    validation = StreamConfig(split=recipe.validation.split, shuffle=False, gain_range=None, **common)
    return train_stream, MixtureStream(having, validation)
