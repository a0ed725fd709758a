"""Parallel scoring: a pool of processes, each with one thread, that holds a bounded number of items in memory.

This module does not import NumPy at its top: a worker sets its thread counts first and loads the linear algebra later.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING

from vidaudio.errors import VidaudioError
from vidaudio.parent_process import end_with_parent

if TYPE_CHECKING:
    import numpy as np

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def score_many(
    items: Iterable[tuple[np.ndarray, np.ndarray]],
    processes: int,
    *,
    progress: Callable[[int], None] | None = None,
) -> list[dict[str, float] | None]:
    """Return `museval_scores` of many items, in their order.

    Args:
        items: Pairs of references and estimates, each [n, L]; drawn as workers need them, at most two per worker ahead.
        processes: Number of worker processes; 1 scores in the calling process.
        progress: Called with the number of items done, after each item.

    Raises:
        ValueError: When `processes` is below 1, or `museval_scores` raises it.
        VidaudioError: When a worker process dies.
    """
    if processes < 1:
        raise ValueError(f"processes is {processes}: it must be at least 1.")
    scores: list[dict[str, float] | None] = []
    for score in _in_this_process(items) if processes == 1 else _in_pool(items, processes):
        scores.append(score)
        if progress is not None:
            progress(len(scores))
    return scores


def _in_this_process(items: Iterable[tuple[np.ndarray, np.ndarray]]) -> Iterator[dict[str, float] | None]:
    return (_score(*item) for item in items)


def _in_pool(items: Iterable[tuple[np.ndarray, np.ndarray]], processes: int) -> Iterator[dict[str, float] | None]:
    context = multiprocessing.get_context("spawn")
    with (
        _readable_deaths(),
        ProcessPoolExecutor(processes, mp_context=context, initializer=_prepare, initargs=(os.getpid(),)) as pool,
    ):
        waiting: deque[Future[dict[str, float] | None]] = deque()
        try:
            for references, estimates in items:
                waiting.append(pool.submit(_score, references, estimates))
                if len(waiting) >= 2 * processes:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


@contextlib.contextmanager
def _readable_deaths() -> Iterator[None]:
    try:
        yield
    except BrokenProcessPool:
        raise VidaudioError(
            "a process that scores died, mostly because memory ran out; use fewer of them (--processes 1)"
        ) from None


def _prepare(parent: int) -> None:
    """Limit the worker to one thread, and end it with the process that started it."""
    end_with_parent(parent)
    for name in THREAD_VARIABLES:
        os.environ[name] = "1"


def _score(references: np.ndarray, estimates: np.ndarray) -> dict[str, float] | None:
    from vidaudio.separation.sdr import museval_scores

    return museval_scores(references, estimates)
