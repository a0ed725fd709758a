"""How fast one recipe trains on this machine: the training loop's own steps, on a batch that lies on the device or fed.

The family's module, `TrainingLoop` and `prepare_for_device` are what `vidaudio train` runs, so a step here is a step
there: front end, loss, backward, clipping, optimiser, schedule, in the recipe's precision. Only encoders that ran
before training are made up, see `benchmarks.recipe_parts`.
"""

from __future__ import annotations

import gc
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins import MixedPrecision
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.recipe_parts import Recipe, parts_of
from vidaudio.training.checkpoint import best_device
from vidaudio.training.checkpointing import RunFiles
from vidaudio.training.fabric import make_fabric, prepare_for_device
from vidaudio.training.graceful_stop import GracefulStop
from vidaudio.training.loader_processes import LoaderProcesses
from vidaudio.training.loop import TrainingLoop
from vidaudio.training.metrics_log import MetricsLogger

# Batches that a loader process reads ahead (`MixtureStream.loader`): they must be used up before its rate is looked at.
READ_AHEAD = 4
# Mixtures of the step whose operations are counted: BatchNorm needs two.
COUNTED = 2


@dataclass(frozen=True, slots=True)
class Clock:
    """What is measured: `windows` times `steps` steps, after `warm_up` steps."""

    warm_up: int
    steps: int
    windows: int


@dataclass(frozen=True, slots=True)
class StepRates:
    """What came out.

    Attributes:
        mixtures_per_second: Of every window.
        first_step_seconds: Of the step before all others, which compiles where the recipe says so.
        peak_memory_gib: That PyTorch held on the device; None on a processor.
        precision: As the trainer calls it.
    """

    mixtures_per_second: list[float]
    first_step_seconds: float
    peak_memory_gib: float | None
    precision: str

    @property
    def median(self) -> float:
        return statistics.median(self.mixtures_per_second)


class RecipeSteps:
    """A recipe's training on a corpus, ready to be timed; its model stays compiled from one timing to the next.

    Args:
        recipe: With `compile` or without.
        corpus: Packed, with what the recipe asks for: labels, pictures, the rate of its sound.

    Attributes:
        operations: Floating-point operations of matrix products and convolutions a mixture, forward and backward.
    """

    def __init__(self, recipe: Recipe, corpus: Path) -> None:
        self.recipe = recipe
        self._parts = parts_of(recipe, corpus)
        self.stream = self._parts.stream
        torch.manual_seed(recipe.seed)
        self._model = self._parts.make_model()
        self.operations = _operations(recipe, corpus)
        prepare_for_device(self._parts.make_module(recipe, self._model), recipe)

    def on_ready_batch(self, clock: Clock) -> StepRates:
        """Steps on one batch that lies on the device: what it can do at most."""
        return self._timed(True, self.recipe, clock)

    def fed(self, clock: Clock, workers: int) -> StepRates:
        """Steps on what so many loader processes read."""
        data = self.recipe.data.model_copy(update={"workers": workers})
        used_up = clock.warm_up + READ_AHEAD * workers
        longer = Clock(warm_up=used_up, steps=max(clock.steps, READ_AHEAD * workers), windows=clock.windows)
        return self._timed(False, self.recipe.model_copy(update={"data": data}), longer)

    def _timed(self, ready: bool, recipe: Recipe, clock: Clock) -> StepRates:
        module, task = self._parts.make_module(recipe, self._model), self._parts.make_task(recipe)
        loaders, stop, fabric = LoaderProcesses(), GracefulStop(), make_fabric(recipe)
        stop.install()
        with tempfile.TemporaryDirectory() as folder:
            loop = _TimedLoop(
                task,
                module,
                fabric=fabric,
                files=RunFiles(Path(folder), task),
                logger=MetricsLogger(Path(folder), recipe.data.batch_size, task.example, [], writes=False),
                stop=stop,
                loaders=loaders,
            )
            loop.clock, loop.ready = clock, ready
            try:
                loop.run()
            except _Done:
                pass
            finally:
                loaders.end()
                stop.restore()
        precision = "bf16-mixed" if isinstance(fabric.strategy.precision, MixedPrecision) else "32-true"
        return StepRates(loop.rates, loop.first_step_seconds, loop.peak_memory_gib, precision)


def _operations(recipe: Recipe, corpus: Path) -> float:
    """Operations a mixture, of a step that is not compiled, in a batch that leaves room for the rest."""
    data = recipe.data.model_copy(update={"batch_size": COUNTED, "accumulate": 1})
    recipe = recipe.model_copy(update={"data": data})
    parts, device = parts_of(recipe, corpus), best_device()
    module = parts.make_module(recipe, parts.make_model())
    module.to(device).device = device
    batch = next(iter(parts.stream))
    there = {name: each.to(device) if isinstance(each, Tensor) else each for name, each in batch.items()}
    with FlopCounterMode(display=False) as counter:
        module(there, step=0).backward()
    return counter.get_total_flops() / COUNTED


class _Done(Exception):
    """All windows are timed."""


class _TimedLoop(TrainingLoop):
    """Loop that times windows of steps, waits for the device at their borders alone, and ends after the last one.

    Attributes:
        clock: What is measured.
        ready: Whether the stream's first batch, on the device already, is trained on again and again.
    """

    clock: Clock
    ready: bool

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.rates: list[float] = []
        self.first_step_seconds = 0.0
        self.peak_memory_gib: float | None = None

    def fetch(self, batches: Iterator[dict[str, Any]]) -> dict[str, Any]:
        batch = super().fetch(batches)
        if self.steps_done == 0:
            if self.fabric.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(self.fabric.device)
            self._began = self._now()
        return batch

    def _training_batches(self) -> Iterator[dict[str, Any]]:
        if not self.ready:
            return super()._training_batches()
        stream = self.task.train_stream
        stream.set_start_step(0)
        return itertools.repeat(self.fabric.to_device(next(iter(stream))))

    def finish_step(self, loss: Tensor) -> None:
        super().finish_step(loss)
        if self.steps_done == 1:
            self.first_step_seconds = self._now() - self._began
        windows, rest = divmod(self.steps_done - self.clock.warm_up, self.clock.steps)
        if windows < 0 or rest:
            return
        now = self._now()
        if windows:
            self.rates.append(self.clock.steps * self.task.recipe.data.batch_size / (now - self._window_began))
        self._window_began = now
        if windows == self.clock.windows:
            if self.fabric.device.type == "cuda":
                self.peak_memory_gib = torch.cuda.max_memory_allocated(self.fabric.device) / 2**30
            raise _Done

    def _now(self) -> float:
        """Return the time once the device has done all it was given, seconds."""
        if self.fabric.device.type == "cuda":
            torch.cuda.synchronize(self.fabric.device)
        return time.perf_counter()


def forget_compiled() -> None:
    """Let go of a variant that is done with: its compiled code and its memory on the device."""
    gc.collect()
    torch.compiler.reset()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def compile_into(folder: Path) -> None:
    """Keep compiled kernels there, not where earlier runs have left theirs: what compiling takes is to be seen."""
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder)
