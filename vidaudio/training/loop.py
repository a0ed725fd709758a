"""Training loop: steps, validations, states and logs of a run, on one process or several.

The loop counts the steps of the run itself (`steps_done`), whatever the number of optimisers, ranks and accumulated
parts. A run is validated, saved and stopped only between two steps, when everything about it is known.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.utils.data import DataLoader

from vidaudio.errors import CheckpointError, TrainingError
from vidaudio.stream.loader import MixtureStream
from vidaudio.text import first_line
from vidaudio.training.base import ScheduledOptimiser, TrainingModule, TrainingTask
from vidaudio.training.checkpointing import RunFiles, set_generators
from vidaudio.training.distributed import broadcast_from_rank0, current_rank
from vidaudio.training.ema import PowerEma, make_average
from vidaudio.training.graceful_stop import GracefulStop, loader_worker_init
from vidaudio.training.loader_processes import LoaderProcesses
from vidaudio.training.loss_band import BandWatch
from vidaudio.training.metrics_log import MetricsLogger
from vidaudio.training.progress import ProgressBar

_log = logging.getLogger(__name__)

# A validation is short, and its loader is started again each time.
MAX_VALIDATION_WORKERS = 2


class TrainingLoop:
    """Loop of one start of a run.

    Args:
        task: Task of the run.
        module: Module to train, with initial weights.
        fabric: Launched Fabric.
        files: Writer of states and best weights.
        logger: Writer of numbers and samples.
        stop: Handler that notes signals and ends the run between two steps.
        loaders: Register of the run's loader processes.
        bar: Function from the steps done to a progress bar; None for no bar.

    Attributes:
        steps_done: Steps of the run that are done.
        numbers: Numbers of the last validation of this start; None before the first one.
        band: Comparison of the loss with the recipe's band; None if the recipe has none.
    """

    def __init__(
        self,
        task: TrainingTask,
        module: TrainingModule,
        *,
        fabric: Fabric,
        files: RunFiles,
        logger: MetricsLogger,
        stop: GracefulStop,
        loaders: LoaderProcesses,
        bar: Callable[[int], ProgressBar] | None = None,
    ) -> None:
        self.task, self.module, self.fabric = task, module, fabric
        self._recipe = task.recipe
        self._files, self._logger, self._stop, self._loaders = files, logger, stop, loaders
        self._make_bar = bar
        self._bar: ProgressBar | None = None
        self.steps_done = 0
        self.numbers: dict[str, float] | None = None
        self.band = None if self._recipe.band is None else BandWatch(self._recipe.band)
        self._distributed = current_rank().world_size > 1
        self._gradient_norms: dict[str, Tensor] = {}
        self._rates: dict[str, float] = {}
        self.optimisers: Sequence[ScheduledOptimiser] = module.optimisers()
        self.wrapped, *self._wrapped_optimisers = fabric.setup(module, *(each.optimiser for each in self.optimisers))
        for each in self.optimisers:
            for group in each.optimiser.param_groups:
                group.setdefault("initial_lr", group["lr"])
        module.device = fabric.device
        if self._recipe.average is not None:
            module.average = make_average(module.model, self._recipe.average)

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a state, see `vidaudio.training.state_reading.read_state`.

        Raises:
            CheckpointError: When the optimisers' states do not fit.
        """
        self.steps_done = state["steps_done"]
        self.module.load_state_dict(state["weights"])
        try:
            for each, saved in zip(self.optimisers, state["optimisers"], strict=True):
                each.optimiser.load_state_dict(saved)
        except (KeyError, ValueError, TypeError) as error:
            raise CheckpointError(
                f"the optimisers in the state do not fit this recipe's ({first_line(error)}); begin a new run with its "
                f"weights: --init {self._files.folder}"
            ) from error
        if self._recipe.band is not None:
            self.band = BandWatch(self._recipe.band, state.get("band"))
        # If the run had no average until now, the average begins with the weights of the state.
        if self._recipe.average is not None and self.module.average is not None:
            if state["average"] is not None:
                self.module.average.load_state_dict(state["average"])
            else:
                self.module.average = make_average(self.module.model, self._recipe.average)

    def run(self, generators: Sequence[Mapping[str, Any]] | None = None) -> None:
        """Train up to the recipe's number of steps.

        Args:
            generators: States of the ranks' random generators in the state that was loaded; None for a new run.

        Raises:
            StoppedBySignal: When a signal stopped the run; its state is saved.
            VidaudioError: When gradients are not finite.
        """
        steps = self._recipe.schedule.steps
        self._files.remove_superfluous(self.steps_done)
        self._logger.begin(self.steps_done)
        self._stop.begin()
        self._bar = self._make_bar(self.steps_done) if self._make_bar is not None else None
        try:
            batches = self._training_batches() if self.steps_done < steps else iter(())
            if generators is not None and len(generators) == self.fabric.world_size:
                set_generators(generators[self.fabric.global_rank])
            if self._recipe.is_validated_after(self.steps_done) and self._files.validated_step != self.steps_done:
                # The run was stopped between this step and its validation.
                self.validate()
            while self.steps_done < steps:
                self.finish_step(self.step(batches))
                self._save_snapshot_if_due()
                self._stop_if_asked()
                if self._recipe.state.every_steps and self.steps_done % self._recipe.state.every_steps == 0:
                    self._require_finite()
                    self._files.save_periodic(self.training_state(), self.steps_done)
                    self.fabric.barrier()
                if self._recipe.is_validated_after(self.steps_done):
                    self.validate()
            self._files.save_unvalidated(self.module, self.numbers or {}, self.steps_done)
            self.save()
        finally:
            if self._bar is not None:
                self._bar.close()
            self._logger.close()

    def step(self, batches: Iterator[dict[str, Any]]) -> Tensor:
        """Make one step of every optimiser that is due; return the loss of the last part."""
        parts: list[dict[str, Any]] = []
        for each, wrapped in zip(self.optimisers, self._wrapped_optimisers, strict=True):
            if not each.is_due(self.steps_done):
                continue
            self._set_rate(each)
            wrapped.zero_grad()
            for number in range(self._recipe.data.accumulate):
                if number == len(parts):
                    batch = self.fetch(batches)
                    parts.append(batch if len(self.optimisers) > 1 else {})
                else:
                    batch = parts[number]
                loss = self.backward(batch, each, is_last=number == self._recipe.data.accumulate - 1)
            self.update(each, wrapped)
        self.steps_done += 1
        return loss

    def fetch(self, batches: Iterator[dict[str, Any]]) -> dict[str, Any]:
        """Return the next part of a batch, on the device."""
        with self._logger.waiting():
            batch = next(batches)
        return self.fabric.to_device(batch)

    def backward(self, batch: Mapping[str, Any], optimiser: ScheduledOptimiser, *, is_last: bool) -> Tensor:
        """Add the gradients of a part of the step; return its loss."""
        unsynced = self._distributed and not is_last
        with self.fabric.no_backward_sync(self.wrapped) if unsynced else nullcontext():
            loss = self.wrapped(batch, step=self.steps_done, optimiser=optimiser.name)
            self.fabric.backward(loss / self._recipe.data.accumulate)
        return loss.detach()

    def update(self, optimiser: ScheduledOptimiser, wrapped: Any) -> None:
        """Clip the gradients and make the optimiser's step."""
        limit = math.inf if optimiser.gradient_clip_norm is None else optimiser.gradient_clip_norm
        norm = self.fabric.clip_gradients(self.wrapped, wrapped, max_norm=limit, error_if_nonfinite=False)
        if norm is not None:
            self._gradient_norms[optimiser.name] = norm
        wrapped.step()

    def finish_step(self, loss: Tensor) -> None:
        """Update the average, the log and the progress bar after a step."""
        if self.module.average is not None:
            self.module.average.update(self.module.model)
        if self.steps_done % self._recipe.log_every_steps == 0:
            numbers = self._step_numbers()
            self._logger.log_step(self.steps_done, {**numbers, **self._compare_with_band(numbers)})
            self._require_finite()
        if self._bar is not None:
            self._bar.update(self.steps_done, loss, self.task.headline(self.numbers or {}))

    def validate(self) -> None:
        """Validate, and save the state and, if they are the best, the weights."""
        if self.task.validation_stream is None:
            return
        modes = {part: part.training for part in self.module.modules()}
        self.module.eval()
        with torch.inference_mode(), self._logger.paused():
            # Each rank has BatchNorm statistics of its own parts; all must validate the model that is saved, rank 0's.
            buffers = [*self.module.buffers()]
            if self.module.average is not None:
                buffers += self.module.average.model.buffers()
            broadcast_from_rank0([buffer for buffer in buffers if buffer.is_floating_point()])
            self.module.begin_validation()
            for batch in self._validation_batches():
                if self._stop.is_asked:
                    # Ranks have unequal numbers of batches; one that was asked waits until the others reach the end.
                    self._stop_if_asked()
                self.validate_batch(batch)
            # Before the ranks gather their numbers: a rank that was asked is waiting for the others' consensus already.
            self._stop_if_asked()
            self.numbers = self.module.end_validation()
            self._files.save_if_best(self.module, self.numbers, self.steps_done)
            if self._logger.writers and self._recipe.validation.shown:
                with self.fabric.autocast():
                    self.task.log_samples(self.module, self._logger.writers, self.steps_done)
        for part, mode in modes.items():
            part.training = mode
        self._logger.log_validation(self.steps_done, self.numbers)
        self.save()

    def validate_batch(self, batch: Mapping[str, Any]) -> None:
        """Add a batch to the running validation."""
        with self.fabric.autocast():
            self.module.validate(self.fabric.to_device(batch))

    def save(self) -> None:
        """Write `last.ckpt`; all ranks call it, and leave together."""
        self._require_finite()
        self._files.save_last(self.training_state(), self.steps_done)
        self.fabric.barrier()

    def training_state(self) -> dict[str, Any]:
        """Return weights, optimisers, average and loss band, as a state keeps them."""
        return {
            "weights": self.module.state_dict(),
            "optimisers": [each.optimiser.state_dict() for each in self.optimisers],
            "average": None if self.module.average is None else self.module.average.state_dict(),
            "band": None if self.band is None else self.band.state(),
        }

    def _save_snapshot_if_due(self) -> None:
        """Write the power-function averages, always before the state of the same step; all ranks call it."""
        block, average = self._recipe.average, self.module.average
        if block is None or not isinstance(average, PowerEma):
            return
        if self.steps_done % block.snapshot_every_steps == 0 or self.steps_done == self._recipe.schedule.steps:
            self._require_finite()
            self._files.save_snapshot(average.weights(), self.steps_done, half=block.snapshot_precision == "float16")
            self.fabric.barrier()

    def _training_batches(self) -> Iterator[dict[str, Any]]:
        stream = self.task.train_stream
        # Only the number of steps is an exact position: a loader always reads ahead of it.
        stream.set_start_step(self.steps_done * self._recipe.data.accumulate)
        return iter(self._loader(stream, self._recipe.data.workers))

    def _validation_batches(self) -> Iterator[dict[str, Any]]:
        stream = self.task.validation_stream
        assert stream is not None, "without a validation split, nothing is validated"
        workers = min(self._recipe.data.workers, MAX_VALIDATION_WORKERS)
        return iter(self._loader(stream, workers))

    def _loader(self, stream: MixtureStream, workers: int) -> DataLoader:
        stream.set_rank(self.fabric.global_rank, self.fabric.world_size)
        loader = stream.loader(workers=workers)
        loader.worker_init_fn = loader_worker_init
        return self._loaders.watch(loader)

    def _set_rate(self, optimiser: ScheduledOptimiser) -> None:
        factor = optimiser.rate_factor(optimiser.own_steps(self.steps_done))
        for group in optimiser.optimiser.param_groups:
            group["lr"] = group["initial_lr"] * factor
        self._rates[optimiser.name] = optimiser.optimiser.param_groups[0]["lr"]

    def _step_numbers(self) -> dict[str, float]:
        numbers = self.module.take_step_numbers()
        for each in self.optimisers:
            ending = f"/{each.name}" if len(self.optimisers) > 1 else ""
            numbers[f"train/learning_rate{ending}"] = self._rates.get(each.name, math.nan)
            numbers[f"train/gradient_norm{ending}"] = float(self._gradient_norms.get(each.name, math.nan))
        return numbers

    def _compare_with_band(self, numbers: Mapping[str, float]) -> Mapping[str, float]:
        """Warn on rank 0 if the run has just left the recipe's band; return what the log keeps of the comparison."""
        if self.band is None:
            return {}
        warning = self.band.update(self.steps_done, numbers)
        if warning is not None and self.fabric.is_global_zero:
            _log.warning(warning)
        return self.band.numbers

    def _stop_if_asked(self) -> None:
        self._stop.raise_if_asked(self.save)

    def _require_finite(self) -> None:
        """Raise an error before anything is saved if gradients are not finite: they are already in the weights.

        All ranks have the same gradients, so all raise it.
        """
        for norm in map(float, self._gradient_norms.values()):
            if not math.isfinite(norm):
                remedy = (
                    "the last saved state stands. Go on from it in precision=float32, or begin anew with a lower "
                    "optimiser.learning_rate"
                    if self._files.has_state
                    else "nothing was saved before. Begin anew in precision=float32, or with a lower "
                    "optimiser.learning_rate"
                )
                raise TrainingError(
                    f"the gradients of step {self.steps_done} are not finite (their norm is {norm}); {remedy}"
                )
