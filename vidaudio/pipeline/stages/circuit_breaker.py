"""Circuit breakers: stop a run when so many sources fail in a row that the sources are not the cause.

One source may fail for a passing reason by bad luck. When all fail alike, the network is down, the disk is full or the
site has blocked us, and every further request would only write off more of the manifest. Dead videos (permanent
reasons) are such a sign only where a site reports nearly all its videos as dead: see `equal_answers`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vidaudio.errors import VidaudioError
from vidaudio.media.outcomes import Outcome, Reason
from vidaudio.pipeline.stages.equal_answers import EqualAnswers, SiteAnswers, Suspicion

# Lower limits: more requests do not help. The rate limiter has paused for the site each time, and a disk does not empty
# itself.
TRIP_LIMITS = {Reason.RATE_LIMITED: 5, Reason.DISK: 3}
# Fewer failing sources than this prove nothing.
_FEWEST = 5
_ADVICE = {
    Reason.BOT_CHECK: "the site takes this address for a bot: give it cookies (download.ytdlp.cookiefile), another "
    "address (download.ytdlp.proxy or source_address), or a rest",
    Reason.RATE_LIMITED: "the site refuses this address for now: come back later with a smaller "
    "download.rate.requests_per_hour",
    Reason.NETWORK: "look at the network and at download.ytdlp.proxy",
    Reason.TIMEOUT: "look at the network and at download.ytdlp.proxy",
    Reason.MEMORY: "give each fetching process more (download.memory_gib), or run fewer side by side "
    "(dask.downloads_per_worker)",
    Reason.SERVER_ERROR: "the site has troubles of its own: come back later",
    Reason.CORRUPT_FETCHED: "the site sends error pages or broken files in place of media: open one of the links in a "
    "browser, and come back later",
    Reason.DISK: "make room on the disk",
    Reason.UNKNOWN: "the site may have changed: try a newer yt-dlp (pip install -U yt-dlp)",
}
_EQUAL_ADVICE = (
    "which sites also tell an account or an address that they have blocked: open one of them in a browser; where it "
    "plays, give other cookies (download.ytdlp.cookiefile) or another address (download.ytdlp.proxy or source_address)"
)
_EQUAL_SETTING = "download.stop_after_equal_answers=0 takes such answers as they are"


class FetchAborted(VidaudioError):
    """Fetching stopped for a reason that is not the videos' own.

    The message says what to do; retrying at once does not help.

    Attributes:
        reason: Reason that the failures share; it travels with the error from a worker to the driver.
    """

    reason: Reason | None = None


@dataclass(frozen=True, slots=True)
class TrailingFailures:
    """The failures at the end of a shard: the last sources that failed alike, for one passing reason.

    Attributes:
        reason: Reason of the failures; None where the last source did not fail for a passing reason.
        message: Message of the last failure.
        sources: Number of such sources in a row at the shard's end.
        whole: Whether the shard has no other sources from the network, so that a series of the shard before continues.
    """

    reason: Reason | None = None
    message: str = ""
    sources: int = 0
    whole: bool = True


def trailing_failures(outcomes: Iterable[Outcome]) -> TrailingFailures:
    """Return the failures at the end of a shard's sources, in the order of the manifest."""
    last, length, whole = TrailingFailures(), 0, True
    for number, outcome in enumerate(outcomes):
        reason = outcome.reason if outcome.transient else None
        whole = whole and reason is not None and (number == 0 or reason is last.reason)
        length = 0 if reason is None else (length + 1 if reason is last.reason else 1)
        last = TrailingFailures(reason, outcome.message if reason else "")
    return TrailingFailures(last.reason, last.message, length, whole)


class RunCircuitBreaker:
    """Circuit breaker of a run: counts failing sources in a row over its shards, in the order in which they finish.

    The driver keeps it. Within a shard, the retry rounds detect a series and write nothing down. Shards of a few
    sources are too small for that. They are committed with their failures, and this class detects that all of them
    failed alike.

    Args:
        stop_after: Sources in a row that end the run, fewer for the reasons of `TRIP_LIMITS`; 0 for never.
        stop_after_equal_answers: Equal permanent refusals of a site in a row that end the run; 0 for never.
    """

    def __init__(self, stop_after: int, stop_after_equal_answers: int = 0) -> None:
        self._stop_after = stop_after
        self._answers = EqualAnswers(stop_after_equal_answers)
        self._last = TrailingFailures()
        self._length = 0

    def note(self, trailing: TrailingFailures, answers: Sequence[SiteAnswers] = ()) -> str | None:
        """Add one shard; return the sentence that ends the run if a limit is reached, else None.

        Args:
            trailing: Failures at the end of the shard that finished last.
            answers: Answers of each site in that shard, in order.
        """
        if any(self._answers.note_all(rows) for rows in answers) and self._answers.suspicion is not None:
            return _run_stopped_by(self._answers.suspicion)
        if trailing.whole and trailing.reason is None:
            return None  # asked nothing of the network
        goes_on = trailing.whole and trailing.reason is self._last.reason
        self._length = self._length + trailing.sources if goes_on else trailing.sources
        self._last = trailing
        limit = self._stop_after
        if trailing.reason is None or not limit or self._length < min(limit, TRIP_LIMITS.get(trailing.reason, limit)):
            return None
        return (
            f"stopped: the last {self._length} sources all failed alike ({trailing.reason.value}: {trailing.message}); "
            f"{_ADVICE[trailing.reason]}. {_what_stays(trailing.reason)}"
            + _never_stopping(trailing.reason, " download.stop_after_failures=0 never stops.")
        )


class CircuitBreaker:
    """Circuit breaker of a retry round: counts sources in a row with one passing failure; several threads may report.

    Args:
        stop_after: Sources in a row that break the round off, fewer for the reasons of `TRIP_LIMITS`; 0 for never.
        sources: Number of the shard's sources from the network; lowers `stop_after` to this number, but not below 5.

    Attributes:
        broken: Event that is set when the limit is reached.
        broken_by: The failure that the sources share; None before.
    """

    def __init__(self, stop_after: int, sources: int) -> None:
        self.broken = threading.Event()
        self.broken_by: Outcome | None = None
        self._limit = min(stop_after, max(_FEWEST, sources)) if stop_after else 0
        self._lock = threading.Lock()
        self._reason: Reason | None = None
        self._length = 0

    def note(self, outcome: Outcome) -> None:
        """Add one source; anything but the same passing failure starts the count anew."""
        with self._lock:
            if not outcome.transient or outcome.reason is None:
                self._reason, self._length = None, 0
                return
            self._length = self._length + 1 if outcome.reason is self._reason else 1
            self._reason = outcome.reason
            limit = min(self._limit, TRIP_LIMITS.get(outcome.reason, self._limit))
            if limit and self._length >= limit and self.broken_by is None:
                self.broken_by = outcome
                self.broken.set()


def stopped_by(outcome: Outcome) -> FetchAborted:
    """Return the error that ends a shard whose retry rounds were broken off."""
    assert outcome.reason is not None, "only failures break a shard off"
    stopped = FetchAborted(
        f"stopped: nothing comes through ({outcome.reason.value}: {outcome.message}); {_ADVICE[outcome.reason]}. "
        "What was committed stays, these clips are not written down as failed, and the same command goes on"
        + _never_stopping(outcome.reason, "; download.stop_after_failures=0 writes them down instead")
        + "."
    )
    stopped.reason = outcome.reason
    return stopped


def stopped_by_equal_answers(found: Suspicion) -> FetchAborted:
    """Return the error that ends a shard in which one site refused too many sources for good."""
    stopped = FetchAborted(
        f"stopped: {found.site} {found.told} ({found.reason.value}: {found.message}), {_EQUAL_ADVICE}. What was "
        f"committed stays, these clips are not written down as failed, and the same command asks for them again; "
        f"{_EQUAL_SETTING}."
    )
    stopped.reason = found.reason
    return stopped


def _run_stopped_by(found: Suspicion) -> str:
    return (
        f"stopped: {found.site} {found.told} ({found.reason.value}: {found.message}), {_EQUAL_ADVICE}. "
        f"{_what_stays(found.reason)} {_EQUAL_SETTING}."
    )


def _what_stays(reason: Reason) -> str:
    return (
        f"What was committed stays and the same command goes on; with --retry-failed={reason.value} it also asks again "
        "for those that are written down as failed so."
    )


def _never_stopping(reason: Reason, advice: str) -> str:
    """Return the advice on going on all the same; empty for a full disk, which would fail the whole manifest."""
    return "" if reason is Reason.DISK else advice
