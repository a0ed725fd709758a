"""What a run writes down as it goes: numbers into logs/metrics.csv and TensorBoard or W&B, and how fast it went.

Every number is of a whole step, over all ranks and accumulated parts, so that it does not depend on their number. Steps
count from 1: the row of step 50 is about what the 50th step of the optimiser did.
"""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl

from vidaudio.errors import RecipeError
from vidaudio.files import atomic_write, naming, remove_temporaries

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger

    from vidaudio.tasks.separation.module import SeparationModule
    from vidaudio.training.blocks import LogBlock

LOGS_FOLDER, METRICS_FILE, WANDB_FILE = "logs", "metrics.csv", "wandb_id.txt"


class MetricsFile:
    """A CSV file that goes on where a run goes on: rows of steps that are made again are dropped.

    Args:
        path: Of the file.
        step: Steps the run has made so far.
    """

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_temporaries(path.parent, path.name)
        self._columns, rows = ["step"], []
        if path.is_file():
            with path.open(newline="", encoding="utf-8") as file:
                reader = csv.DictReader(file)
                # The last line may be cut off where the process was killed.
                rows = [row for row in reader if (row.get("step") or "").isdigit() and int(row["step"]) <= step]
                self._columns = list(reader.fieldnames or self._columns)
        self._rows = rows
        self._write_all()

    def add(self, step: int, numbers: Mapping[str, float]) -> None:
        row: dict[str, Any] = {"step": step, **{name: repr(float(value)) for name, value in numbers.items()}}
        self._rows.append(row)
        new = [name for name in row if name not in self._columns]
        if new:
            self._columns = ["step", *sorted({*self._columns, *new} - {"step"})]
            self._write_all()
            return
        with naming(self.path), self.path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self._columns).writerow(row)

    def _write_all(self) -> None:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self._columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(self._rows)
        with atomic_write(self.path) as temporary:
            temporary.write_text(text.getvalue(), encoding="utf-8")


def make_logger(block: LogBlock, folder: Path, step: int) -> Logger | None:
    """TensorBoard's or W&B's, going on at a step; None for none.

    Raises:
        RecipeError: W&B is wanted and not installed.
    """
    if block.to == "tensorboard":
        from lightning.pytorch.loggers import TensorBoardLogger

        # What a killed process had logged of steps that are made again is hidden.
        return TensorBoardLogger(folder, name="tensorboard", version="", purge_step=step + 1 if step else None)
    if block.to == "wandb":
        from lightning.pytorch.loggers import WandbLogger

        remembered = folder / WANDB_FILE
        known = remembered.read_text().strip() if remembered.is_file() else None
        try:
            logger = WandbLogger(
                name=folder.name, project=block.wandb_project, save_dir=folder, id=known, resume="allow"
            )
        except ModuleNotFoundError:
            raise RecipeError(
                "log.to is wandb, and wandb is not installed: pip install wandb, or --set log.to=tensorboard"
            ) from None
        with atomic_write(remembered) as temporary:
            temporary.write_text(f"{logger.version or logger.experiment.id}\n")
        return logger
    return None


class MetricsLogger(pl.Callback):
    """Writes the numbers of every so many steps, and of every validation. Only rank 0 writes.

    Args:
        folder: Of the run.
        every_steps: How often.
        batch_size: Mixtures a step.
        writes: This is rank 0.
    """

    def __init__(self, folder: Path, every_steps: int, batch_size: int, *, writes: bool) -> None:
        self._path = folder / LOGS_FOLDER / METRICS_FILE
        self._every_steps = every_steps
        self._batch_size = batch_size
        self._writes = writes
        self._file: MetricsFile | None = None

    def on_train_start(self, trainer: pl.Trainer, module: SeparationModule) -> None:
        if self._writes:
            self._file = MetricsFile(self._path, trainer.global_step)
        self._begin(trainer)
        self._batch_ended = time.perf_counter()

    def _begin(self, trainer: pl.Trainer) -> None:
        self._began, self._first_step = time.perf_counter(), trainer.global_step
        self._waited = self._elsewhere = 0.0

    def on_train_batch_start(self, trainer: pl.Trainer, module: SeparationModule, *_: Any) -> None:
        self._waited += time.perf_counter() - self._batch_ended

    def on_train_batch_end(self, trainer: pl.Trainer, module: SeparationModule, *_: Any) -> None:
        step = trainer.global_step
        if step > self._first_step and step % self._every_steps == 0:
            numbers = module.take_step_numbers()
            seconds = max(time.perf_counter() - self._began - self._elsewhere, 1e-9)
            numbers["speed/mixtures_per_second"] = (step - self._first_step) * self._batch_size / seconds
            numbers["speed/waiting_for_data"] = self._waited / seconds
            self.write(trainer, step, numbers)
            module.require_finite()
            self._begin(trainer)
        self._batch_ended = time.perf_counter()

    def on_validation_start(self, trainer: pl.Trainer, module: SeparationModule) -> None:
        self._validation_began = time.perf_counter()

    def on_validation_end(self, trainer: pl.Trainer, module: SeparationModule) -> None:
        if module.validation_numbers is not None:
            self.write(trainer, trainer.global_step, module.validation_numbers)
        self._batch_ended = time.perf_counter()
        self._elsewhere += self._batch_ended - self._validation_began

    def write(self, trainer: pl.Trainer, step: int, numbers: Mapping[str, float]) -> None:
        if self._file is None:
            return
        self._file.add(step, numbers)
        for logger in trainer.loggers:
            logger.log_metrics(dict(numbers), step)
