"""Train a system on a packed corpus: what is checked first, what is put together, and how a run ends."""

from __future__ import annotations

import json
import math
import sys
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
import numpy as np
import yaml
from tqdm import tqdm

from vidaudio.errors import CheckpointError, CorpusError, VidaudioError
from vidaudio.files import atomic_write
from vidaudio.separation import Separator, headline_figures
from vidaudio.stream.loader import MixtureStream
from vidaudio.tasks.separation.data import Data, indexes, shares, streams
from vidaudio.tasks.separation.finetune import transfer_weights
from vidaudio.tasks.separation.module import TRAIN, VALIDATION, SeparationModule
from vidaudio.tasks.separation.queries import QueryEncoder
from vidaudio.tasks.separation.query_factory import make_query_encoder
from vidaudio.tasks.separation.recipe import TrainRecipe
from vidaudio.tasks.separation.systems import check_system
from vidaudio.tasks.separation.text_queries import TextTable, first_labels, text_table
from vidaudio.tasks.separation.validation_samples import ValidationSampleLogger
from vidaudio.tasks.separation.window_length import other_length
from vidaudio.text import is_utf8, number_of, shown_name
from vidaudio.training.checkpoint import BEST_FILE, SOURCES_TENSOR, build_model, read_checkpoint
from vidaudio.training.checkpointing import CheckpointCallback
from vidaudio.training.distributed import current_rank, lost_ranks
from vidaudio.training.ema import EmaCallback
from vidaudio.training.graceful_stop import GracefulStop, StoppedBySignal
from vidaudio.training.loader_processes import GOING_ON, chain_of
from vidaudio.training.metrics_log import WANDB_FILE, MetricsLogger, make_logger
from vidaudio.training.provenance import sources_of
from vidaudio.training.resume import (
    FolderLock,
    check_same_data,
    check_same_model,
    check_weights,
    holds_run,
    newest_state,
)
from vidaudio.training.schedule import unfinished_warmup
from vidaudio.training.state_files import remove_leftovers
from vidaudio.training.state_reading import State
from vidaudio.training.trainer import ProgressBar, make_trainer, prepare_for_device, state_writer

RECIPE_FILE = "recipe.yaml"
INIT_FILE = "init.json"


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What a run ended with.

    Attributes:
        folder: Of the run.
        step: Optimiser steps done.
        mixtures: Training mixtures seen.
        best_loss: Lowest validation loss; NaN without validation.
        sdr_improvement: Mean over validation mixtures at the last validation of this start, dB; NaN without.
        numbers: All that the last validation of this start measured, by name; empty without.
    """

    folder: Path
    step: int
    mixtures: int
    best_loss: float
    sdr_improvement: float
    numbers: Mapping[str, float] = field(default_factory=dict)

    def gains(self) -> str:
        """The headline figures of the last validation in one line, dB; empty without one."""
        return ", ".join(f"{name} {figure} dB" for name, figure in headline_figures(self.numbers).items())

    def as_dict(self) -> dict[str, Any]:
        """JSON-able; what there is none of is None."""
        values = asdict(self) | {"folder": str(self.folder)}
        return {name: None if value != value else value for name, value in values.items()}


def train(
    recipe: TrainRecipe,
    data: Data,
    run: str | Path,
    *,
    resume: bool | Literal["auto"] = False,
    encoder_weights: str | None = None,
    progress: bool = True,
) -> TrainResult:
    """Train, and leave `best.safetensors`, `last.ckpt`, `recipe.yaml` and logs in the run's folder.

    One of several processes where the environment says so, as under torchrun; see `vidaudio.training.distributed`.

    Args:
        recipe: System, sizes, schedule.
        data: A packed corpus, `CORPUS/training/NAME`; or several with their weights.
        run: Folder of the run.
        resume: Go on from the run's newest state; the stream of examples continues where the optimiser stopped. `auto`:
            go on if there is one, else begin, and do nothing where all steps are made.
        encoder_weights: Where the encoder of the queries lies, if it is needed and its recorded place is not here.
        progress: Show a progress bar.

    Raises:
        CorpusError, RecipeError, CheckpointError: With what to do about it.
        SystemExit: A signal stopped the run; its state is saved, and the code is 128 + the signal's number.
        KeyboardInterrupt: Likewise, for Ctrl-C.
    """
    check_system(recipe, f"system {recipe.system}")
    folder = Path(run)
    if not is_utf8(str(folder)):
        raise CheckpointError(f"the name of the run's folder {shown_name(str(folder))} is not UTF-8; name another")
    state = _state(folder, resume)
    train_stream, validation_stream = streams(recipe, data)
    here = current_rank()
    train_stream.set_rank(here.rank, here.world_size)
    labels = _vocabulary(recipe, train_stream, state)
    maker = make_query_encoder(recipe, encoder=train_stream.encoder, labels=labels, weights=encoder_weights)
    if state is not None:
        check_same_model(state, recipe, maker)
        if not recipe.data.allow_other:
            check_same_data(state, recipe, train_stream, shares(data))
        if state.step >= recipe.schedule.steps and not _pending_validation(state, recipe, validation_stream, folder):
            return _nothing_left(state, recipe, folder, resume)
    first = here.rank == 0
    text = _text_tables(recipe, train_stream, validation_stream, maker, say=first)
    if first:
        _say_what_is_amiss(recipe, train_stream, validation_stream)
    pl.seed_everything(recipe.seed, verbose=False)
    model = build_model(recipe, maker.dimensions, len(maker.labels))
    begun_with = None if state is not None else _begin(model, recipe, maker, encoder_weights)
    folder.mkdir(parents=True, exist_ok=True)
    lock = FolderLock(folder) if first else None
    try:
        if first:
            remove_leftovers(folder, INIT_FILE, RECIPE_FILE, WANDB_FILE)
            _describe(folder, recipe, begun_with)
        module = SeparationModule(
            prepare_for_device(model, recipe), recipe, train_stream, validation_stream, maker, text
        )
        if state is not None:
            check_weights(state, module)
        checkpoints = CheckpointCallback(
            folder,
            recipe,
            maker,
            data=train_stream.identity(),
            shares=shares(data),
            training_sources=_trained_on(train_stream, recipe, folder),
        )
        return _fit(module, checkpoints, state, show=progress and first)
    finally:
        if lock is not None:
            lock.release()


def _fit(module: SeparationModule, checkpoints: CheckpointCallback, state: State | None, *, show: bool) -> TrainResult:
    recipe, folder = module.recipe, checkpoints.folder
    first = current_rank().rank == 0
    step = 0 if state is None else state.step
    graceful_stop = GracefulStop(checkpoints)
    callbacks: list[pl.Callback] = [
        *([EmaCallback(recipe.average.decay)] if recipe.average is not None else []),
        MetricsLogger(folder, recipe.log_every_steps, recipe.data.batch_size, writes=first),
        ValidationSampleLogger(recipe.validation.shown),
        *([ProgressBar(recipe.schedule.steps)] if show else []),
        graceful_stop,
        # After all others: at the start it may have a validation to make up for.
        checkpoints,
        *state_writer(recipe, folder),
    ]
    trainer = make_trainer(recipe, folder, callbacks, make_logger(recipe.log, folder, step) if first else None)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        graceful_stop.install()
        try:
            trainer.fit(
                module,
                ckpt_path=None if state is None else str(state.path),
                weights_only=None if state is None else True,
            )
        except StoppedBySignal as stopped:
            graceful_stop.restore()
            graceful_stop.end(stopped.number)
        except SystemExit as stop:
            # Lightning turns Ctrl-C into an exit with code 1.
            if stop.code != 1:
                raise
            raise KeyboardInterrupt from None
        except Exception as error:
            # Lightning's own clearing up may fail after the error that matters.
            for cause in chain_of(error):
                explained = module.loader_processes.explain(cause) or _lost_ranks(cause)
                if explained is not None:
                    raise explained from error
            raise
        finally:
            # While signals still only leave a note: a second one must not leave processes behind.
            module.loader_processes.end()
            graceful_stop.restore()
    numbers = module.validation_numbers or {}
    return TrainResult(
        folder,
        trainer.global_step,
        trainer.global_step * recipe.data.batch_size,
        checkpoints.best_loss,
        numbers.get("validation/sdr_improvement", math.nan),
        numbers,
    )


def _state(folder: Path, resume: bool | str) -> State | None:
    """The state to go on from; None to begin.

    Raises:
        CheckpointError: There is a run where one is to begin, or none where one is to go on.
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


def _pending_validation(state: State, recipe: TrainRecipe, validation: MixtureStream | None, folder: Path) -> bool:
    """Whether a run was stopped between its last step and what follows it, a validation and maybe the best weights."""
    if state.step != recipe.schedule.steps:
        return False
    unseen = validation is not None and state.kept.get("validated_step") != state.step
    return (unseen and state.step % recipe.validate_every_steps == 0) or not (folder / BEST_FILE).is_file()


def _nothing_left(state: State, recipe: TrainRecipe, folder: Path, resume: bool | str) -> TrainResult:
    if resume != "auto":
        raise CheckpointError(
            f"{folder} has made all its {number_of(recipe.schedule.steps, 'step')}; for more, "
            "--set schedule.steps=NUMBER --resume"
        )
    best = state.kept.get("best_loss", math.nan)
    return TrainResult(folder, state.step, state.step * recipe.data.batch_size, best, math.nan)


def _say_what_is_amiss(recipe: TrainRecipe, training: MixtureStream, validation: MixtureStream | None) -> None:
    """What a run does that its user may not have meant, on stderr."""
    amiss = [
        unfinished_warmup(recipe.schedule),
        other_length(recipe.model.front_end, recipe.data.window_seconds),
    ]
    if validation is None:
        splits = ", ".join(sorted({split for index in indexes(training) for split in index.splits}))
        amiss.append(
            f"{training.url} has no split {recipe.validation.split!r} (validation.split), only {splits}: nothing is "
            f"validated, and {BEST_FILE} will hold the last weights"
        )
    for sentence in filter(None, amiss):
        tqdm.write(sentence, file=sys.stderr)


def _lost_ranks(error: Exception) -> VidaudioError | None:
    why = lost_ranks(error)
    if why is None:
        return None
    return VidaudioError(
        f"rank {current_rank().rank} lost another rank, which says itself why it ended ({why}). {GOING_ON}"
    )


def _describe(folder: Path, recipe: TrainRecipe, begun_with: dict[str, Any] | None) -> None:
    if begun_with is not None:
        with atomic_write(folder / INIT_FILE) as temporary:
            temporary.write_text(json.dumps(begun_with, indent=2) + "\n")
    with atomic_write(folder / RECIPE_FILE) as temporary:
        temporary.write_text(yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False))


def _vocabulary(recipe: TrainRecipe, stream: MixtureStream, state: State | None) -> tuple[str, ...]:
    """The labels a system of labels learns: those of the training split, or of the run that goes on."""
    if recipe.query.kind != "label":
        return ()
    return first_labels(indexes(stream)) if state is None else state.labels


def _trained_on(stream: MixtureStream, recipe: TrainRecipe, folder: Path) -> np.ndarray:
    """Hashes of all sources the weights will have seen: these corpora's, and those of the runs it goes on from."""
    known = [] if recipe.init_from is None else [read_checkpoint(recipe.init_from)[0].get(SOURCES_TENSOR)]
    best = folder / BEST_FILE
    if best.is_file():
        try:
            known.append(read_checkpoint(best)[0].get(SOURCES_TENSOR))
        except CheckpointError as error:
            raise CheckpointError(f"{error}; move {best} away, and the run goes on without it") from error
    here = [sources_of(index) for index in indexes(stream)]
    return np.unique(np.concatenate([*here, *(hashes.numpy() for hashes in known if hashes is not None)]))


def _begin(model: Separator, recipe: TrainRecipe, maker: QueryEncoder, weights: str | None) -> dict[str, Any] | None:
    """Fill a fresh model with what it is to begin with; returns what was taken over from another run."""
    pictures = recipe.query.pictures
    if recipe.query.kind == "pictures" and pictures.trained and (weights or pictures.weights):
        from vidaudio.encoders.resnet import load_resnet_weights

        load_resnet_weights(model.query.body, weights or pictures.weights)
    if recipe.init_from is None:
        return None
    return asdict(transfer_weights(model, recipe.init_from, encoder=maker.encoder, labels=maker.labels))


def _text_tables(
    recipe: TrainRecipe,
    training: MixtureStream,
    validation: MixtureStream | None,
    maker: QueryEncoder,
    *,
    say: bool,
) -> dict[str, TextTable]:
    if "text" not in maker.modalities:
        return {}
    tables = {}
    if recipe.query.train in ("text", "alternate"):
        tables[TRAIN] = text_table(indexes(training), maker, training=True)
    if validation is not None and recipe.query.validation == "text":
        tables[VALIDATION] = text_table(indexes(validation), maker)
    for name, table in tables.items():
        if table.missing and recipe.query.unlabelled == "refuse":
            raise CorpusError(
                f"{table.missing} of {len(table.of_row)} clips of the {name} split have no label that the system "
                "knows; leave their mixtures out with --set query.unlabelled=skip, or pack only clips with labels"
            )
        if table.missing and say:
            have = "has" if table.missing == 1 else "have"
            tqdm.write(
                f"{table.missing} of {len(table.of_row)} clips of the {name} split {have} no label that the system "
                "knows: mixtures with one of them are left out",
                file=sys.stderr,
            )
    return tables
