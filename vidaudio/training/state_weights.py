"""Weights of a run that has saved a state but no best weights, because it was stopped before its first validation."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from torch import Tensor

from vidaudio.errors import CheckpointError
from vidaudio.training.state_reading import newest_whole, read_state

_log = logging.getLogger(__name__)

# In a state's weights, names of the module's `model` begin with this.
_MODEL_PREFIX = "model."


def newest_state_file(run: Path) -> Path | None:
    """Return the complete state of a run's folder with the most steps; None if it holds none.

    Damaged newer states are named on stderr.

    Raises:
        CheckpointError: When all of its states are damaged, or one cannot be read.
    """
    newest, damaged = newest_whole(run)
    if newest is None:
        if damaged:
            raise CheckpointError(f"{damaged[0]}, and {run} holds no other state and no best weights")
        return None
    for one in damaged:
        _log.warning(f"{one}; the state before is used, {newest.path} of step {newest.step}")
    return newest.path


def weights_of_state(path: Path) -> tuple[dict[str, Tensor], dict[str, Any], Tensor | None]:
    """Return weights, description and hashes of the training sources of a state, as a weights file of that step has.

    If the run keeps an average of the weights, it is taken, as for the best weights.

    Raises:
        CheckpointError: When it is not a state of a training, or does not say which system it is of.
    """
    state = read_state(path)
    run = state["run"]
    recipe = run.get("recipe")
    if recipe is None:
        raise CheckpointError(
            f"{path} does not say which system it is of; go on with the run up to its first validation"
        )
    average = state["average"]
    tensors = average["weights"] if average is not None else _of_model(state["weights"])
    described = {"system": recipe["system"], "recipe": recipe, **run["facts"], "step": state["steps_done"]}
    return {name: tensor.clone() for name, tensor in tensors.items()}, described, run.get("training_sources")


def _of_model(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(_MODEL_PREFIX): t for name, t in weights.items() if name.startswith(_MODEL_PREFIX)}
