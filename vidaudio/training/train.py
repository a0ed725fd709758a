"""Start and end of a training run: the checks before it, how its parts are put together, and how it ends."""

from __future__ import annotations

import functools
import json
import logging
import math
import random
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import yaml

from vidaudio.errors import CheckpointError, VidaudioError
from vidaudio.files import atomic_write
from vidaudio.text import is_utf8, number_of, shown_name
from vidaudio.training.base import Data, TrainingModule, TrainingTask
from vidaudio.training.checkpoint import BEST_FILE
from vidaudio.training.checkpointing import RunFiles
from vidaudio.training.distributed import current_rank, lost_ranks
from vidaudio.training.fabric import make_fabric, prepare_for_device
from vidaudio.training.graceful_stop import GracefulStop, StoppedBySignal
from vidaudio.training.loader_processes import GOING_ON, LoaderProcesses, chain_of
from vidaudio.training.log_writers import WANDB_FILE, make_writer
from vidaudio.training.loop import TrainingLoop
from vidaudio.training.loss_band import BandExit, exits_of
from vidaudio.training.metrics_log import MetricsLogger
from vidaudio.training.progress import ProgressBar
from vidaudio.training.recipe import CommonRecipe
from vidaudio.training.resume import (
    FolderLock,
    check_same_data,
    check_same_model,
    check_weights,
    holds_run,
    newest_state,
    require_resumable,
)
from vidaudio.training.schedule import unfinished_warmup
from vidaudio.training.snapshots import remove_later_snapshots
from vidaudio.training.state_files import remove_leftovers
from vidaudio.training.state_reading import State, read_state

_log = logging.getLogger(__name__)

RECIPE_FILE = "recipe.yaml"
INIT_FILE = "init.json"


@dataclass(frozen=True, slots=True)
class TrainResult:
    """Result of a run.

    Attributes:
        folder: Folder of the run.
        step: Steps done.
        examples: Training examples seen.
        example: Word for one example, such as `mixture`.
        best_loss: Best value of the number that the weights are chosen by; NaN without validation.
        numbers: All numbers of the last validation of this start, by name; empty without one.
        headline: The main figures of that validation, by name.
        facts: Further values that the family reports, by name.
        band_exits: Moments at which the loss left the recipe's band, over all starts of the run.
    """

    folder: Path
    step: int
    examples: int
    example: str
    best_loss: float
    numbers: Mapping[str, float] = field(default_factory=dict)
    headline: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, float] = field(default_factory=dict)
    band_exits: tuple[BandExit, ...] = ()

    def gains(self) -> str:
        """Return the headline figures in one line, dB; empty without a validation."""
        return ", ".join(f"{name} {figure} dB" for name, figure in self.headline.items())

    def progress(self) -> str:
        """Return steps and examples in words."""
        return f"{number_of(self.step, 'step')}, {number_of(self.examples, self.example)}"

    def exits(self) -> str:
        """Return the steps at which the loss left the recipe's band in one line; empty if it never did."""
        each = [f"at step {left.step} ({left.side})" for left in self.band_exits]
        return f"the loss left its band {', '.join(each)}" if each else ""

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values; a missing number is None."""
        exits = [left.as_dict() for left in self.band_exits]
        values = asdict(self) | {"folder": str(self.folder), "band_exits": exits}
        values |= {f"{values.pop('example')}s": values.pop("examples"), **values.pop("facts")}
        del values["headline"]
        return {name: None if value != value else value for name, value in values.items()}


def run_training(
    task_type: type[TrainingTask],
    recipe: CommonRecipe,
    data: Data,
    folder: Path,
    *,
    resume: bool | Literal["auto"] = False,
    encoder_weights: str | None = None,
    progress: bool = True,
) -> TrainResult:
    """Train one run of a family; see `vidaudio.tasks.registry.train` for arguments and errors."""
    if not is_utf8(str(folder)):
        raise CheckpointError(f"the name of the run's folder {shown_name(str(folder))} is not UTF-8; name another")
    state = _state(folder, resume)
    recorded = None if state is None else state.run["facts"]
    task = task_type.open(recipe, data, recorded=recorded, encoder_weights=encoder_weights)
    here = current_rank()
    task.train_stream.set_rank(here.rank, here.world_size)
    if state is not None:
        check_same_model(state, task)
        if not recipe.data.allow_other:
            check_same_data(state, task)
        if state.step >= recipe.schedule.steps and not _pending_validation(state, task, folder):
            return _nothing_left(state, task, folder, resume)
        require_resumable(state)
    first = here.rank == 0
    told = [*task.prepare(folder), *_warnings(task)]
    for sentence in told if first else ():
        _log.warning(sentence)
    _seed_everything(recipe.seed)
    module = task.make_module()
    begun_with = None if state is not None else task.initialise(module)
    folder.mkdir(parents=True, exist_ok=True)
    lock = FolderLock(folder) if first else None
    try:
        if first:
            remove_leftovers(folder, INIT_FILE, RECIPE_FILE, WANDB_FILE)
            remove_later_snapshots(folder, 0 if state is None else state.step)
            _describe(folder, recipe, begun_with)
            task.save_beside(folder)
        return _fit(task, module, folder, state, show=progress and first)
    finally:
        if lock is not None:
            lock.release()


def _fit(task: TrainingTask, module: TrainingModule, folder: Path, state: State | None, *, show: bool) -> TrainResult:
    recipe, first = task.recipe, current_rank().rank == 0
    contents = None if state is None else read_state(state.path)
    if state is not None and contents is not None:
        check_weights(contents, module, state.path)
    files = RunFiles(folder, task, None if state is None else state.run)
    prepare_for_device(module, recipe)
    writer = make_writer(recipe.log, folder, 0 if state is None else state.step) if first else None
    stop, loaders = GracefulStop(), LoaderProcesses()
    stop.install()
    try:
        loop = TrainingLoop(
            task,
            module,
            fabric=make_fabric(recipe, optimisers=len(module.optimisers())),
            files=files,
            logger=MetricsLogger(
                folder, recipe.data.batch_size, task.example, [writer] if writer else [], writes=first
            ),
            stop=stop,
            loaders=loaders,
            bar=functools.partial(ProgressBar, recipe.schedule.steps) if show else None,
        )
        if contents is not None:
            loop.load(contents)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning_fabric")
            # More processes than cores are reasonable: they wait for disk or network.
            warnings.filterwarnings("ignore", message="This DataLoader will create")
            loop.run(None if state is None else state.run.get("generators"))
    except StoppedBySignal as stopped:
        stop.restore()
        stop.end(stopped.number)
    except Exception as error:
        # The cleanup after an error may itself fail, so the errors before it are examined too.
        for cause in chain_of(error):
            explained = loaders.explain(cause) or _lost_ranks(cause)
            if explained is not None:
                raise explained from error
        raise
    finally:
        # Signals are still only noted here: a second one must not leave processes behind.
        loaders.end()
        stop.restore()
    numbers = loop.numbers or {}
    return TrainResult(
        folder,
        loop.steps_done,
        loop.steps_done * recipe.data.batch_size,
        task.example,
        files.best,
        numbers,
        task.headline(numbers),
        task.result_facts(numbers),
        () if loop.band is None else tuple(loop.band.exits),
    )


def _seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def _state(folder: Path, resume: bool | str) -> State | None:
    """Return the state to go on from; None to begin.

    Raises:
        CheckpointError: When a new run finds a run in its folder, or a resumed run finds no state.
    """
    if not resume:
        if holds_run(folder):
            raise CheckpointError(f"{folder} holds a run already; add --resume to go on, or name another folder")
        return None
    state = newest_state(folder, pass_over_damaged=resume == "auto")
    if state is None and resume != "auto":
        raise CheckpointError(
            f"nothing to resume in {folder}: there is no state in it; --auto-resume begins where there is none"
        )
    return state


def _pending_validation(state: State, task: TrainingTask, folder: Path) -> bool:
    """Return whether a run was stopped between its last step and the validation or the best weights after it."""
    if state.step != task.recipe.schedule.steps or not state.can_resume:
        return False
    unseen = task.validation_stream is not None and state.run.get("validated_step") != state.step
    return unseen or not (folder / BEST_FILE).is_file()


def _nothing_left(state: State, task: TrainingTask, folder: Path, resume: bool | str) -> TrainResult:
    steps = task.recipe.schedule.steps
    if resume != "auto":
        raise CheckpointError(
            f"{folder} has made all its {number_of(steps, 'step')}; for more, --set schedule.steps=NUMBER --resume"
        )
    best = state.run.get("best_loss", math.nan)
    examples = state.step * task.recipe.data.batch_size
    exits = tuple(exits_of(read_state(state.path).get("band")))
    return TrainResult(folder, state.step, examples, task.example, best, facts=task.result_facts({}), band_exits=exits)


def _warnings(task: TrainingTask) -> list[str]:
    """Return warnings about effects that the user may not have intended."""
    found = [unfinished_warmup(task.recipe.schedule)]
    if task.validation_stream is None:
        splits = ", ".join(sorted({split for corpus in task.train_stream.corpora for split in corpus.index.splits}))
        found.append(
            f"{task.train_stream.url} has no split {task.recipe.validation.split!r} (validation.split), only {splits}: "
            f"nothing is validated, and {BEST_FILE} will hold the last weights"
        )
    return [sentence for sentence in found if sentence is not None]


def _lost_ranks(error: Exception) -> VidaudioError | None:
    why = lost_ranks(error)
    if why is None:
        return None
    return VidaudioError(
        f"rank {current_rank().rank} lost another rank, which says itself why it ended ({why}). {GOING_ON}"
    )


def _describe(folder: Path, recipe: CommonRecipe, begun_with: dict[str, Any] | None) -> None:
    if begun_with is not None:
        with atomic_write(folder / INIT_FILE) as temporary:
            temporary.write_text(json.dumps(begun_with, indent=2) + "\n")
    with atomic_write(folder / RECIPE_FILE) as temporary:
        temporary.write_text(yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False))
