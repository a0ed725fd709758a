"""Separation as a family of the training engine: data, queries and model of one run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np

from vidaudio.encoders.joint import ClapJoint, JointEncoder, load_joint
from vidaudio.errors import CheckpointError, EncoderError, PackError
from vidaudio.modality_gap import GapMethod, save_method
from vidaudio.separation import headline_figures
from vidaudio.separation.pictures import PictureQuery
from vidaudio.stream.loader import MixtureStream
from vidaudio.tasks.data import indexes, shares
from vidaudio.tasks.queries.clap_queries import ClapQueries
from vidaudio.tasks.queries.encoders import QueryEncoder
from vidaudio.tasks.queries.gap import fitted_gap, method_file
from vidaudio.tasks.queries.query_gap import QueryGap
from vidaudio.tasks.queries.text_queries import TextTable, first_labels, text_table
from vidaudio.tasks.queries.trained_encoder import encoder_spec
from vidaudio.tasks.separation.checkpoint import build_model
from vidaudio.tasks.separation.data import streams
from vidaudio.tasks.separation.finetune import transfer_weights
from vidaudio.tasks.separation.module import TRAIN, VALIDATION, SeparationModule
from vidaudio.tasks.separation.parts_module import PartsModule
from vidaudio.tasks.separation.prompt_table import PromptTable
from vidaudio.tasks.separation.query_factory import make_query_encoder
from vidaudio.tasks.separation.recipe import SeparationRecipe
from vidaudio.tasks.separation.systems import check_system
from vidaudio.tasks.separation.validation_samples import ValidationSamples
from vidaudio.tasks.separation.window_length import other_length
from vidaudio.training.base import Data, TrainingModule, TrainingTask
from vidaudio.training.checkpoint import SOURCES_TENSOR, read_checkpoint
from vidaudio.training.log_writers import LogWriter
from vidaudio.training.provenance import sources_of


class SeparationTask(TrainingTask):
    """One run of a separation system.

    Args:
        recipe: Recipe of the run.
        train_stream: Training mixtures.
        validation_stream: Validation mixtures; None for no validation.
        data_shares: Share of each corpus in the mixtures.
        query_encoder: Encoder of the system's queries.
        encoder_weights: Place of the encoder's weights on this machine; None for the recorded place.
    """

    recipe_type = SeparationRecipe
    example = "mixture"
    model_settings = (
        "system",
        "model",
        "data.sources",
        "query.kind",
        "query.encoder",
        "query.label_dimensions",
        "query.pictures.trained",
        "query.bert.pooling",
        "query.gap.train",
        "objective.kind",
        "loss.kind",
    )
    starting_steps = ("model.noise.start_step",)
    order_settings = (
        "seed",
        "split",
        "data.batch_size",
        "data.mixed",
        "data.natural",
        "data.single_share",
        "data.singles",
        "data.different_labels",
        "data.partners",
        "data.same_source",
        "data.distant_candidates",
        "data.across_corpora",
        "data.use_weights",
        "data.block_shards",
        "data.window_frames",
        "data.frame_spacing_seconds",
        "data.max_padding_seconds",
        "data.gain_range",
    )
    recipe: SeparationRecipe

    def __init__(
        self,
        recipe: SeparationRecipe,
        train_stream: MixtureStream,
        validation_stream: MixtureStream | None,
        data_shares: Sequence[float],
        query_encoder: QueryEncoder,
        encoder_weights: str | None = None,
    ) -> None:
        self.recipe = recipe
        self.train_stream = train_stream
        self.validation_stream = validation_stream
        self.data_shares = data_shares
        self.query_encoder = query_encoder
        self._encoder_weights = encoder_weights
        self._text: dict[str, TextTable] = {}
        self._prompts: dict[str, PromptTable] = {}
        self._samples = ValidationSamples(recipe.validation.shown)

    @classmethod
    def check_recipe(cls, recipe: SeparationRecipe, where: str) -> None:
        """Check that the parts of a recipe fit together, and that they match the system that it names."""
        check_system(recipe, where)

    @classmethod
    def open(
        cls,
        recipe: SeparationRecipe,
        data: Data,
        *,
        recorded: Mapping[str, Any] | None,
        encoder_weights: str | None,
    ) -> SeparationTask:
        """Open the data of a run, and the encoder of its queries."""
        train_stream, validation_stream = streams(recipe, data)
        labels: tuple[str, ...] = ()
        if recipe.query.kind == "label":
            # A system of labels learns those of the training split, or those of the run that it continues.
            labels = first_labels(indexes(train_stream)) if recorded is None else tuple(recorded.get("labels", ()))
        query_encoder = make_query_encoder(recipe, encoder=train_stream.encoder, labels=labels, weights=encoder_weights)
        return cls(recipe, train_stream, validation_stream, shares(data), query_encoder, encoder_weights)

    def facts(self) -> dict[str, Any]:
        """Return the encoder of the queries, its dimensions, the labels, and the encoder of sound and text."""
        return {
            "query_dimensions": self.query_encoder.dimensions,
            "state_dimensions": self.query_encoder.state_dimensions,
            "encoder": self.query_encoder.encoder,
            "labels": list(self.query_encoder.labels),
            "joint": None if self._joint is None else self._joint.fingerprint,
        }

    def check_recorded(self, recorded: Mapping[str, Any], run: str) -> None:
        """Check that the run was trained on vectors of this task's encoder."""
        before, encoder = recorded.get("encoder"), self.query_encoder.encoder
        if (before or {}).get("weights_sha256") != (encoder or {}).get("weights_sha256"):
            raise CheckpointError(f"{run} was trained on vectors of another encoder than this corpus holds")
        joint = None if self._joint is None else self._joint.fingerprint
        recorded_joint = recorded.get("joint", joint)
        # As of the queries' encoder, weights count: their place may be another one.
        if (recorded_joint or {}).get("weights_sha256") != (joint or {}).get("weights_sha256"):
            raise CheckpointError(
                f"{run} was trained with another encoder of sound and text than objective.joint names"
            )

    def prepare(self, folder: Path) -> Iterator[str]:
        """Fit the methods against the modality gap, compute the text queries of the splits; yield warnings."""
        self.query_encoder.gap = self._fitted_gap(folder)
        if self.recipe.objective.kind == "parts":
            self._prompts = self._prompt_tables()
            yield from self._warn_of_missing()
        elif self.recipe.objective.kind == "sources":
            self._text = self._text_tables()
        for name, table in self._text.items():
            if not table.missing or (name == TRAIN and self.recipe.query.train == "image"):
                continue
            missing = f"{table.missing} of {len(table.of_row)} clips of the {name} split"
            if self.recipe.query.unlabelled == "refuse":
                raise PackError(
                    f"{missing} have no label that the system knows; leave their mixtures out with "
                    "--set query.unlabelled=skip, or pack only clips with labels"
                )
            have = "has" if table.missing == 1 else "have"
            yield f"{missing} {have} no label that the system knows: mixtures with one of them are left out"
        longer = other_length(self.recipe.model.front_end, self.recipe.data.window_seconds)
        if longer is not None:
            yield longer

    def _prompt_tables(self) -> dict[str, PromptTable]:
        query, streams = self.recipe.query, {TRAIN: self.train_stream, VALIDATION: self.validation_stream}
        templates = {TRAIN: query.train_templates[0], VALIDATION: query.templates[0]}
        return {
            name: PromptTable(
                indexes(stream), templates[name], query.mixture_template, natural=self.recipe.data.natural
            )
            for name, stream in streams.items()
            if stream is not None
        }

    def _warn_of_missing(self) -> Iterator[str]:
        streams = {TRAIN: self.train_stream, VALIDATION: self.validation_stream}
        for name, table in self._prompts.items():
            stream = streams[name]
            if not table.missing or stream is None:
                continue
            missing = f"{table.missing} of {table.clips} clips of the {name} split have neither caption nor label"
            if self.recipe.query.unlabelled == "refuse":
                raise PackError(f"{missing}; leave their mixtures out with --set query.unlabelled=skip")
            # Clips are drawn about equally often, so a mixture is complete with this chance.
            count = stream.config.sources
            left_out = 1 - (1 - table.missing / table.clips) ** count
            yield f"{missing}: mixtures with one of them are left out, about {100 * left_out:.0f} % of all"

    def _text_tables(self) -> dict[str, TextTable]:
        if "text" not in self.query_encoder.modalities:
            return {}
        tables = {}
        if self.recipe.query.train in ("text", "alternate") or self.recipe.query.gap.train == "mixup":
            tables[TRAIN] = text_table(indexes(self.train_stream), self.query_encoder, training=True)
        if self.validation_stream is not None and self.recipe.query.validation == "text":
            tables[VALIDATION] = text_table(indexes(self.validation_stream), self.query_encoder)
        return tables

    def _fitted_gap(self, folder: Path) -> QueryGap:
        data = self.recipe.data
        return fitted_gap(
            self.recipe.query.gap,
            self.query_encoder,
            indexes(self.train_stream),
            folder,
            vectors=data.vectors,
            window_frames=data.window_frames,
            seed=self.recipe.seed,
        )

    def save_beside(self, folder: Path) -> None:
        """Write the methods against the modality gap, through which the system is asked."""
        for method in (self.query_encoder.gap.train, self.query_encoder.gap.ask):
            if isinstance(method, GapMethod):
                save_method(method, method_file(folder, method.name))

    def make_module(self) -> SeparationModule:
        """Return the system with initial weights."""
        encoder = self.query_encoder
        model = build_model(self.recipe, encoder.dimensions, len(encoder.labels), encoder.state_dimensions)
        if self.recipe.objective.kind != "sources":
            return PartsModule(
                model,
                self.recipe,
                self.train_stream,
                self.validation_stream,
                self.query_encoder,
                self._prompts,
                self._joint,
                self._held_out_joint(),
            )
        return SeparationModule(
            model, self.recipe, self.train_stream, self.validation_stream, self.query_encoder, self._text
        )

    @cached_property
    def _joint(self) -> JointEncoder | None:
        """Return the encoder whose contrast is learned from, or is only measured; None if the recipe needs none."""
        objective, encoder = self.recipe.objective, self.query_encoder
        if objective.kind != "parts" or not (objective.contrast or objective.held_out_joint):
            return None
        if objective.joint is not None:
            return self._joint_at(objective.joint)
        assert isinstance(encoder, ClapQueries), "see `check_objective`"
        return ClapJoint(encoder.clap)

    def _held_out_joint(self) -> JointEncoder | None:
        place = self.recipe.objective.held_out_joint
        if place is None:
            return None
        found = self._joint_at(place)
        if self._joint is not None and found.fingerprint["weights_sha256"] == self._joint.fingerprint["weights_sha256"]:
            raise EncoderError(
                f"objective.held_out_joint names {place}, the encoder that measures already (objective.joint, or the "
                "queries' own): its opinion says nothing new. Name another one, or leave it out"
            )
        return found

    def _joint_at(self, place: str) -> JointEncoder:
        encoder = self.query_encoder.encoder
        clip = (
            encoder_spec(encoder, self._encoder_weights)
            if self.recipe.query.kind == "corpus" and encoder is not None
            else None
        )
        return load_joint(place, clip=clip)

    def initialise(self, module: TrainingModule) -> dict[str, Any] | None:
        """Load pretrained weights of an image encoder that is trained, or the weights of another run."""
        pictures = self.recipe.query.pictures
        weights = self._encoder_weights or pictures.weights
        if self.recipe.query.kind == "pictures" and pictures.trained and weights:
            from vidaudio.encoders.resnet import load_resnet_weights

            load_resnet_weights(cast(PictureQuery, module.model.query).body, weights)
        if self.recipe.init_from is None:
            return None
        encoder, labels = self.query_encoder.encoder, self.query_encoder.labels
        return asdict(transfer_weights(module.model, self.recipe.init_from, encoder=encoder, labels=labels))

    def training_sources(self) -> np.ndarray:
        """Return hashes of all sources of the corpora and, if the run begins with other weights, of their training."""
        found = [sources_of(index) for index in indexes(self.train_stream)]
        if self.recipe.init_from is not None:
            earlier = read_checkpoint(self.recipe.init_from)[0].get(SOURCES_TENSOR)
            found += [] if earlier is None else [earlier.numpy()]
        return np.unique(np.concatenate(found))

    def headline(self, numbers: Mapping[str, float]) -> Mapping[str, str]:
        """Return SI-SDR and SDR gains, and the gain over wrong queries."""
        return headline_figures(numbers)

    def result_facts(self, numbers: Mapping[str, float]) -> Mapping[str, float]:
        """Return the mean SDR gain of the last validation, dB; NaN without one."""
        return {"sdr_improvement": numbers.get("validation/sdr_improvement", math.nan)}

    def log_samples(self, module: TrainingModule, writers: Sequence[LogWriter], step: int) -> None:
        """Log sounds and spectrograms of the first validation mixtures."""
        self._samples.log(cast(SeparationModule, module), writers, step)
