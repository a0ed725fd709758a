"""Train a system on a packed corpus: the run's folder, resuming, and what is written when."""

from __future__ import annotations

import json
import logging
import math
import os
import pickle
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
import yaml
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from tqdm import tqdm

from vidaudio.encoders.clip import best_precision
from vidaudio.errors import CheckpointError, CorpusError, RecipeError, VidaudioError
from vidaudio.stream.index import TrainingIndex
from vidaudio.stream.loader import MixtureStream, StreamConfig
from vidaudio.stream.windows import WindowShape
from vidaudio.training.checkpoint import BEST_FILE, LAST_FILE, build_model, load_checkpoint, save_checkpoint
from vidaudio.training.module import SeparationModule, TextTable, text_table
from vidaudio.training.queries import load_query_encoder, text_queries
from vidaudio.training.recipe import TrainRecipe

RECIPE_FILE = "recipe.yaml"
METRICS_FILE = "metrics.csv"
LOG_EVERY_STEPS = 50


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What a run ended with.

    Attributes:
        folder: Of the run.
        step: Optimiser steps done.
        mixtures: Training mixtures seen.
        best_loss: Lowest validation loss; NaN without validation.
        sdr_improvement: Mean over validation mixtures at the last validation, dB.
    """

    folder: Path
    step: int
    mixtures: int
    best_loss: float
    sdr_improvement: float


def train(
    recipe: TrainRecipe,
    data: str,
    run: str | Path,
    *,
    resume: bool = False,
    encoder_weights: str | None = None,
    progress: bool = True,
) -> TrainResult:
    """Train, and leave `best.safetensors`, `last.ckpt`, `recipe.yaml` and logs in the run's folder.

    Args:
        recipe: System, sizes, schedule.
        data: A packed corpus, `CORPUS/training/NAME`.
        run: Folder of the run.
        resume: Go on from the run's last state; the stream of examples continues where the optimiser stopped.
        encoder_weights: Where the corpus's encoder lies, if text queries are wanted and its recorded place is not here.
        progress: Show a progress bar.

    Raises:
        CorpusError, RecipeError, CheckpointError: With what to do about it.
    """
    folder = Path(run)
    last = folder / LAST_FILE
    if resume and not last.is_file():
        raise CheckpointError(f"nothing to resume in {folder}: there is no {LAST_FILE}")
    if not resume and (last.is_file() or (folder / BEST_FILE).is_file()):
        raise CheckpointError(f"{folder} holds a run already; add --resume to go on, or name another folder")
    train_stream, validation_stream = streams(recipe, data)
    _check_sizes(recipe, train_stream.index, folder, resume)
    if resume and _steps_done(last) >= recipe.schedule.steps:
        raise CheckpointError(
            f"{folder} has made all its {recipe.schedule.steps} steps; for more, --set schedule.steps=NUMBER --resume"
        )
    folder.mkdir(parents=True, exist_ok=True)
    _keep_metrics(folder)
    (folder / RECIPE_FILE).write_text(yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False))
    pl.seed_everything(recipe.seed, verbose=False)
    model = build_model(recipe.model, train_stream.index.dimensions)
    if recipe.channels_last:
        model = model.to(memory_format=torch.channels_last)
    text = _text_tables(recipe, train_stream, validation_stream, encoder_weights)
    module = SeparationModule(model, recipe, train_stream, validation_stream, text)
    keeper = _Keeper(folder, recipe, train_stream.index.encoder)
    trainer = _trainer(recipe, folder, [keeper, *([_Bar(recipe.schedule.steps)] if progress else [])])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        try:
            trainer.fit(module, ckpt_path=str(last) if resume else None, weights_only=True if resume else None)
        except VidaudioError as error:
            raise _without_worker_traceback(error) from None
        except SystemExit as stop:
            # Lightning turns Ctrl-C into an exit with code 1, after it has let the state be saved.
            if stop.code != 1:
                raise
            raise KeyboardInterrupt from None
    return TrainResult(
        folder,
        trainer.global_step,
        trainer.global_step * recipe.data.batch_size,
        keeper.best_loss,
        float(trainer.callback_metrics.get("validation/sdr_improvement", math.nan)),
    )


def _steps_done(state: Path) -> int:
    try:
        return torch.load(state, weights_only=True, map_location="cpu")["global_step"]
    except (RuntimeError, KeyError, EOFError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{state} is not a state that training can go on from ({type(error).__name__})") from None


def _keep_metrics(folder: Path) -> None:
    """Put aside what an earlier part of the run has logged: the logger begins its file anew."""
    metrics = folder / "logs" / METRICS_FILE
    if metrics.is_file():
        number = len(list(metrics.parent.glob("metrics-*.csv")))
        metrics.rename(metrics.with_name(f"metrics-{number:03d}.csv"))


def _without_worker_traceback(error: VidaudioError) -> VidaudioError:
    """A loader process's error arrives with that process's traceback as text; its last line is the error itself."""
    last = str(error).strip().splitlines()[-1]
    return type(error)(last.partition(": ")[2]) if "Original Traceback" in str(error) else error


def streams(recipe: TrainRecipe, data: str) -> tuple[MixtureStream, MixtureStream | None]:
    """The training stream, and the validation stream where the corpus has that split with enough sources."""
    block = recipe.data
    shape = WindowShape(
        frames=block.window_frames,
        frame_spacing_seconds=block.frame_spacing_seconds,
        samples=recipe.model.front_end.window_samples,
        max_padding_seconds=block.max_padding_seconds,
    )
    common: dict[str, Any] = {"sources": block.sources, "shape": shape, "batch_size": block.batch_size}
    training = StreamConfig(split=recipe.split, seed=recipe.seed, gain_range=block.gain_range, **common)
    train_stream = MixtureStream(data, training)
    if recipe.validation.split not in train_stream.index.splits:
        return train_stream, None
    config = StreamConfig(split=recipe.validation.split, shuffle=False, gain_range=None, **common)
    return train_stream, MixtureStream(data, config)


def _check_sizes(recipe: TrainRecipe, index: TrainingIndex, folder: Path, resume: bool) -> None:
    if index.sample_rate != recipe.model.front_end.sample_rate:
        raise RecipeError(
            f"the corpus holds sound at {index.sample_rate} Hz and model.front_end.sample_rate is "
            f"{recipe.model.front_end.sample_rate}"
        )
    if resume and (folder / BEST_FILE).is_file():
        standing = load_checkpoint(folder)
        if standing.recipe.model != recipe.model or standing.recipe.system != recipe.system:
            raise CheckpointError(f"{folder} was trained with other model sizes than this recipe's; it cannot go on")
        if standing.encoder["weights_sha256"] != index.encoder["weights_sha256"]:
            raise CheckpointError(f"{folder} was trained on vectors of another encoder than this corpus holds")


def _text_tables(
    recipe: TrainRecipe, training: MixtureStream, validation: MixtureStream | None, weights: str | None
) -> dict[str, TextTable]:
    wanted = {"train": training} if recipe.query.train == "text" else {}
    if validation is not None and recipe.query.validation == "text":
        wanted["validation"] = validation
    if not wanted:
        return {}
    encoder = load_query_encoder(training.index.encoder, weights)
    tables = {}
    for name, stream in wanted.items():
        labels = stream.index.table["labels"].to_pylist()
        if not all(labels):
            raise CorpusError(f"text queries need a label on every clip; split {stream.config.split} has clips without")
        queries = text_queries(encoder, [row[0] for row in labels], recipe.query.templates)
        tables[name] = text_table(stream.index, queries)
    return tables


def _trainer(recipe: TrainRecipe, folder: Path, callbacks: list[pl.Callback]) -> pl.Trainer:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    precision = best_precision() if recipe.precision == "auto" else recipe.precision
    return pl.Trainer(
        max_steps=recipe.schedule.steps,
        accelerator="auto",
        devices=1,
        precision="bf16-mixed" if precision == "bfloat16" else "32-true",
        gradient_clip_val=recipe.optimiser.gradient_clip_norm,
        val_check_interval=min(recipe.validation.every_steps, recipe.schedule.steps),
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        log_every_n_steps=min(LOG_EVERY_STEPS, recipe.schedule.steps),
        logger=[CSVLogger(folder, name="logs", version=""), TensorBoardLogger(folder, name="tensorboard", version="")],
        callbacks=callbacks,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


class _Keeper(pl.Callback):
    """Writes the resumable state at every validation and at the end, and the weights whenever validation improves."""

    def __init__(self, folder: Path, recipe: TrainRecipe, encoder: dict[str, Any]) -> None:
        self.folder = folder
        self.recipe = recipe
        self.encoder = encoder
        self.best_loss = math.nan

    def state_dict(self) -> dict[str, Any]:
        return {"best_loss": self.best_loss}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best_loss = state_dict["best_loss"]

    def on_validation_end(self, trainer: pl.Trainer, module: SeparationModule) -> None:
        loss = float(trainer.callback_metrics.get("validation/loss", math.nan))
        if math.isfinite(loss) and not loss >= self.best_loss:
            self.best_loss = loss
            self._save_weights(trainer, module)
        self._save_state(trainer)

    def on_train_end(self, trainer: pl.Trainer, module: SeparationModule) -> None:
        if not (self.folder / BEST_FILE).is_file():
            self._save_weights(trainer, module)
        self._save_state(trainer)

    def on_exception(self, trainer: pl.Trainer, module: SeparationModule, exception: BaseException) -> None:
        # Ctrl-C and SIGTERM are ways to stop, and what was learned until then is worth keeping.
        if isinstance(exception, KeyboardInterrupt | SystemExit):
            self._save_state(trainer)

    def _save_weights(self, trainer: pl.Trainer, module: SeparationModule) -> None:
        metrics = {name: round(float(value), 6) for name, value in trainer.callback_metrics.items()}
        facts = {"metrics": json.loads(json.dumps(metrics).replace("NaN", "null"))}
        save_checkpoint(self.folder / BEST_FILE, module.model, self.recipe, self.encoder, trainer.global_step, facts)

    def _save_state(self, trainer: pl.Trainer) -> None:
        temporary = self.folder / f".{LAST_FILE}.tmp"
        trainer.save_checkpoint(temporary)
        os.replace(temporary, self.folder / LAST_FILE)


class _Bar(pl.Callback):
    """Steps done, time left, and the two numbers that say whether it learns."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def on_train_start(self, trainer: pl.Trainer, module: SeparationModule) -> None:
        self.bar = tqdm(total=self.steps, initial=trainer.global_step, desc="training", unit="step", dynamic_ncols=True)

    def on_train_batch_end(self, trainer: pl.Trainer, module: SeparationModule, *_: Any) -> None:
        self.bar.update(trainer.global_step - self.bar.n)
        if trainer.global_step % LOG_EVERY_STEPS == 0:
            shown = {
                "loss": trainer.callback_metrics.get("train/loss"),
                "SDRi": trainer.callback_metrics.get("validation/sdr_improvement"),
            }
            self.bar.set_postfix({k: f"{float(v):.3f}" for k, v in shown.items() if v is not None}, refresh=False)

    def on_train_end(self, trainer: pl.Trainer, module: SeparationModule) -> None:
        self.bar.close()
