"""Data streams of a training run: the training mixtures and the validation mixtures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vidaudio.errors import PackError, TooFewSources
from vidaudio.stream.loader import MixtureStream, StreamConfig
from vidaudio.stream.partly_known import PartlyKnownStream
from vidaudio.stream.windows import WindowShape
from vidaudio.tasks.data import weights_of, weights_with_split
from vidaudio.tasks.queries.checks import check_asked_by
from vidaudio.tasks.separation.recipe import SeparationRecipe
from vidaudio.training.base import Data


def streams(recipe: SeparationRecipe, data: Data) -> tuple[MixtureStream, MixtureStream | None]:
    """Return the training stream, and the validation stream or None if no corpus has the validation split.

    Args:
        recipe: Recipe of the run.
        data: A packed corpus, or several with their weights.

    Raises:
        PackError: When `MixtureStream` raises it, a corpus lacks the vectors that the system is asked by, or single
            sounds are to come from a corpus that is trained on.
    """
    block = recipe.data
    weights = weights_of(data)
    shape = WindowShape(
        frames=block.window_frames,
        frame_spacing_seconds=block.frame_spacing_seconds,
        samples=recipe.model.front_end.window_samples,
        max_padding_seconds=block.max_padding_seconds,
    )
    common: dict[str, Any] = {
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
        sources=block.sources * (1 if block.natural else block.mixed),
        different_labels=block.different_labels,
        seed=recipe.seed,
        gain_range=block.gain_range,
        partners=block.partners,
        same_source=block.same_source,
        distant_candidates=block.distant_candidates,
        across_corpora=block.across_corpora,
        use_weights=block.use_weights,
        **common,
    )
    train_stream = _training_stream(recipe, weights, training)
    for corpus in train_stream.corpora if recipe.query.kind == "corpus" else ():
        check_asked_by(recipe.system, recipe.query, corpus)
    having = weights_with_split(train_stream, weights, recipe.validation.split)
    if not having:
        return train_stream, None
    # Single sounds are mixed, or natural mixtures, as many as parts in training.
    asked_apart: dict[str, Any] = {"partners": "uniform", "different_labels": True} if block.different_labels else {}
    config = StreamConfig(
        split=recipe.validation.split, sources=block.sources, shuffle=False, gain_range=None, **asked_apart, **common
    )
    return train_stream, MixtureStream(having, config)


def _training_stream(recipe: SeparationRecipe, weights: dict[str, float], config: StreamConfig) -> MixtureStream:
    block = recipe.data
    if not block.single_share:
        return MixtureStream(weights, config)
    if block.singles is not None and _place(block.singles) in map(_place, weights):
        instead = "Leave data.singles out, and data.single_share sets a share of the sources apart"
        raise PackError(
            f"data.singles names {block.singles}, which is trained on: its sounds would be known in some mixtures and "
            f"not in others. {'Name another corpus' if block.natural else instead}"
        )
    try:
        # A part of a known mixture is one single sound.
        return PartlyKnownStream(
            weights, config, share=block.single_share, known_url=block.singles, known_sources=block.sources
        )
    except TooFewSources as error:
        if block.singles is not None:
            raise
        raise TooFewSources(
            f"{error}. Of the sources, data.single_share={block.single_share:g} are set apart for single sounds; with "
            "few sources, name another corpus of them (data.singles), or set a larger share"
        ) from error


def _place(url: str) -> str:
    return url.rstrip("/") if "://" in url else str(Path(url).resolve())
