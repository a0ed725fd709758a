"""Progress inside a shard: workers report how many clips a stage has done, and the driver moves its bar.

A shard may take minutes and a short build has only a few shards, so a bar that moves by whole shards shows nothing for
long. Reports travel as Dask events, at most one a second and task. They decide nothing: a lost report only delays the
bar.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distributed import Client

SECONDS_BETWEEN_REPORTS = 1.0

# Progress callback of a stage; its argument is the number of clips done since the last call.
Advance = Callable[[int], None]


def ignore_progress(clips: int) -> None:
    """Ignore the report: a stage that is called directly has no driver."""


def report_progress(topic: str, shard: int, stage: str) -> Advance:
    """Return the progress callback of a stage; it may be called from any of the stage's threads.

    Outside a Dask worker, return `ignore_progress`.

    Args:
        topic: Dask topic of the run, the one that `watch_progress` subscribes to.
        shard: Shard number.
        stage: Name of the stage.
    """
    from distributed import get_worker

    try:
        worker = get_worker()
    except ValueError:
        return ignore_progress
    lock = threading.Lock()
    done, last = 0, time.monotonic()

    def advance(clips: int) -> None:
        nonlocal done, last
        with lock:
            done += clips
            if time.monotonic() - last < SECONDS_BETWEEN_REPORTS:
                return
            last = time.monotonic()
            worker.log_event(topic, {"shard": shard, "stage": stage, "clips": done})

    return advance


@contextmanager
def watch_progress(client: Client, topic: str, heard: Callable[[int, str, int], None]) -> Iterator[None]:
    """Call `heard(shard, stage, clips)` for every report of a run, in a thread of the Dask client."""

    def handle(event: tuple[Any, dict[str, Any]]) -> None:
        _, report = event
        heard(report["shard"], report["stage"], report["clips"])

    client.subscribe_topic(topic, handle)
    try:
        yield
    finally:
        client.unsubscribe_topic(topic)
