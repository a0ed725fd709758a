"""Graceful stop: after a signal the current step is finished, all ranks stop at the same step, and its state is saved.

A step that is interrupted leaves weights that belong to no step. So a signal is only noted, and the note is read
between two steps. A second Ctrl-C ends a single process at once, and earlier states stay; among several ranks, whose
launcher may pass a signal on twice, it means no more than the first. SIGUSR1 is treated as SIGTERM.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from vidaudio.parent_process import end_with_parent
from vidaudio.training.distributed import RankConsensus, is_distributed
from vidaudio.training.signals import EARLY_WARNING, alias_sigusr1

SIGNALS = (signal.SIGTERM, signal.SIGINT)


def loader_worker_init(_worker: int) -> None:
    """Make a loader process live as long as the run, and no longer.

    Terminals, torchrun and batch systems signal loader processes too, and the step still needs its batch. A second
    SIGTERM ends the process: a loader that is shut down sends it to processes that do not end by themselves. If the run
    is killed, the process ends at once; by itself it would first wait until its batches are read, which nobody does.
    """

    def once(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGINT, EARLY_WARNING):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, once)
    end_with_parent(os.getppid())


class StoppedBySignal(Exception):
    """Error that ends training after a signal; the state of the run is saved."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by signal {number}")
        self.number = number


class GracefulStop:
    """Handler that notes signals during a run, and ends the run between two steps.

    Attributes:
        is_asked: Whether this process has noted a signal.
    """

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}
        self._note = 0
        self._in_main_thread = threading.current_thread() is threading.main_thread()
        self._consensus: RankConsensus | None = None

    def install(self) -> None:
        """Remember what signals do outside the run."""
        self._before = {number: signal.getsignal(number) for number in SIGNALS}
        self._before[EARLY_WARNING] = alias_sigusr1()

    def begin(self) -> None:
        """Note signals from now on; before, there is nothing to save."""
        self._consensus = RankConsensus()
        if self._in_main_thread:
            for number in SIGNALS:
                signal.signal(number, self._take_note)

    def restore(self) -> None:
        """Restore the handlers that signals had before."""
        if self._in_main_thread:
            for number, handler in self._before.items():
                signal.signal(number, handler)

    def end(self, number: int) -> None:
        """Call the handler that the signal had before the run, then exit with code 128 + the signal's number."""
        handler = self._before.get(number)
        if callable(handler):
            handler(number, None)
        raise SystemExit(128 + number)

    @property
    def is_asked(self) -> bool:
        """Return whether this process has noted a signal."""
        return bool(self._note)

    def raise_if_asked(self, save: Callable[[], None]) -> None:
        """If any rank has noted a signal, save and stop; every rank must call it.

        Args:
            save: Writes the state.

        Raises:
            StoppedBySignal: When the run is to stop.
        """
        assert self._consensus is not None, "a signal is asked for between `begin` and the end of the run"
        number = self._consensus.any(self._note)
        if number:
            save()
            raise StoppedBySignal(number)

    def _take_note(self, number: int, _frame: FrameType | None) -> None:
        if self._note and number == signal.SIGINT and not is_distributed():
            self.restore()
            self.end(number)
        self._note = self._note or number
