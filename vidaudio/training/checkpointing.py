"""Files that a run keeps: states to resume from, snapshots of averages, and the best weights by validation.

Files appear complete or not at all.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from vidaudio.errors import CheckpointError
from vidaudio.training.base import TrainingModule, TrainingTask
from vidaudio.training.checkpoint import BEST_FILE, SOURCES_TENSOR, read_checkpoint, save_checkpoint
from vidaudio.training.distributed import all_gather_object, current_rank
from vidaudio.training.snapshots import snapshot_path, write_snapshot
from vidaudio.training.state_files import periodic_states, plain_errors, save_state
from vidaudio.training.state_reading import LAST_FILE, STATE_FORMAT, STATES_FOLDER, step_of


class RunFiles:
    """Writer of a run's states and best weights.

    Args:
        folder: Folder of the run.
        task: Task of the run.
        recorded: Facts of the run in the state that it resumes from; None for a new run.

    Attributes:
        best: Best value of the task's number; NaN before the first validation.
        validated_step: Step of the last finished validation.
    """

    def __init__(self, folder: Path, task: TrainingTask, recorded: Mapping[str, Any] | None = None) -> None:
        recorded = recorded or {}
        self.folder = folder
        self._task = task
        self._sources = _with_earlier(task.training_sources(), folder / BEST_FILE)
        self._first = current_rank().rank == 0
        self.best: float = recorded.get("best_loss", math.nan)
        self.validated_step: int = recorded.get("validated_step", 0)

    @property
    def has_state(self) -> bool:
        """Return whether a state of the run has been written."""
        return (self.folder / LAST_FILE).is_file() or bool(periodic_states(self.folder / STATES_FOLDER))

    def save_last(self, training: Mapping[str, Any], step: int) -> None:
        """Write `last.ckpt`; all ranks call it.

        Args:
            training: Weights, optimisers and average, see `TrainingLoop`.
            step: Steps done.
        """
        self._save(self.folder / LAST_FILE, training, step)

    def save_periodic(self, training: Mapping[str, Any], step: int) -> None:
        """Write `states/step-N.ckpt`; all ranks call it."""
        self._save(self.folder / STATES_FOLDER / f"step-{step:08d}.ckpt", training, step)
        self.remove_superfluous(step)

    def save_snapshot(self, averages: Mapping[float, Mapping[str, Tensor]], step: int, *, half: bool) -> None:
        """Write `averages/step-N.safetensors`, on rank 0."""
        if self._first:
            path = snapshot_path(self.folder, step)
            with plain_errors(path):
                write_snapshot(path, averages, step, half=half)

    def remove_superfluous(self, step: int) -> None:
        """Delete all but the last states of up to `step` steps, whichever start of the run wrote them."""
        if self._first:
            states = self.folder / STATES_FOLDER
            written = [path for path in periodic_states(states) if (step_of(path) or 0) <= step]
            for path in written[: -self._task.recipe.state.keep_last]:
                path.unlink(missing_ok=True)

    def save_if_best(self, module: TrainingModule, numbers: Mapping[str, float], step: int) -> None:
        """Record a validation, and write its weights if they are the best so far."""
        self.validated_step = step
        value = numbers[self._task.best_number]
        better = value > self.best if self._task.higher_is_better else value < self.best
        if math.isfinite(value) and (better or math.isnan(self.best)):
            self.best = value
            self.save_weights(module, numbers, step)

    def save_unvalidated(self, module: TrainingModule, numbers: Mapping[str, float], step: int) -> None:
        """Write the last weights as the best ones, if no validation has chosen any."""
        # Without validations, there are only the last weights to keep, in a resumed run as well.
        if self._task.validation_stream is None or not (self.folder / BEST_FILE).is_file():
            self.save_weights(module, numbers, step)

    def save_weights(self, module: TrainingModule, numbers: Mapping[str, float], step: int) -> None:
        """Write `best.safetensors`, on rank 0."""
        if not self._first:
            return
        metrics = {name: round(value, 6) if math.isfinite(value) else None for name, value in numbers.items()}
        described = {
            "system": self._task.recipe.system,
            "recipe": self._task.recipe.model_dump(mode="json"),
            **self._task.facts(),
            "step": step,
            "metrics": metrics,
        }
        with plain_errors(self.folder / BEST_FILE):
            save_checkpoint(self.folder / BEST_FILE, module.eval_model, described, self._sources)

    def _save(self, path: Path, training: Mapping[str, Any], step: int) -> None:
        state = {
            "format": STATE_FORMAT,
            "steps_done": step,
            **training,
            "run": {
                "recipe": self._task.recipe.model_dump(mode="json"),
                "facts": self._task.facts(),
                "data": self._task.train_stream.identity(),
                "shares": list(self._task.data_shares),
                "best_loss": self.best,
                "validated_step": self.validated_step,
                "training_sources": None if self._sources is None else torch.from_numpy(self._sources),
                # Every rank has its own.
                "generators": all_gather_object(generator_states()),
            },
        }
        if self._first:
            save_state(state, path)


def _with_earlier(sources: np.ndarray | None, best: Path) -> np.ndarray | None:
    """Return a task's sources and those of the weights that its run wrote before, perhaps on other data."""
    if sources is None or not best.is_file():
        return sources
    try:
        earlier = read_checkpoint(best)[0].get(SOURCES_TENSOR)
    except CheckpointError as error:
        raise CheckpointError(f"{error}; move {best} away, and the run goes on without it") from error
    return sources if earlier is None else np.union1d(sources, earlier.numpy())


def generator_states() -> dict[str, Any]:
    """Return the states of all random generators of this process, as plain values."""
    name, keys, *rest = cast(tuple[str, np.ndarray, int, int, float], np.random.get_state())
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
        "numpy": [name, keys.tolist(), *rest],
        "python": random.getstate(),
    }


def set_generators(states: Mapping[str, Any]) -> None:
    """Put all random generators of this process into the states of `generator_states`."""
    torch.set_rng_state(states["torch"])
    if states["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
    np.random.set_state(tuple(states["numpy"]))
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))
