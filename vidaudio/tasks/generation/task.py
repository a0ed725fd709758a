"""Generation as a family of the training engine: data, conditions and network of one run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from vidaudio.errors import CheckpointError, PackError
from vidaudio.generation import Denoiser
from vidaudio.modality_gap import GapMethod, save_method
from vidaudio.stream.loader import MixtureStream
from vidaudio.tasks.data import indexes, shares
from vidaudio.tasks.generation.checkpoint import transfer_weights
from vidaudio.tasks.generation.conditions import condition_encoder
from vidaudio.tasks.generation.data import streams
from vidaudio.tasks.generation.module import TRAIN, VALIDATION, GenerationModule
from vidaudio.tasks.generation.recipe import GenerationRecipe, check_generator
from vidaudio.tasks.generation.validation_samples import ValidationSamples
from vidaudio.tasks.queries.encoders import QueryEncoder
from vidaudio.tasks.queries.gap import fitted_gap, method_file
from vidaudio.tasks.queries.text_queries import TextTable, text_table
from vidaudio.training.base import Data, TrainingModule, TrainingTask
from vidaudio.training.log_writers import LogWriter
from vidaudio.training.provenance import sources_of


class GenerationTask(TrainingTask):
    """One run of a generator.

    Args:
        recipe: Recipe of the run.
        train_stream: Training windows.
        validation_stream: Validation windows; None for no validation.
        data_shares: Share of each corpus in the windows.
        queries: Encoder of the conditions.
    """

    recipe_type = GenerationRecipe
    example = "sound"
    model_settings = (
        "system",
        "model",
        "query.kind",
        "query.encoder",
        "query.gap.train",
    )
    order_settings = (
        "seed",
        "split",
        "data.batch_size",
        "data.use_weights",
        "data.block_shards",
        "data.window_frames",
        "data.frame_spacing_seconds",
        "data.max_padding_seconds",
        "data.window_seconds",
    )
    recipe: GenerationRecipe

    def __init__(
        self,
        recipe: GenerationRecipe,
        train_stream: MixtureStream,
        validation_stream: MixtureStream | None,
        data_shares: Sequence[float],
        queries: QueryEncoder,
    ) -> None:
        self.recipe = recipe
        self.train_stream = train_stream
        self.validation_stream = validation_stream
        self.data_shares = data_shares
        self.queries = queries
        self._text: dict[str, TextTable] = {}
        self._samples = ValidationSamples(recipe.validation.shown)

    @property
    def _encoder(self) -> dict[str, Any]:
        assert self.queries.encoder is not None, "conditions have an encoder"
        return self.queries.encoder

    @classmethod
    def check_recipe(cls, recipe: GenerationRecipe, where: str) -> None:
        """Check that the parts of a recipe fit together, and that they match the system that it names."""
        check_generator(recipe, where)

    @classmethod
    def open(
        cls,
        recipe: GenerationRecipe,
        data: Data,
        *,
        recorded: Mapping[str, Any] | None,
        encoder_weights: str | None,
    ) -> GenerationTask:
        """Open the data of a run, and the encoder of its conditions."""
        train_stream, validation_stream = streams(recipe, data)
        queries = condition_encoder(recipe, train_stream.encoder, encoder_weights)
        return cls(recipe, train_stream, validation_stream, shares(data), queries)

    def facts(self) -> dict[str, Any]:
        """Return the encoder of the conditions, and its dimensions."""
        return {"query_dimensions": self.queries.dimensions, "encoder": self.queries.encoder}

    def check_recorded(self, recorded: Mapping[str, Any], run: str) -> None:
        """Check that the run was trained on vectors of this task's encoder."""
        before, now = recorded.get("encoder") or {}, self._encoder
        if before.get("weights_sha256") != now["weights_sha256"]:
            raise CheckpointError(
                f"{run} was trained on vectors of {before.get('architecture')}, and those of this run are of "
                f"{now['architecture']}: vectors of two encoders do not mix"
            )

    def prepare(self, folder: Path) -> Iterator[str]:
        """Fit the methods against the modality gap, compute the text queries of the splits; yield warnings."""
        data, query = self.recipe.data, self.recipe.query
        self.queries.gap = fitted_gap(
            query.gap,
            self.queries,
            indexes(self.train_stream),
            folder,
            vectors=data.vectors,
            window_frames=data.window_frames,
            seed=self.recipe.seed,
        )
        if query.train == "text":
            self._text[TRAIN] = text_table(indexes(self.train_stream), self.queries, training=True)
            if self.validation_stream is not None:
                self._text[VALIDATION] = text_table(indexes(self.validation_stream), self.queries)
        for name, table in self._text.items():
            if table.missing:
                missing = f"{table.missing} of {len(table.of_row)} clips of the {name} split have no label"
                if query.unlabelled == "refuse":
                    raise PackError(f"{missing}; train without a condition on them with --set query.unlabelled=skip")
                yield f"{missing}: the generator hears them without a condition"
        seconds = self.recipe.model.mel.config().seconds(self.recipe.frames)
        if abs(seconds - data.window_seconds) > 0.01:
            yield f"windows have {seconds:.3f} s, the length nearest to data.window_seconds that fits the U-Net"

    def save_beside(self, folder: Path) -> None:
        """Write the methods against the modality gap, through which the generator is asked."""
        for method in (self.queries.gap.train, self.queries.gap.ask):
            if isinstance(method, GapMethod):
                save_method(method, method_file(folder, method.name))

    def make_module(self) -> GenerationModule:
        """Return the generator with initial weights."""
        model = Denoiser(self.recipe.denoiser(self.queries.dimensions))
        return GenerationModule(model, self.recipe, self.train_stream, self.validation_stream, self.queries, self._text)

    def initialise(self, module: TrainingModule) -> dict[str, Any] | None:
        """Load the weights of another run, if the recipe begins with them."""
        if self.recipe.init_from is None:
            return None
        return transfer_weights(cast(Denoiser, module.model), self.recipe.init_from, self._encoder)

    def training_sources(self) -> np.ndarray:
        """Return hashes of all sources of the corpora."""
        return np.unique(np.concatenate([sources_of(index) for index in indexes(self.train_stream)]))

    def log_samples(self, module: TrainingModule, writers: Sequence[LogWriter], step: int) -> None:
        """Log sounds and mels that are generated from what the first validation windows show."""
        self._samples.log(cast(GenerationModule, module), writers, step)
