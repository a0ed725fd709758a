"""Weights of a run that has saved a state but no best weights: it was stopped before its first validation."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidaudio.errors import CheckpointError

LAST_FILE = "last.ckpt"
STATES_PATTERN = "states/*.ckpt"
_PREFIX = "model."


def newest_state_file(run: Path) -> Path | None:
    """The state of a run's folder with the most steps; None where it holds none."""
    found = [path for path in (run / LAST_FILE, *run.glob(STATES_PATTERN)) if path.is_file()]
    return max(found, key=lambda path: (_read(path)["global_step"], path.name == LAST_FILE), default=None)


def weights_of_state(path: Path) -> tuple[dict[str, Tensor], dict[str, Any], Tensor | None]:
    """Return weights, description and hashes of the training sources of a state, as in a weights file of that step.

    The average of the weights is taken where the run keeps one, as for the best weights.

    Raises:
        CheckpointError: It is no state of a training, or does not say which system it is of.
    """
    state = _read(path)
    kept = state.get("callbacks", {}).get("Keeper", {})
    recipe = kept.get("recipe")
    if recipe is None:
        raise CheckpointError(
            f"{path} does not say which system it is of; go on with the run up to its first validation"
        )
    average = state.get("average")
    tensors = average["weights"] if average is not None else _of_model(state["state_dict"])
    described = {
        "format": 1,
        "system": recipe["system"],
        "query_dimensions": _query_dimensions(tensors),
        "recipe": recipe,
        "encoder": kept.get("encoder"),
        "labels": kept.get("labels", []),
        "step": state["global_step"],
    }
    return {name: tensor.clone() for name, tensor in tensors.items()}, described, kept.get("training_sources")


def _of_model(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(_PREFIX): tensor for name, tensor in tensors.items() if name.startswith(_PREFIX)}


def _query_dimensions(tensors: dict[str, Tensor]) -> int:
    """Of the vectors a system is asked with; 1 where it is not asked with vectors."""
    layer = tensors.get("query.linear.weight")
    return 1 if layer is None else layer.shape[1]


def _read(path: Path) -> dict[str, Any]:
    try:
        return torch.load(path, weights_only=True, map_location="cpu", mmap=True)
    except (RuntimeError, KeyError, EOFError, AttributeError, pickle.UnpicklingError, TypeError, OSError) as error:
        raise CheckpointError(f"{path} is not a state of a training ({type(error).__name__})") from None
