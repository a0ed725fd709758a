"""Fetching of sources in a separate process, which may hang, crash or exhaust memory at the cost of one source only.

The process sends the requests. Everything that must outlive the process stays here: the rate limiter that grants every
request, the counts, the deadline. Time spent waiting for a site's rate limit does not count towards the source's
deadline. The parent knows exactly how long that was, because the process asks it for every request.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import pickle
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from vidaudio.errors import VidaudioError
from vidaudio.media.fetch.messages import OUT_OF_MEMORY, read_fetched
from vidaudio.media.fetch.rate_limit import MemoryRateLimiter, RateLimiter, RateLimiterUnreachable
from vidaudio.media.fetch.types import ClipSpan, Fetched, FetchOptions, Traffic
from vidaudio.media.outcomes import Outcome, Reason
from vidaudio.media.worker_limits import GIBIBYTE
from vidaudio.media.worker_process import PACKAGES, WorkerDied, WorkerLate, WorkerProcess

# Code that the process runs after its start; it imports from the same path as the process that starts it.
CHILD = "from vidaudio.media.fetch.worker import main; main()"
# Time after a source's deadline until the process is killed: it may still report what had arrived by then.
GRACE_SECONDS = 2.0
# A process that waits for a turn asks again every second. One that is silent for longer is not waiting.
LONGEST_SILENCE_SECONDS = 60.0
# Longest time to start and import yt-dlp; the file system may be slow and remote.
START_SECONDS = 300.0
# Crashes of the process after which its source fails. The second process has fetched nothing else before.
DEATHS = 2
# A process is replaced once it holds more than this share of its memory limit, to leave the next source enough.
WORN_OUT = 0.5
# Errors about the options; the process passes them on under their own names.
_ERRORS = {kind.__name__: kind for kind in (ValueError, ImportError, ModuleNotFoundError, AttributeError, TypeError)}
# Signals by which the kernel ends a process that has exceeded its time limits, if the parent has not ended it.
_TIME_SIGNALS = frozenset({signal.SIGALRM, signal.SIGXCPU})
_log = logging.getLogger(__name__)
_log.addHandler(logging.NullHandler())


class FetcherCannotStart(VidaudioError):
    """Failure to start the fetching process; no source can be fetched on this machine."""


class Fetcher(WorkerProcess):
    """One fetching process, replaced after it has died or was killed. Must not be shared between threads."""

    what = "the fetching process"
    own_group = True  # yt-dlp starts a JavaScript runtime

    def fetch(
        self,
        url: str,
        spans: Sequence[ClipSpan],
        folder: Path,
        options: FetchOptions,
        *,
        rate_limiter: RateLimiter | None = None,
        traffic: Traffic | None = None,
        stop: threading.Event | None = None,
    ) -> list[Fetched]:
        """Fetch one source as `vidaudio.media.fetch.source.fetch_source` does, with the same arguments and errors.

        Returns:
            The result of each clip. If the process hangs, dies or runs out of memory, that is an outcome too.

        Raises:
            FetcherCannotStart: When the process does not start, regardless of the source.
        """
        rate_limiter, traffic = rate_limiter or MemoryRateLimiter(), Traffic() if traffic is None else traffic
        stop = stop or threading.Event()
        deaths = 0
        while True:
            staging: Path | None = None
            session = _Session(options, rate_limiter, traffic, stop)
            try:
                folder.mkdir(parents=True, exist_ok=True)
                # Files that a killed process leaves behind are deleted with this folder.
                staging = Path(tempfile.mkdtemp(prefix=".fetching-", dir=folder))
                answer = self._converse(url, spans, staging, session)
                return [_moved(clip, folder) for clip in self._read(answer, session)]
            except (WorkerDied, WorkerLate) as error:
                self.close()
                if session.lost is not None:
                    raise session.lost from error
                outcome = session.too_late() if isinstance(error, WorkerLate) else _of_death(error, options)
                deaths += outcome.reason is Reason.CRASH
                # A first crash proves nothing against this source: earlier sources may have broken the process.
                if outcome.reason is not Reason.CRASH or deaths == DEATHS:
                    return _all(spans, outcome)
            except OSError as error:  # from the folder
                self.close()
                # Imported here because it imports yt-dlp, which this process otherwise does not need.
                from vidaudio.media.fetch.reasons import failure

                return _all(spans, failure(error))
            except BaseException:
                self.close()
                raise
            finally:
                session.settle()
                if staging is not None:
                    shutil.rmtree(staging, ignore_errors=True)

    def _code(self) -> str:
        return f"import sys; sys.path[:] = {_module_path()!r}; {CHILD}"

    def _environment(self) -> dict[str, str]:
        # Each glibc arena reserves memory; a process that mostly waits for the network needs few arenas.
        return {"MALLOC_ARENA_MAX": "2", **super()._environment()}

    def _start(self) -> None:
        if self._process is not None and self._process.poll() is None:
            return
        try:
            with tempfile.TemporaryFile() as errors:
                try:
                    self._started(errors)
                    self._read_line(time.monotonic() + START_SECONDS)
                except WorkerDied as death:
                    if death.code < 0:
                        raise  # killed from outside; the same may happen to later processes
                    errors.seek(0)
                    last = errors.read().decode(errors="replace").strip().rpartition("\n")[2]
                    raise FetcherCannotStart(f"{self.what} does not start ({last or death})") from death
        except WorkerLate:
            raise FetcherCannotStart(f"{self.what} has not started within {START_SECONDS:g} s") from None
        except OSError as error:
            raise FetcherCannotStart(f"{self.what} does not start ({error})") from error

    def _converse(self, url: str, spans: Sequence[ClipSpan], staging: Path, session: _Session) -> dict[str, Any]:
        """Send the source to the process and answer its questions until it is done."""
        self._start()
        options = base64.b64encode(pickle.dumps(session.options)).decode()
        session.begin()
        self._send(
            {
                "url": url,
                "spans": [asdict(span) for span in spans],
                "folder": str(staging.absolute()),
                "options": options,
                "surroundings": _surroundings(),
            }
        )
        while True:
            message = json.loads(self._read_line(session.clock.deadline()))
            if message["call"] == "done":
                return message
            self._send(session.answer(message))

    def _read(self, answer: dict[str, Any], session: _Session) -> list[Fetched]:
        if "lost" in answer:
            raise session.lost or RateLimiterUnreachable(answer["lost"])
        if "raised" in answer:
            name, text, origin = answer["raised"]
            error = _ERRORS[name](text) if name in _ERRORS else RuntimeError(f"{name}: {text}")
            error.add_note(origin)
            raise error
        fetched = [read_fetched(values) for values in answer["fetched"]]
        out_of_memory = any(clip.outcome.reason is Reason.MEMORY for clip in fetched)
        if out_of_memory or answer["memory_bytes"] > WORN_OUT * session.options.memory_gib * GIBIBYTE:
            self.close()
        if out_of_memory:
            return [Fetched(clip.id, _out_of_memory(session.options)) for clip in fetched]
        return fetched


class _Session:
    """The parent's part in fetching one source: answers, counts and the clock."""

    def __init__(
        self, options: FetchOptions, rate_limiter: RateLimiter, traffic: Traffic, stop: threading.Event
    ) -> None:
        self.options = options
        self.lost: RateLimiterUnreachable | None = None
        self._rate_limiter, self._traffic, self._stop = rate_limiter, traffic, stop
        self._downloaded = False
        self.begin()

    def begin(self) -> None:
        """Start the clock."""
        self.clock = _WorkingTime(self.options.deadline_seconds + GRACE_SECONDS)

    def settle(self) -> None:
        """Add the waiting time so far to the traffic's total, and reset it."""
        self._traffic.waited_seconds += self.clock.waited_seconds
        self.clock.waited_seconds = 0.0

    def too_late(self) -> Outcome:
        """Return the outcome of a source that has exceeded its deadline."""
        what = "fetched, but not cut" if self._downloaded else "not fetched"
        return Outcome.failed(Reason.TIMEOUT, f"{what} within {self.options.deadline_seconds:g} s")

    def answer(self, message: dict[str, Any]) -> dict[str, Any]:
        """Answer one question of the process. Other errors of the rate limiter are raised here."""
        call, thread = message["call"], message["thread"]
        self.clock.note(thread, waits=call == "try_acquire")
        try:
            if call == "try_acquire":
                wait = self._turn(message["site"])
                self.clock.note(thread, waits=wait > 0)
                return {"value": wait}
            return {"value": self._other(call, message)}
        except RateLimiterUnreachable as error:
            self.lost = error
            return {"lost": str(error)}
        except OSError as error:
            return {"os_error": [error.errno, error.strerror or str(error)]}

    def _turn(self, site: str) -> float:
        wait = self._rate_limiter.try_acquire(site)
        if not wait:
            self._traffic.requests[site] = self._traffic.requests.get(site, 0) + 1
        return wait

    def _other(self, call: str, message: dict[str, Any]) -> Any:
        if call == "stopped":
            return self._stop.is_set()
        if call == "report_ok":
            return self._rate_limiter.report_ok(message["site"])
        if call == "report_no_response":
            return self._rate_limiter.report_no_response(message["site"])
        if call == "report_throttled":
            pause = self._rate_limiter.report_throttled(message["site"], message["retry_after_seconds"])
            self._traffic.refused += 1
            _log.info("%s refuses requests and is paused for %.0f s", message["site"], pause)
            return pause
        if call == "downloaded":  # cutting and checking get the same time again
            self._downloaded = True
            self.settle()
            self.begin()
            return None
        raise ValueError(f"the fetching process asks {call!r}")


class _WorkingTime:
    """Clock of the time spent working on a source. It is paused while a thread waits for its turn.

    Attributes:
        waited_seconds: Total time that the clock was paused.
    """

    def __init__(self, seconds: float) -> None:
        self.waited_seconds = 0.0
        self._end = self._last = time.monotonic()
        self._end += seconds
        self._waiting: set[int] = set()

    def note(self, thread: int, *, waits: bool) -> None:
        """Record that a thread of the process begins to wait, or that it does not wait."""
        now = time.monotonic()
        if self._waiting:
            self.waited_seconds += now - self._last
        self._last = now
        (self._waiting.add if waits else self._waiting.discard)(thread)

    def deadline(self) -> float:
        """Return the time, on the clock of `time.monotonic()`, by which the process must send its next message."""
        end = self._end + self.waited_seconds
        return max(end, time.monotonic() + LONGEST_SILENCE_SECONDS) if self._waiting else end


def _surroundings() -> dict[str, Any]:
    """Return this process's environment, working folder and module path for the fetching process, which may be older.

    With them, the fetching process finds the user's proxies, cookies and extractors wherever this process finds them.
    """
    try:
        folder = os.getcwd()
    except FileNotFoundError:  # the folder was deleted; relative paths then fail in both processes
        folder = os.sep
    return {"environment": dict(os.environ), "folder": folder, "path": _module_path()}


def _module_path() -> list[str]:
    return [*map(str, sys.path), PACKAGES]


def _of_death(death: WorkerDied, options: FetchOptions) -> Outcome:
    """Return the outcome of a source during which the process died."""
    if death.code == OUT_OF_MEMORY:
        return _out_of_memory(options)
    if -death.code in _TIME_SIGNALS:
        return Outcome.failed(Reason.TIMEOUT, f"not fetched within {options.deadline_seconds:g} s")
    if death.code == -signal.SIGKILL:
        # Limits of the package raise an exception inside the process. This kill came from outside, most often the
        # kernel.
        message = f"{death}, as happens when the machine runs out of memory; dask.downloads_per_worker asks for less"
        return Outcome.failed(Reason.MEMORY, message)
    return Outcome.failed(Reason.CRASH, str(death))


def _out_of_memory(options: FetchOptions) -> Outcome:
    limit = f"wants more than {options.memory_gib:g} GiB of memory to be fetched; download.memory_gib allows more"
    return Outcome.failed(Reason.MEMORY, limit)


def _all(spans: Sequence[ClipSpan], outcome: Outcome) -> list[Fetched]:
    return [Fetched(span.id, outcome) for span in spans]


def _moved(clip: Fetched, folder: Path) -> Fetched:
    """Move a clip's file out of the staging folder."""
    if clip.path is None:
        return clip
    target = folder / clip.path.name
    os.replace(clip.path, target)
    return replace(clip, path=target)
