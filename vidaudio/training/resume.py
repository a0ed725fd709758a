"""Resuming of a run: which state it continues from, and whether that state belongs to this run."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vidaudio.config.recipes import check
from vidaudio.errors import CheckpointError, PackError
from vidaudio.training.base import TrainingModule, TrainingTask
from vidaudio.training.checkpoint import BEST_FILE
from vidaudio.training.distributed import current_rank
from vidaudio.training.state_reading import LAST_FILE, DamagedState, State, misfit, newest_whole, state_paths

_log = logging.getLogger(__name__)

LOCK_FILE = ".lock"
# Errors of network disks without locks.
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)


def holds_run(folder: Path) -> bool:
    """Return whether a folder holds results of a run that another run must not overwrite."""
    return (folder / BEST_FILE).is_file() or bool(state_paths(folder))


def newest_state(folder: Path, *, pass_over_damaged: bool = False) -> State | None:
    """Return the state with the most steps, of `last.ckpt` and those in `states/`; None if there is none.

    Args:
        folder: Folder of the run.
        pass_over_damaged: Whether to take the state before a damaged one, which is reported on stderr.

    Raises:
        CheckpointError: When a state that may be the newest is damaged, and no older one exists or may be taken.
    """
    newest, newer = newest_whole(folder)
    if not newer:
        return newest
    if newest is None:
        raise CheckpointError(_none_is_whole(folder, newer))
    before = f"{newest.path} of step {newest.step}"
    if not pass_over_damaged:
        raise CheckpointError(f"{newer[0]}; --auto-resume goes on from the state before, {before}, or delete it")
    if current_rank().rank == 0:
        for one in newer:
            _log.warning(f"{one}; going on from the state before, {before}")
    return newest


def _none_is_whole(folder: Path, damaged: list[DamagedState]) -> str:
    weights = f"begin another run with this one's best weights (--init {folder}), or " * (folder / BEST_FILE).is_file()
    return f"{damaged[0]}, and there is no other state; {weights}delete it and begin anew"


def require_resumable(state: State) -> None:
    """Refuse a state of version 0.1, whose optimisers belong to another training loop.

    Raises:
        CheckpointError: When training cannot go on from the state.
    """
    if not state.can_resume:
        raise CheckpointError(
            f"{state.path} was written by version 0.1, and training cannot go on from its states; begin a new run with "
            f"its weights: --init {state.path.parent if state.path.name == LAST_FILE else state.path.parent.parent}"
        )


def check_same_data(state: State, task: TrainingTask) -> None:
    """Refuse other data than the run began with, or the same data in another order.

    Raises:
        CheckpointError: When the data or their order differ; the message says how to go on nevertheless.
    """
    try:
        task.train_stream.require_identity(state.run.get("data"))
    except PackError as error:
        raise CheckpointError(f"{error} (--set data.allow_other=true)") from None
    kept, now = _recorded_recipe(state, task), task.recipe.model_dump(mode="json")
    differ = [name for name in task.order_settings if kept is not None and _at(kept, name) != _at(now, name)]
    shares = list(task.data_shares)
    if state.run.get("shares", shares) != shares:
        differ.append("the weights of --data")
    if differ:
        raise CheckpointError(
            f"with another {' and '.join(differ)} than until now {state.path.parent} would see other examples from "
            "here on; to go on so nevertheless, --set data.allow_other=true"
        )


def check_same_model(state: State, task: TrainingTask) -> None:
    """Refuse a recipe whose weights are not those of the state; paths, schedules and the like may change.

    Raises:
        CheckpointError: When something that decides the weights differs; the message names it.
    """
    kept = _recorded_recipe(state, task)
    if kept is None:
        return
    now = task.recipe.model_dump(mode="json")
    for name in task.starting_steps:
        before, after = _take_out(kept, name), _take_out(now, name)
        if before != after and state.step < max(before or 0, after or 0):
            raise CheckpointError(
                f"{state.path.parent} was to reach {name}={before}, and this recipe says {after}; to go on as before, "
                f"--set {name}={before}"
            )
    differ = [name for name in task.model_settings if _at(kept, name) != _at(now, name)]
    if differ:
        raise CheckpointError(
            f"{state.path.parent} was trained with other model sizes or queries than this recipe's "
            f"({', '.join(differ)}); it cannot go on"
        )
    fixed = [name for name in _OF_OPTIMISER if kept["optimiser"][name] != now["optimiser"][name]]
    if fixed:
        raise CheckpointError(
            f"a run that goes on keeps its optimiser, and this recipe has another optimiser.{fixed[0]}; begin a new "
            f"run with its weights: --init {state.path.parent}"
        )
    _check_same_averages(kept["average"], now["average"], state.path.parent)
    task.check_recorded(state.run["facts"], str(state.path.parent))


def _check_same_averages(kept: Mapping[str, Any] | None, now: Mapping[str, Any] | None, run: Path) -> None:
    """Refuse power-function averages that the run has not tracked from its first step on."""
    if now is None or now["kind"] != "power":
        return
    tracked = [] if kept is None or kept["kind"] != "power" else kept["sigma_rel"]
    if sorted(tracked) != sorted(now["sigma_rel"]):
        before = f"tracked those of sigma_rel {tracked}" if tracked else "tracked none"
        raise CheckpointError(
            f"power-function averages count all steps of a run, and {run} {before}, not of {now['sigma_rel']}; go on "
            "with the average that it has"
        )


def check_weights(contents: Mapping[str, Any], module: TrainingModule, path: Path) -> None:
    """Refuse a state whose weights differ from a module's in names, shapes or types.

    Args:
        contents: Contents of the state, see `read_state`.
        module: Module that is to have the weights.
        path: Path of the state.

    Raises:
        CheckpointError: When a weight differs; the message names the first one.
    """
    wrong = misfit(module.state_dict(), contents["weights"])
    average = contents["average"]
    for each in [] if average is None else [average, *average.get("widths", [])]:
        wrong = wrong or misfit(module.model.state_dict(), each["weights"])
    if wrong is not None:
        raise CheckpointError(f"the weights in {path} are not those of this recipe's model: {wrong}")


def _recorded_recipe(state: State, task: TrainingTask) -> dict[str, Any] | None:
    """Return the recipe in a state; a setting that did not exist when it was written has its default."""
    kept = state.run.get("recipe")
    return None if kept is None else check(task.recipe_type, kept, str(state.path)).model_dump(mode="json")


_OF_OPTIMISER = ("kind", "learning_rate", "betas", "epsilon", "momentum", "weight_decay", "pretrained_factor")


def _take_out(values: dict[str, Any], name: str) -> Any:
    """Remove a setting and return its value; None where the block that it belongs to is off."""
    *blocks, last = name.split(".")
    for block in blocks:
        values = values.get(block) or {}
    return values.pop(last, None)


def _at(values: dict[str, Any], name: str) -> Any:
    for part in name.split("."):
        values = values[part]
    return values


class FolderLock:
    """Lock held while a process trains in a folder, so that a second one cannot; released however the process ends.

    The lock belongs to the process, not to its open file: loader processes that outlive a killed run do not hold it.

    Args:
        folder: Folder of the run.

    Raises:
        CheckpointError: When another process is training in the folder.
    """

    def __init__(self, folder: Path) -> None:
        self._file = (folder / LOCK_FILE).open("w")
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in NO_LOCKS:
                _log.warning(
                    f"the disk of {folder} has no locks ({error.strerror}): nothing keeps a second process from "
                    "training there at the same time"
                )
            else:
                self._file.close()
                raise CheckpointError(f"another process is training in {folder} right now") from None
        self._file.write(f"{os.getpid()}\n")
        self._file.flush()

    def release(self) -> None:
        """Let other processes train in the folder."""
        self._file.close()
