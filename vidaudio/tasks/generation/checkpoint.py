"""Trained generator, built from its weights file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from torch import Tensor

from vidaudio.config.recipes import check
from vidaudio.errors import CheckpointError
from vidaudio.generation import Denoiser
from vidaudio.hashing import sha256_of
from vidaudio.tasks.generation.recipe import GenerationRecipe
from vidaudio.training.checkpoint import SOURCES_TENSOR, check_weights, read_checkpoint, require_system
from vidaudio.training.state_reading import is_count, misfit


@dataclass(frozen=True)
class GeneratorCheckpoint:
    """Trained generator with its description.

    Attributes:
        model: Network in eval mode, float32, on the CPU.
        recipe: Recipe it was trained with.
        encoder: Fingerprint of the encoder whose vectors are its conditions.
        step: Steps it was trained for.
        path: Path of the file.
        sha256: SHA-256 of the file.
        training_sources: Hashes of the sources it was trained on, see `vidaudio.training.provenance`; None if unknown.
    """

    model: Denoiser
    recipe: GenerationRecipe
    encoder: dict[str, Any]
    step: int
    path: Path
    sha256: str
    training_sources: np.ndarray | None = None


def load_generator(path: str | Path) -> GeneratorCheckpoint:
    """Load a generator from a weights file, or from a run's folder: its best weights, or its newest state's.

    Raises:
        CheckpointError: When the file is missing, is not one of vidaudio's, is of another family, or has weights that
            do not fit its description.
        UsageError: When diffusers is not installed.
    """
    tensors, described, file = _read(path)
    recipe = check(GenerationRecipe, described["recipe"], str(file))
    sources = tensors.pop(SOURCES_TENSOR, None)
    config = recipe.denoiser(described["query_dimensions"])
    check_weights(lambda: Denoiser(config), tensors, file)
    model = Denoiser(config)
    model.load_state_dict(tensors)
    known = None if sources is None else sources.numpy()
    return GeneratorCheckpoint(
        model.eval(), recipe, described["encoder"], described["step"], file, sha256_of(file), known
    )


def load_weaker(path: str | Path, strong: GeneratorCheckpoint) -> GeneratorCheckpoint:
    """Load a generator to move away from: an earlier or smaller copy of another one, for autoguidance.

    Args:
        path: A weights file, or a run's folder.
        strong: Generator that is to be guided.

    Raises:
        CheckpointError: When `load_generator` raises it, or the two do not generate the same mels from the same
            conditions; the message names both, and what differs.
    """
    weaker = load_generator(path)
    own, other = _what_a_weaker_copy_shares(strong), _what_a_weaker_copy_shares(weaker)
    differ = [name for name, value in own.items() if value != other[name]]
    if differ:
        raise CheckpointError(
            f"{weaker.path} cannot guide {strong.path}: they differ in {' and '.join(differ)}; a weaker copy "
            "differs in its training or its U-Net alone"
        )
    return weaker


def _what_a_weaker_copy_shares(loaded: GeneratorCheckpoint) -> dict[str, Any]:
    return {
        "model.mel": loaded.recipe.model.mel,
        "model.process": loaded.recipe.model.process,
        "frames": loaded.recipe.frames,
        "condition dimensions": loaded.model.config.condition_dimensions,
        "encoder": loaded.encoder.get("weights_sha256"),
    }


def transfer_weights(model: Denoiser, checkpoint: str | Path, encoder: Mapping[str, Any]) -> dict[str, Any]:
    """Load another run's weights into a network of the same sizes.

    The projection of the condition keeps its initial values if the other run's conditions are of another encoder.

    Args:
        model: Freshly built network; changed in place.
        checkpoint: A run's folder or its weights file.
        encoder: Fingerprint of the encoder of the conditions.

    Returns:
        Where the weights come from; plain JSON values.

    Raises:
        CheckpointError: When there is no such checkpoint, or its sizes differ; the message names a weight.
    """
    tensors, described, file = _read(checkpoint)
    tensors.pop(SOURCES_TENSOR, None)
    is_same = described["encoder"].get("weights_sha256") == encoder.get("weights_sha256")
    own = model.state_dict()
    if not is_same:
        tensors |= {name: value for name, value in own.items() if name.startswith("projection.")}
    wrong = misfit(own, tensors)
    if wrong is not None:
        raise CheckpointError(f"{file} does not fit: {wrong}; give model the sizes that it was trained with")
    model.load_state_dict(tensors)
    fresh = [] if is_same else ["projection"]
    return {"path": str(file), "system": described["system"], "step": described["step"], "fresh": fresh}


def _read(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any], Path]:
    tensors, described, file = read_checkpoint(path)
    require_system(described, get_args(GenerationRecipe.model_fields["system"].annotation), "generation", file)
    if not is_count(described.get("query_dimensions")) or not isinstance(described.get("encoder"), dict):
        raise CheckpointError(f"{file} has a damaged description: it names no encoder; take it back from a copy")
    return tensors, described, file
