"""Sources fetched by a process of its own, which may hang, die or eat memory at the cost of one source.

The process sends the requests. Everything that must outlive it stays here: the rate limits that every request is paid
from, the counts, the deadline. Waiting for a site's rate limit is not the source's time, and this side knows exactly
how long that was, since the process asks here for every request.
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

from vidaudio.errors import CorpusError
from vidaudio.media.fetch.messages import OUT_OF_MEMORY, read_fetched
from vidaudio.media.fetch.rate_limit import MemoryRateLimiter, RateLimiter, RateLimiterUnreachable
from vidaudio.media.fetch.types import ClipSpan, Fetched, FetchOptions, Traffic
from vidaudio.media.outcomes import Outcome, Reason
from vidaudio.media.worker_limits import GIBIBYTE
from vidaudio.media.worker_process import PACKAGES, WorkerDied, WorkerLate, WorkerProcess

# What the process does after it is started; its imports are those of the process that starts it.
CHILD = "from vidaudio.media.fetch.worker import main; main()"
# After a source's deadline, until the process is killed: it may still say itself what had come by then.
GRACE_SECONDS = 2.0
# A process that waits for a turn asks again every second. One that is silent for longer does not wait.
LONGEST_SILENCE_SECONDS = 60.0
# From its start until the process has imported yt-dlp, on a file system that may be far away.
START_SECONDS = 300.0
# Deaths of the process over one source, the second of them in a process that had fetched nothing else.
DEATHS = 2
# A process is replaced once it has held this share of its memory: what it keeps of that, the next source would lack.
WORN_OUT = 0.5
# Errors over the options that the process hands on under their own names.
_ERRORS = {kind.__name__: kind for kind in (ValueError, ImportError, ModuleNotFoundError, AttributeError, TypeError)}
# By which the kernel ends a process that has overrun its limits, where nobody else has.
_TIME_SIGNALS = frozenset({signal.SIGALRM, signal.SIGXCPU})
_log = logging.getLogger(__name__)
_log.addHandler(logging.NullHandler())


class FetcherCannotStart(CorpusError):
    """No source can be fetched here: the fetching process does not start."""


class Fetcher(WorkerProcess):
    """One fetching process, replaced when it has died or was killed. Not to be shared between threads."""

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
            What became of each clip. A source over which the process hangs, dies or runs out of memory is an outcome.

        Raises:
            FetcherCannotStart: The process does not start, whatever is to be fetched.
        """
        rate_limiter, traffic = rate_limiter or MemoryRateLimiter(), Traffic() if traffic is None else traffic
        stop = stop or threading.Event()
        deaths = 0
        while True:
            staging: Path | None = None
            session = _Session(options, rate_limiter, traffic, stop)
            try:
                folder.mkdir(parents=True, exist_ok=True)
                # What a killed process leaves behind goes with this folder.
                staging = Path(tempfile.mkdtemp(prefix=".fetching-", dir=folder))
                answer = self._converse(url, spans, staging, session)
                return [_moved(clip, folder) for clip in self._read(answer, session)]
            except (WorkerDied, WorkerLate) as error:
                self.close()
                if session.lost is not None:
                    raise session.lost from error
                outcome = session.too_late() if isinstance(error, WorkerLate) else _of_death(error, options)
                deaths += outcome.reason is Reason.CRASH
                # What was fetched before may have broken the process: that proves nothing against this source.
                if outcome.reason is not Reason.CRASH or deaths == DEATHS:
                    return _all(spans, outcome)
            except OSError as error:  # of the folder
                self.close()
                # Here, since it brings yt-dlp along, which this process otherwise does without.
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
        # Each arena of glibc's reserves memory for itself; a process that mostly waits for the network needs few.
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
                        raise  # killed by whoever also kills it later
                    errors.seek(0)
                    last = errors.read().decode(errors="replace").strip().rpartition("\n")[2]
                    raise FetcherCannotStart(f"{self.what} does not start ({last or death})") from death
        except WorkerLate:
            raise FetcherCannotStart(f"{self.what} has not started within {START_SECONDS:g} s") from None
        except OSError as error:
            raise FetcherCannotStart(f"{self.what} does not start ({error})") from error

    def _converse(self, url: str, spans: Sequence[ClipSpan], staging: Path, session: _Session) -> dict[str, Any]:
        """Hand the source over and answer the process's questions until it is done."""
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
        """Count in how long was waited, once."""
        self._traffic.waited_seconds += self.clock.waited_seconds
        self.clock.waited_seconds = 0.0

    def too_late(self) -> Outcome:
        """Return the outcome of a source that has overrun its deadline."""
        what = "fetched, but not cut" if self._downloaded else "not fetched"
        return Outcome.failed(Reason.TIMEOUT, f"{what} within {self.options.deadline_seconds:g} s")

    def answer(self, message: dict[str, Any]) -> dict[str, Any]:
        """Answer one question of the process's. Whatever else the budget raises is raised here."""
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
        if call == "downloaded":  # cutting and checking what came has as long again
            self._downloaded = True
            self.settle()
            self.begin()
            return None
        raise ValueError(f"the fetching process asks {call!r}")


class _WorkingTime:
    """How long a source has been worked on. While a thread waits for its turn, the clock stands still.

    Attributes:
        waited_seconds: How long it has stood still.
    """

    def __init__(self, seconds: float) -> None:
        self.waited_seconds = 0.0
        self._end = self._last = time.monotonic()
        self._end += seconds
        self._waiting: set[int] = set()

    def note(self, thread: int, *, waits: bool) -> None:
        """Note that a thread of the process begins to wait, or that it does not wait."""
        now = time.monotonic()
        if self._waiting:
            self.waited_seconds += now - self._last
        self._last = now
        (self._waiting.add if waits else self._waiting.discard)(thread)

    def deadline(self) -> float:
        """Return the moment, as `time.monotonic()` has it, by which the process must speak again."""
        end = self._end + self.waited_seconds
        return max(end, time.monotonic() + LONGEST_SILENCE_SECONDS) if self._waiting else end


def _surroundings() -> dict[str, Any]:
    """Return what a fetch in this process would find, for the one that may have been started earlier.

    Proxies, cookies and extractors of the user's are found there wherever they are found here.
    """
    try:
        folder = os.getcwd()
    except FileNotFoundError:  # deleted under our feet; paths that lead from it lead nowhere, there and here
        folder = os.sep
    return {"environment": dict(os.environ), "folder": folder, "path": _module_path()}


def _module_path() -> list[str]:
    return [*map(str, sys.path), PACKAGES]


def _of_death(death: WorkerDied, options: FetchOptions) -> Outcome:
    """Return the outcome of a source over which the process has ended."""
    if death.code == OUT_OF_MEMORY:
        return _out_of_memory(options)
    if -death.code in _TIME_SIGNALS:
        return Outcome.failed(Reason.TIMEOUT, f"not fetched within {options.deadline_seconds:g} s")
    if death.code == -signal.SIGKILL:
        # A limit of ours is an exception inside; this was somebody else, and most often it is the kernel.
        message = f"{death}, as happens when the machine runs out of memory; dask.downloads_per_worker asks for less"
        return Outcome.failed(Reason.MEMORY, message)
    return Outcome.failed(Reason.CRASH, str(death))


def _out_of_memory(options: FetchOptions) -> Outcome:
    limit = f"wants more than {options.memory_gib:g} GiB of memory to be fetched; download.memory_gib allows more"
    return Outcome.failed(Reason.MEMORY, limit)


def _all(spans: Sequence[ClipSpan], outcome: Outcome) -> list[Fetched]:
    return [Fetched(span.id, outcome) for span in spans]


def _moved(clip: Fetched, folder: Path) -> Fetched:
    """Take a clip's file out of the staging folder."""
    if clip.path is None:
        return clip
    target = folder / clip.path.name
    os.replace(clip.path, target)
    return replace(clip, path=target)
