"""Weights of a run that has saved a state but no best weights: it was stopped before its first validation."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from torch import Tensor
from tqdm import tqdm

from vidaudio.errors import CheckpointError
from vidaudio.training.state_reading import KEPT, newest_whole, read_state

_PREFIX = "model."


def newest_state_file(run: Path) -> Path | None:
    """The whole state of a run's folder with the most steps; None where it holds none. Stderr names damaged newer ones.

    Raises:
        CheckpointError: All of its states are damaged, or one cannot be read.
    """
    newest, damaged = newest_whole(run)
    if newest is None:
        if damaged:
            raise CheckpointError(f"{damaged[0]}, and {run} holds no other state and no best weights")
        return None
    for one in damaged:
        tqdm.write(f"{one}; the state before is used, {newest.path} of step {newest.step}", file=sys.stderr)
    return newest.path


def weights_of_state(path: Path) -> tuple[dict[str, Tensor], dict[str, Any], Tensor | None]:
    """Return weights, description and hashes of the training sources of a state, as in a weights file of that step.

    The average of the weights is taken where the run keeps one, as for the best weights.

    Raises:
        CheckpointError: It is no state of a training, or does not say which system it is of.
    """
    state = read_state(path)
    kept = state.get("callbacks", {}).get(KEPT, {})
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
    return 1 if layer is None or layer.ndim != 2 else layer.shape[1]
