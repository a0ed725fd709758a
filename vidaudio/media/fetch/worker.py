"""Fetching process: reads jobs from standard input and writes the result of each source to standard output.

yt-dlp reads pages with thousands of regular expressions and keeps whole manifests in memory, and FFmpeg's libraries
read the downloaded files. On a hostile page or file, either may never finish. In a separate process, that costs one
source and not a shard.

The process sends requests but keeps no rate limit of its own: for every request it asks the parent over the pipe, which
has the rate limiter, the counts and the stop event. The parent never unpickles anything that this process sends.
"""

from __future__ import annotations

import base64
import json
import os
import pickle
import resource
import sys
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from vidaudio.media.fetch.messages import OUT_OF_MEMORY, describe_fetched
from vidaudio.media.fetch.rate_limit import RateLimiterUnreachable
from vidaudio.media.fetch.source import fetch_source
from vidaudio.media.fetch.types import LARGEST_FILE_BYTES, ClipSpan, FetchOptions
from vidaudio.media.fetch.ytdlp import close_downloader, site_of_link
from vidaudio.media.worker_limits import GIBIBYTE, JobLimits, become_worker

# Time after its deadline until the process ends itself, if nothing else has ended it.
ORPHAN_SECONDS = 10.0
# Factor by which files may be larger than what was received: the data is written anew into another container.
_FILE_SIZE_FACTOR = 1.25


class _Parent:
    """The parent at the other end of the pipe. Any thread may ask; questions are answered one after the other."""

    def __init__(self, questions: IO[bytes], answers: IO[bytes]) -> None:
        self._questions, self._answers = questions, answers
        self._lock = threading.Lock()
        self.limits: JobLimits | None = None

    def tell(self, message: Mapping[str, Any]) -> None:
        """Send a message that has no answer."""
        with self._lock:
            self._write(message)

    def ask(self, call: str, **arguments: Any) -> Any:
        """Send a question and return the parent's answer.

        Raises:
            RateLimiterUnreachable: When the parent cannot reach the rate limiter.
            OSError: When the parent cannot read or write the rate limiter's files.
        """
        with self._lock:
            self._write({"call": call, "thread": threading.get_ident(), **arguments})
            line = self._answers.readline()
            if not line:
                os._exit(1)  # the parent is gone
            if self.limits is not None:
                # The parent decides when a source is late. These limits apply only if the parent no longer can.
                self.limits.restart()
        answer = json.loads(line)
        if "lost" in answer:
            raise RateLimiterUnreachable(answer["lost"])
        if "os_error" in answer:
            raise OSError(*answer["os_error"])
        return answer["value"]

    def _write(self, message: Mapping[str, Any]) -> None:
        self._questions.write(json.dumps(message).encode() + b"\n")
        self._questions.flush()


class _ParentRateLimiter:
    """The parent's `vidaudio.media.fetch.rate_limit.RateLimiter`, asked over the pipe."""

    def __init__(self, parent: _Parent) -> None:
        self._parent = parent

    def try_acquire(self, site: str) -> float:
        return self._parent.ask("try_acquire", site=site)

    def report_throttled(self, site: str, retry_after_seconds: float | None) -> float:
        return self._parent.ask("report_throttled", site=site, retry_after_seconds=retry_after_seconds)

    def report_ok(self, site: str) -> None:
        self._parent.ask("report_ok", site=site)

    def report_no_response(self, site: str) -> None:
        self._parent.ask("report_no_response", site=site)


class _ParentsStop(threading.Event):
    """The parent's stop event. It is checked before every request; waiting for it is a plain sleep."""

    def __init__(self, parent: _Parent) -> None:
        super().__init__()
        self._parent = parent

    def is_set(self) -> bool:
        return self._parent.ask("stopped")


def main() -> None:
    """Serve jobs until standard input closes."""
    become_worker()
    # The output of libraries must not be read as messages.
    questions = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    parent = _Parent(questions, sys.stdin.buffer)
    # Compiles yt-dlp's patterns now, not during the first source, whose deadline would have to cover it.
    site_of_link("https://example.org/a.mp4")
    parent.tell({"call": "ready"})
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
        os.dup2(nowhere.fileno(), sys.stderr.fileno())
    surroundings: dict[str, Any] = {}
    for line in sys.stdin.buffer:
        job = json.loads(line)
        if job["surroundings"] != surroundings:
            surroundings = job["surroundings"]
            _take_over(surroundings)
        # Comes from the parent, which started this program; the options may hold any value that Python can pickle.
        options: FetchOptions = pickle.loads(base64.b64decode(job["options"]))
        file_bytes = min(int(options.max_source_bytes * _FILE_SIZE_FACTOR), LARGEST_FILE_BYTES)
        # Limits data, not the address space: yt-dlp's JavaScript runtime reserves far more address space than it uses.
        sizes = {resource.RLIMIT_DATA: int(options.memory_gib * GIBIBYTE), resource.RLIMIT_FSIZE: file_bytes}
        with JobLimits(options.deadline_seconds + ORPHAN_SECONDS, sizes) as parent.limits:
            answer = _answer(job, options, parent)
            parent.limits = None
        parent.tell({"call": "done", "memory_bytes": _held_bytes(), **answer})


def _take_over(surroundings: Mapping[str, Any]) -> None:
    """Adopt the parent's environment, folder and module path: they may have changed since this process started."""
    os.environ.clear()
    os.environ.update(surroundings["environment"])
    os.chdir(surroundings["folder"])
    sys.path[:] = surroundings["path"]
    close_downloader()


def _answer(job: dict[str, Any], options: FetchOptions, parent: _Parent) -> dict[str, Any]:
    spans = [ClipSpan(**span) for span in job["spans"]]
    try:
        fetched = fetch_source(
            job["url"],
            spans,
            Path(job["folder"]),
            options,
            rate_limiter=_ParentRateLimiter(parent),
            stop=_ParentsStop(parent),
            downloaded=lambda: parent.ask("downloaded"),
        )
    except RateLimiterUnreachable as error:
        return {"lost": str(error)}
    except MemoryError:
        # There may be too little memory left to send a message.
        os._exit(OUT_OF_MEMORY)
    except Exception as error:
        if "can't start new thread" in str(error):
            os._exit(OUT_OF_MEMORY)
        return _raised(error)
    return {"fetched": [describe_fetched(clip) for clip in fetched]}


def _held_bytes() -> int:
    """Return how much of RLIMIT_DATA is in use; 0 if the system does not report it (then it does not limit it either).

    `getrusage` is unsuitable: on Linux it begins with the memory of the process that started this one.
    """
    try:
        status = Path("/proc/self/status").read_text()
    except FileNotFoundError:
        return 0
    return next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmData:"))


def _raised(error: Exception) -> dict[str, Any]:
    """Return the error for the parent to raise again: a mistake in the options, or a bug of vidaudio."""
    return {"raised": [type(error).__name__, str(error), "".join(traceback.format_exception(error))]}


if __name__ == "__main__":
    main()
