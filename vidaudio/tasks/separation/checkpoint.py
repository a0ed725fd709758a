"""Trained separation model, built from its weights file."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from torch import Tensor

from vidaudio.config.recipes import check
from vidaudio.errors import CheckpointError
from vidaudio.separation import (
    ConditionConfig,
    FrontEndConfig,
    FusionConfig,
    LossConfig,
    NoiseConfig,
    Separator,
    SeparatorConfig,
    UNetConfig,
    build_separator,
)
from vidaudio.tasks.separation.objective import outputs
from vidaudio.tasks.separation.recipe import SeparationRecipe
from vidaudio.text import first_line
from vidaudio.training.checkpoint import SOURCES_TENSOR, check_weights, read_checkpoint, require_system
from vidaudio.training.state_reading import is_count


@dataclass(frozen=True)
class Checkpoint:
    """Trained model with its description.

    Attributes:
        model: Model in eval mode, float32, on the CPU.
        recipe: Recipe it was trained with.
        encoder: Fingerprint of the encoder whose vectors are its queries; None if none are.
        labels: Labels it knows, if its queries are labels.
        step: Steps it was trained for.
        path: Path of the file.
        training_sources: Hashes of the sources it was trained on, see `vidaudio.training.provenance`; None if unknown.
    """

    model: Separator
    recipe: SeparationRecipe
    encoder: dict[str, Any] | None
    labels: tuple[str, ...]
    step: int
    path: Path
    training_sources: np.ndarray | None = None


def separator_config(
    recipe: SeparationRecipe, query_dimensions: int, labels: int = 0, state_dimensions: int = 0
) -> SeparatorConfig:
    """Return parts and sizes of a recipe's system.

    Args:
        recipe: Recipe of the system.
        query_dimensions: Dimensions of its queries, if they are vectors.
        labels: Number of labels it knows, if its queries are labels.
        state_dimensions: Dimensions of a text's states, if its queries have them.

    Raises:
        RecipeError: When sizes or parts do not go together.
    """
    block, query = recipe.model, recipe.query
    kind = {"label": "label", "none": "none"}.get(query.kind, "vector")
    if query.kind == "pictures" and query.pictures.trained:
        kind = "pictures"
    if recipe.system == "mixit_ranked":
        kind = "ranked"
    condition = None
    if block.condition is not None:
        kind = "states"
        condition = ConditionConfig(**block.condition.model_dump(), state_dimensions=state_dimensions)
    return SeparatorConfig(
        query=kind,
        query_dimensions=query_dimensions,
        labels=labels if kind == "label" else 0,
        sources=outputs(recipe),
        channels=block.channels,
        noise=None if block.noise is None else NoiseConfig(**block.noise.model_dump()),
        fusion=FusionConfig(**block.fusion.model_dump()),
        loss=LossConfig(**recipe.loss.model_dump()),
        front_end=FrontEndConfig(**block.front_end.model_dump()),
        unet=UNetConfig(**block.unet.model_dump()),
        condition=condition,
        input=block.input,
        initial_weights=block.initial_weights,
    )


def build_model(
    recipe: SeparationRecipe, query_dimensions: int, labels: int = 0, state_dimensions: int = 0
) -> Separator:
    """Return a recipe's system with initial weights; see `separator_config`."""
    return build_separator(separator_config(recipe, query_dimensions, labels, state_dimensions))


def read_separator(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any], Path]:
    """Return weights, description and file of a separation model, without building it; see `read_checkpoint`.

    Raises:
        CheckpointError: When the file is missing, damaged, or of another family.
    """
    tensors, described, file = read_checkpoint(path)
    require_system(described, get_args(SeparationRecipe.model_fields["system"].annotation), "separation", file)
    # States of version 0.1 do not contain these.
    described.setdefault("query_dimensions", _query_dimensions(tensors))
    described.setdefault("labels", [])
    # Models of before have no attention to the states of a text.
    described.setdefault("state_dimensions", 0)
    if not is_count(described["query_dimensions"]) or not is_count(described["state_dimensions"]):
        raise CheckpointError(
            f"{file} has a damaged description: its dimensions are no count; take it back from a copy"
        )
    return tensors, described, file


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Load a model from a weights file, or from a run's folder: its best weights, or its newest state if it has none.

    Raises:
        CheckpointError: When the file is missing, is not one of vidaudio's, is of another family, or has weights that
            do not fit its description.
    """
    tensors, described, file = read_separator(path)
    recipe = check(SeparationRecipe, described["recipe"], str(file))
    labels = tuple(described["labels"])
    sources = tensors.pop(SOURCES_TENSOR, None)
    dimensions = (described["query_dimensions"], len(labels), described["state_dimensions"])
    build = functools.partial(build_model, recipe, *dimensions)
    check_weights(build, tensors, file)
    model = build()
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise CheckpointError(f"the weights in {file} do not fit its description: {first_line(error)}") from None
    known = None if sources is None else sources.numpy()
    return Checkpoint(model.eval(), recipe, described.get("encoder"), labels, described["step"], file, known)


def _query_dimensions(tensors: Mapping[str, Tensor]) -> int:
    """Return the dimensions of the vectors that are a system's queries; 1 if its queries are not vectors."""
    layer = tensors.get("query.linear.weight")
    return 1 if layer is None or layer.ndim != 2 else layer.shape[1]
