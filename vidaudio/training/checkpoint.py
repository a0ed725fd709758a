"""Weights on disk: one safetensors file that says what it is: system, sizes, recipe, whose vectors are its queries."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from vidaudio.errors import CheckpointError
from vidaudio.recipes import check
from vidaudio.separation import CLIPSep, CLIPSepConfig, FrontEndConfig, UNetConfig
from vidaudio.training.recipe import ModelBlock, TrainRecipe

BEST_FILE = "best.safetensors"
LAST_FILE = "last.ckpt"
FORMAT = 1
_METADATA_KEY = "vidaudio"


@dataclass(frozen=True)
class Checkpoint:
    """A trained model and what it needs to know.

    Attributes:
        model: In eval mode, float32, on the CPU.
        recipe: It was trained with.
        encoder: Fingerprint of the encoder whose vectors are its queries.
        step: Optimiser steps.
        path: Of the file.
    """

    model: CLIPSep
    recipe: TrainRecipe
    encoder: dict[str, Any]
    step: int
    path: Path


def build_model(block: ModelBlock, query_dimensions: int) -> CLIPSep:
    """A CLIPSep of a recipe's sizes, freshly initialised."""
    config = CLIPSepConfig(
        query_dimensions=query_dimensions,
        channels=block.channels,
        front_end=FrontEndConfig(**block.front_end.model_dump()),
        unet=UNetConfig(**block.unet.model_dump()),
    )
    return CLIPSep(config)


def save_checkpoint(
    path: Path, model: CLIPSep, recipe: TrainRecipe, encoder: dict[str, Any], step: int, facts: dict[str, Any]
) -> None:
    """Write weights and their description; the file appears complete or not at all."""
    described = {
        "format": FORMAT,
        "system": recipe.system,
        "query_dimensions": model.config.query_dimensions,
        "recipe": recipe.model_dump(mode="json"),
        "encoder": encoder,
        "step": step,
        **facts,
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    save_file(tensors, temporary, metadata={_METADATA_KEY: json.dumps(described, sort_keys=True)})
    os.replace(temporary, path)


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Load a model from a run's folder (its best weights) or a weights file.

    Raises:
        CheckpointError: Missing, not ours, of another system, or with weights that do not fit its description.
    """
    file = Path(path)
    if file.is_dir():
        if not (file / BEST_FILE).is_file():
            raise CheckpointError(f"{file} holds no {BEST_FILE}; a training run writes it at its first validation")
        file = file / BEST_FILE
    if not file.is_file():
        raise CheckpointError(f"there is no checkpoint at {file}")
    try:
        with safe_open(file, framework="pt") as opened:
            described = (opened.metadata() or {}).get(_METADATA_KEY)
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file} is not a safetensors file ({error})") from error
    if described is None:
        raise CheckpointError(f"{file} was not written by vidaudio: it does not say which system it is of")
    described = json.loads(described)
    if described.get("format") != FORMAT or described.get("system") != "clipsep":
        raise CheckpointError(
            f"{file} is of system {described.get('system')!r}, checkpoint format {described.get('format')!r}; "
            f"this version separates with clipsep, format {FORMAT}"
        )
    recipe = check(TrainRecipe, described["recipe"], str(file))
    model = build_model(recipe.model, described["query_dimensions"])
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise CheckpointError(
            f"the weights in {file} do not fit its description: {str(error).splitlines()[0]}"
        ) from None
    return Checkpoint(model.eval(), recipe, described["encoder"], described["step"], file)


def best_device() -> torch.device:
    """The device models run on: the first GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
