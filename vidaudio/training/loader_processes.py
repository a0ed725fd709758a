"""Loader processes of a run: each ends with the run, and its failures are explained in one sentence.

They ignore the first SIGTERM (`vidaudio.training.graceful_stop.loader_worker_init`), but Python sends exactly one at
exit and then waits without limit. So a run ends them itself, in three steps of limited time: by PyTorch's own shutdown,
by SIGTERM, by SIGKILL.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import multiprocessing.process
import re
import signal
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from typing import Any

from torch.utils.data import DataLoader

from vidaudio.errors import LoaderError, VidaudioError
from vidaudio.stream.loader_errors import SHARED_MEMORY, sent_error, sentence

ASKED_SECONDS = 6.0
TOLD_SECONDS = 1.0
NOTICED_SECONDS = 5.0
KILLED_SECONDS = 5.0
GOING_ON = "With --auto-resume, the same command goes on from the newest saved state, if there is one"


class LoaderProcesses:
    """Register of the processes of all loaders of a run."""

    def __init__(self) -> None:
        self._context = _RecordingContext()
        self._iterators: weakref.WeakSet = weakref.WeakSet()

    def watch(self, loader: DataLoader) -> DataLoader:
        """Register every process that a loader starts from now on; return the loader."""
        if loader.num_workers:
            loader.multiprocessing_context = self._context
            begin = loader._get_iterator

            def noted() -> Any:
                iterator = begin()
                self._iterators.add(iterator)
                return iterator

            loader._get_iterator = noted  # type: ignore[method-assign]
        return loader

    def end(self) -> None:
        """End all processes that still run, in limited time."""
        with _unwatched():
            if any(process.is_alive() for process in self._context.started):
                # In a thread, because PyTorch waits for some of its processes without limit.
                asking = threading.Thread(target=self._ask, name="end-loaders", daemon=True)
                asking.start()
                asking.join(ASKED_SECONDS)
            end_processes(self._context.started)

    def _ask(self) -> None:
        for iterator in list(self._iterators):
            # A process that this fails to end gets a signal afterwards.
            with contextlib.suppress(Exception):
                iterator._shutdown_workers()

    def explain(self, error: Exception) -> VidaudioError | None:
        """Return an error that explains a loader process's failure in a sentence; None for errors of another origin."""
        try:
            with _unwatched():
                return self._explain(error)
        except RuntimeError as raised:
            # PyTorch's handler was called before it could be suspended.
            return self._explain(raised)

    def _explain(self, error: Exception) -> VidaudioError | None:
        text = str(error)
        sent = sent_error(text)
        if sent is not None:
            kind, message = sent
            if isinstance(error, VidaudioError):
                ours = kind == type(error).__name__
                return type(error)(_going_on(message, error) if ours else text.splitlines()[-1])
            return LoaderError(_going_on(sentence("a loader process", f"{kind}: {message}" if message else kind)))
        if isinstance(error, VidaudioError):
            return None
        died = "DataLoader worker (pid" in text or "Pin memory thread exited" in text
        named = set(map(int, re.findall(r"\d+", text))) if died else set()
        is_cut_off = isinstance(error, ConnectionError | EOFError)
        if is_cut_off and not any(process.exitcode for process in self._context.started):
            # The system closes a process's connections, its sentinel among them, a moment before the process has ended.
            running = {process.sentinel: process for process in self._context.started if process.is_alive()}
            for sentinel in multiprocessing.connection.wait(running, NOTICED_SECONDS):
                running[sentinel].join(NOTICED_SECONDS)  # type: ignore[index]
        ended = [process for process in self._context.started if process.exitcode]
        codes = [process.exitcode for process in ended if process.pid in named] or [each.exitcode for each in ended]
        # A batch cannot be fetched from a process that has ended.
        if died or (codes and is_cut_off):
            return LoaderError(_going_on(sentence("a loader process", _how_it_ended(codes, text))))
        told = sentence(
            "starting loader processes", f"{type(error).__name__}: {text.splitlines()[0] if text else ''}", error
        )
        return LoaderError(_going_on(told)) if str(SHARED_MEMORY) in told or "ulimit" in told else None


def chain_of(error: Exception) -> Iterator[Exception]:
    """Yield an error and those that it was raised after or because of, the latest first."""
    current: BaseException | None = error
    while isinstance(current, Exception):
        yield current
        current = current.__cause__ or current.__context__


def end_processes(processes: Sequence[BaseProcess]) -> None:
    """End processes by SIGTERM, and those that survive it by SIGKILL; wait for each in limited time only."""
    for stop, seconds in (("terminate", TOLD_SECONDS), ("kill", KILLED_SECONDS)):
        alive = [process for process in processes if process.is_alive()]
        for process in alive:
            getattr(process, stop)()
        deadline = time.monotonic() + seconds
        for process in alive:
            process.join(max(0.0, deadline - time.monotonic()))
    for process in processes:
        if process.is_alive():
            # It hangs inside the system, on a disk that does not answer. At exit, Python would wait for it forever.
            multiprocessing.process._children.discard(process)  # type: ignore[attr-defined]


class _RecordingContext(BaseContext):
    """The default way of starting processes, with a record of them."""

    def __init__(self) -> None:
        self._real = multiprocessing.get_context()
        self._name = self._real.get_start_method()
        self.started: list[BaseProcess] = []

    def Process(self, *arguments: Any, **named: Any) -> BaseProcess:
        # Processes that ended without an error are dropped from the record.
        self.started = [process for process in self.started if process.pid is None or process.exitcode != 0]
        process = self._real.Process(*arguments, **named)
        self.started.append(process)
        return process


@contextlib.contextmanager
def _unwatched() -> Iterator[None]:
    """Suspend PyTorch's handler, which raises an error in the main thread when a signal ends a loader process."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, before)


def _how_it_ended(codes: Sequence[int | None], text: str) -> str:
    signals = [signal.Signals(-code) for code in codes if code is not None and -code in signal.valid_signals()]
    if signal.SIGBUS in signals or "bus error" in text.lower():
        return "Bus error"
    if signal.SIGKILL in signals or "signal: Killed" in text:
        return (
            "it was killed (SIGKILL). Where memory ran out, the system did that: use fewer loader processes "
            "(--set data.workers=1) or smaller batches"
        )
    if signals:
        return f"it was ended by {signals[0].name}"
    return f"it ended with code {codes[0]}" if codes else text.splitlines()[0]


def _going_on(message: str, error: Exception | None = None) -> str:
    # Of the package's errors, only those of loader processes do not say what to do.
    return message if error is not None and not isinstance(error, LoaderError) else f"{message}. {GOING_ON}"
