"""Pool of fetching processes that outlive a source and a shard, so that the next source on this worker finds one warm.

A process that is idle for `IDLE_SECONDS` is ended, since each holds 100 MB.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from vidaudio.media.fetch.fetcher import Fetcher
from vidaudio.media.fetch.rate_limit import RateLimiter
from vidaudio.media.fetch.types import ClipSpan, Fetched, FetchOptions, Traffic, is_remote

IDLE_SECONDS = 60.0

# Id of the process that started each fetcher (a fork must not use its parent's), the time since when it is idle, and
# the fetcher.
_idle: list[tuple[int, float, Fetcher]] = []
_lock = threading.Lock()
_timer: threading.Timer | None = None


def fetch_in_process(
    url: str,
    spans: Sequence[ClipSpan],
    folder: Path,
    options: FetchOptions,
    *,
    rate_limiter: RateLimiter | None = None,
    traffic: Traffic | None = None,
    stop: threading.Event | None = None,
) -> list[Fetched]:
    """Fetch one source in a separate process, see `Fetcher.fetch`; local files are handled in the calling process."""
    if not is_remote(url):
        # Imported here because it imports yt-dlp.
        from vidaudio.media.fetch.source import fetch_source

        return fetch_source(url, spans, folder, options, rate_limiter=rate_limiter, traffic=traffic, stop=stop)
    with _borrowed_fetcher() as one:
        return one.fetch(url, spans, folder, options, rate_limiter=rate_limiter, traffic=traffic, stop=stop)


@contextlib.contextmanager
def _borrowed_fetcher() -> Iterator[Fetcher]:
    starter = os.getpid()
    with _lock:
        place = next((place for place in reversed(range(len(_idle))) if _idle[place][0] == starter), None)
        one = Fetcher() if place is None else _idle.pop(place)[2]
    try:
        yield one
    except BaseException:
        one.close()
        raise
    with _lock:
        _idle.append((starter, time.monotonic(), one))
        _look_later()


def _look_later() -> None:
    global _timer
    if _timer is None or not _timer.is_alive():
        _timer = threading.Timer(IDLE_SECONDS, close_idle, (IDLE_SECONDS,))
        _timer.daemon = True
        _timer.start()


def close_idle(idle_seconds: float = 0.0) -> None:
    """End the processes that have been idle for at least `idle_seconds`."""
    global _timer
    now = time.monotonic()
    with _lock:
        stale = [entry for entry in _idle if now - entry[1] >= idle_seconds]
        _idle[:] = [entry for entry in _idle if now - entry[1] < idle_seconds]
        _timer = None
        if _idle:
            _look_later()
    for starter, _, one in stale:
        if starter == os.getpid():
            one.close()


atexit.register(close_idle)
