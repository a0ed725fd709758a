"""Stopping in order: a signal lets the step end, all ranks stop at the same one, and its state is saved.

A step that is cut off in its middle leaves weights that belong to no step; so a signal only leaves a note, which is
looked at between two steps. A second Ctrl-C ends a lone process at once, and what was saved before stands; among ranks,
whose launcher may hand on a signal twice, it means no more than the first. SIGUSR1 is SIGTERM by another name.
"""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl

from vidaudio.parent_process import end_with_parent
from vidaudio.training.distributed import RankConsensus, is_distributed
from vidaudio.training.signals import EARLY_WARNING, alias_sigusr1

if TYPE_CHECKING:
    from vidaudio.training.checkpointing import CheckpointCallback

SIGNALS = (signal.SIGTERM, signal.SIGINT)


def loader_worker_init(_worker: int) -> None:
    """For loader processes: to live as long as the run does, and no longer.

    Terminals, torchrun and batch systems signal them too, and the step still needs its batch. A second SIGTERM ends
    them: a loader that is shut down sends it to processes that do not end by themselves. Where the run is killed they
    end at once: by themselves they would first wait for what they have sent to be read, which nobody does any more.
    """

    def once(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGINT, EARLY_WARNING):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, once)
    end_with_parent(os.getppid())


class StoppedBySignal(Exception):
    """Training has stopped because of a signal, its state saved."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by signal {number}")
        self.number = number


class GracefulStop(pl.Callback):
    """Stops the run after a signal; behind those callbacks that are part of the step.

    Args:
        keeper: Saves the state.
    """

    def __init__(self, checkpoints: CheckpointCallback) -> None:
        self._checkpoints = checkpoints
        self._before: dict[int, Any] = {}
        self._note = 0
        self._mine = threading.current_thread() is threading.main_thread()

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._agreement = RankConsensus()
        self._seen = trainer.global_step
        if self._mine:
            # Only now: Lightning has put its own handlers in place, and until now there was nothing to save.
            for number in SIGNALS:
                signal.signal(number, self._take_note)

    def install(self) -> None:
        """Remember what signals do outside the run."""
        self._before = {number: signal.getsignal(number) for number in SIGNALS}
        self._before[EARLY_WARNING] = alias_sigusr1()

    def restore(self) -> None:
        """Let signals do again what they did before."""
        if self._mine:
            for number, handler in self._before.items():
                signal.signal(number, handler)

    def end(self, number: int) -> None:
        """Do what the signal does outside the run; end the process by its number where it does nothing special."""
        handler = self._before.get(number)
        if callable(handler):
            handler(number, None)
        raise SystemExit(128 + number)

    def _take_note(self, number: int, _frame: FrameType | None) -> None:
        if self._note and number == signal.SIGINT and not is_distributed():
            self.restore()
            self.end(number)
        self._note = self._note or number

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        if trainer.global_step > self._seen:
            self._seen = trainer.global_step
            self._stop_if_wanted(trainer)

    def on_validation_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        # Ranks have unequal numbers of these batches; one that was told waits for the others at the validation's end.
        if self._note:
            self._stop_if_wanted(trainer)

    def on_validation_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._stop_if_wanted(trainer)

    def _stop_if_wanted(self, trainer: pl.Trainer) -> None:
        number = self._agreement.any(self._note)
        if number:
            self._checkpoints.save_state(trainer)
            raise StoppedBySignal(number)
