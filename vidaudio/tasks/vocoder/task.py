"""Vocoders as a family of the training engine: data and networks of one run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from vidaudio.generation import Vocoder
from vidaudio.stream.loader import MixtureStream
from vidaudio.tasks.data import indexes, shares
from vidaudio.tasks.vocoder.checkpoint import transfer_weights
from vidaudio.tasks.vocoder.data import streams
from vidaudio.tasks.vocoder.module import VocoderModule
from vidaudio.tasks.vocoder.recipe import VocoderRecipe, check_vocoder
from vidaudio.tasks.vocoder.validation_samples import log_samples
from vidaudio.training.base import Data, TrainingModule, TrainingTask
from vidaudio.training.log_writers import LogWriter
from vidaudio.training.provenance import sources_of


class VocoderTask(TrainingTask):
    """One run of a vocoder.

    Args:
        recipe: Recipe of the run.
        train_stream: Training windows.
        validation_stream: Validation windows; None for no validation.
        data_shares: Share of each corpus in the windows.
    """

    recipe_type = VocoderRecipe
    example = "sound"
    best_number = "validation/mel_l1"
    model_settings = ("system", "model")
    order_settings = (
        "seed",
        "split",
        "data.batch_size",
        "data.use_weights",
        "data.block_shards",
        "data.frame_spacing_seconds",
        "data.max_padding_seconds",
        "data.window_seconds",
        "data.segment_samples",
        "data.gain_range",
    )
    recipe: VocoderRecipe

    def __init__(
        self,
        recipe: VocoderRecipe,
        train_stream: MixtureStream,
        validation_stream: MixtureStream | None,
        data_shares: Sequence[float],
    ) -> None:
        self.recipe = recipe
        self.train_stream = train_stream
        self.validation_stream = validation_stream
        self.data_shares = data_shares

    @classmethod
    def check_recipe(cls, recipe: VocoderRecipe, where: str) -> None:
        """Check that the parts of a recipe fit together."""
        check_vocoder(recipe, where)

    @classmethod
    def open(
        cls, recipe: VocoderRecipe, data: Data, *, recorded: Mapping[str, Any] | None, encoder_weights: str | None
    ) -> VocoderTask:
        """Open the data of a run; a vocoder has no encoder."""
        return cls(recipe, *streams(recipe, data), shares(data))

    def facts(self) -> dict[str, Any]:
        """Return nothing beyond the recipe, which describes a vocoder wholly."""
        return {}

    def prepare(self, folder: Path) -> Iterator[str]:
        """Compute nothing; yield a warning if windows have another length than the recipe says."""
        mel = self.recipe.model.mel.config()
        seconds = mel.seconds(self.recipe.window_frames)
        if abs(seconds - self.recipe.data.window_seconds) > 0.01:
            yield f"windows have {seconds:.3f} s, the whole number of hops nearest to data.window_seconds"

    def make_module(self) -> VocoderModule:
        """Return the vocoder and its discriminators with initial weights."""
        model = Vocoder(self.recipe.model.vocoder())
        return VocoderModule(model, self.recipe, self.train_stream, self.validation_stream)

    def initialise(self, module: TrainingModule) -> dict[str, Any] | None:
        """Load the generator's weights of another run or of a published vocoder, if the recipe begins with them."""
        if self.recipe.init_from is None:
            return None
        return transfer_weights(cast(Vocoder, module.model), self.recipe.init_from)

    def training_sources(self) -> np.ndarray:
        """Return hashes of all sources of the corpora."""
        return np.unique(np.concatenate([sources_of(index) for index in indexes(self.train_stream)]))

    def log_samples(self, module: TrainingModule, writers: Sequence[LogWriter], step: int) -> None:
        """Log the first validation windows and their copies through the vocoder."""
        log_samples(cast(VocoderModule, module), writers, step)
