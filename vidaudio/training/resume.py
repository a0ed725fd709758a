"""Going on with a run: which state, and whether it is one of this run."""

from __future__ import annotations

import errno
import fcntl
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from vidaudio.config.recipes import check
from vidaudio.errors import CheckpointError, CorpusError
from vidaudio.stream.loader import MixtureStream
from vidaudio.tasks.separation.queries import QueryEncoder
from vidaudio.tasks.separation.recipe import TrainRecipe
from vidaudio.training.checkpoint import BEST_FILE
from vidaudio.training.distributed import current_rank
from vidaudio.training.state_reading import DamagedState, State, misfit, newest_whole, read_state, state_paths

if TYPE_CHECKING:
    from vidaudio.tasks.separation.module import SeparationModule

LOCK_FILE = ".lock"
# What network disks without locks answer.
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)


def holds_run(folder: Path) -> bool:
    """Whether a run has left anything in a folder that another must not overwrite."""
    return (folder / BEST_FILE).is_file() or bool(state_paths(folder))


def newest_state(folder: Path, *, pass_over_damaged: bool = False) -> State | None:
    """Return the state with the most steps, of `last.ckpt` and those in `states/`; None where there is none.

    Args:
        folder: Of the run.
        pass_over_damaged: Take the state before a damaged one, and say so on stderr.

    Raises:
        CheckpointError: A state that may be the newest is damaged, and no older one may be taken or there is none.
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
            tqdm.write(f"{one}; going on from the state before, {before}", file=sys.stderr)
    return newest


def _none_is_whole(folder: Path, damaged: list[DamagedState]) -> str:
    weights = f"begin another run with this one's best weights (--init {folder}), or " * (folder / BEST_FILE).is_file()
    return f"{damaged[0]}, and there is no other state; {weights}delete it and begin anew"


def check_same_data(state: State, recipe: TrainRecipe, stream: MixtureStream, shares: list[float]) -> None:
    """Refuse to go on with other data than the run has begun with, or with the same in another order.

    Raises:
        CheckpointError: They are others; says how to go on nevertheless.
    """
    try:
        stream.require_identity(state.kept.get("data"))
    except CorpusError as error:
        raise CheckpointError(f"{error} (--set data.allow_other=true)") from None
    kept, now = _kept_recipe(state), recipe.model_dump(mode="json")
    differ = [name for name in _OF_ORDER if kept is not None and _at(kept, name) != _at(now, name)]
    if state.kept.get("shares", shares) != shares:
        differ.append("the weights of --data")
    if differ:
        raise CheckpointError(
            f"with another {' and '.join(differ)} than until now {state.path.parent} would see other examples from "
            "here on; to go on so nevertheless, --set data.allow_other=true"
        )


def check_same_model(state: State, recipe: TrainRecipe, maker: QueryEncoder) -> None:
    """Refuse a recipe whose weights are not those of the state. Paths, schedules and the like may change.

    Raises:
        CheckpointError: Names what differs.
    """
    kept = _kept_recipe(state)
    if kept is None:
        return
    now = recipe.model_dump(mode="json")
    differ = [name for name in _DECIDING if _at(kept, name) != _at(now, name)]
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
    before, encoder = state.kept.get("encoder"), maker.encoder
    if (before or {}).get("weights_sha256") != (encoder or {}).get("weights_sha256"):
        raise CheckpointError(f"{state.path.parent} was trained on vectors of another encoder than this corpus holds")


def check_weights(state: State, module: SeparationModule) -> None:
    """Refuse a state whose weights are not of a module's names, shapes and types.

    Raises:
        CheckpointError: Names the first that is not.
    """
    loaded = read_state(state.path)
    wrong = misfit(module.state_dict(), loaded["state_dict"])
    average = loaded.get("average")
    if wrong is None and average is not None:
        wrong = misfit(module.model.state_dict(), average["weights"])
    if wrong is not None:
        raise CheckpointError(f"the weights in {state.path} are not those of this recipe's model: {wrong}")


def _kept_recipe(state: State) -> dict[str, Any] | None:
    """Return the recipe in a state; a setting that did not exist when it was written has its default."""
    kept = state.kept.get("recipe")
    return None if kept is None else check(TrainRecipe, kept, str(state.path)).model_dump(mode="json")


_OF_OPTIMISER = ("kind", "learning_rate", "betas", "epsilon", "momentum", "weight_decay", "pretrained_factor")
_OF_ORDER = (
    "seed",
    "split",
    *(
        f"data.{name}"
        for name in (
            "batch_size",
            "partners",
            "same_source",
            "distant_candidates",
            "across_corpora",
            "block_shards",
            "window_frames",
            "frame_spacing_seconds",
            "max_padding_seconds",
            "gain_range",
        )
    ),
)
_DECIDING = (
    "system",
    "model",
    "data.sources",
    "query.kind",
    "query.encoder",
    "query.label_dimensions",
    "query.pictures.trained",
    "query.bert.pooling",
)


def _at(values: dict[str, Any], name: str) -> Any:
    for part in name.split("."):
        values = values[part]
    return values


class FolderLock:
    """Held while a process trains in a folder, so that a second one cannot; let go when the process ends in any way.

    A lock of the process and not of its open file: loader processes that outlive a killed run do not hold it.
    """

    def __init__(self, folder: Path) -> None:
        self._file = (folder / LOCK_FILE).open("w")
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in NO_LOCKS:
                tqdm.write(
                    f"the disk of {folder} has no locks ({error.strerror}): nothing keeps a second process from "
                    "training there at the same time",
                    file=sys.stderr,
                )
            else:
                self._file.close()
                raise CheckpointError(f"another process is training in {folder} right now") from None
        self._file.write(f"{os.getpid()}\n")
        self._file.flush()

    def release(self) -> None:
        self._file.close()
