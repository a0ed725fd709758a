"""Rounds: every source of a shard is asked until it is decided, or the run stops because nothing comes through.

A source whose failure may pass is asked again after all the others have had their turn, not at once. When sources fail
in a row for one and the same passing reason, it is not their failure: the network is down, the disk is full, the site
has shut us out. Then the rest is left alone for a while, and if that goes on, nothing is written down at all.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from vidaudio.errors import CorpusError
from vidaudio.media.budget import Budget
from vidaudio.media.fetch import ClipSpan, Fetched, FetchOptions, Traffic, fetch_source, local_path
from vidaudio.media.reasons import Outcome, Reason

# Asking on makes these no better: the budget has paused for the site each time, and a disk does not empty itself.
_AT_ONCE = {Reason.RATE_LIMITED: 5, Reason.DISK: 3}
# Fewer sources than this are no sign of anything.
_FEWEST = 5
_LONGEST_WAIT_SECONDS = 120.0
_ADVICE = {
    Reason.BOT_CHECK: "the site takes this address for a bot: give it cookies (download.ytdlp.cookiefile), another "
    "address (download.ytdlp.proxy or source_address), or a rest",
    Reason.RATE_LIMITED: "the site refuses this address for now: come back later with a smaller "
    "download.rate.requests_per_hour",
    Reason.NETWORK: "look at the network and at download.ytdlp.proxy",
    Reason.TIMEOUT: "look at the network and at download.ytdlp.proxy",
    Reason.SERVER_ERROR: "the site has troubles of its own: come back later",
    Reason.DISK: "make room on the disk",
    Reason.UNKNOWN: "the site may have changed: try a newer yt-dlp (pip install -U yt-dlp)",
}


class FetchingStopped(CorpusError):
    """Nothing comes through, for a reason that is not the videos' own; says what to do. Asking again now is no use."""


@dataclass(frozen=True, slots=True)
class SourceJob:
    """One source and the clips wanted of it."""

    url: str
    spans: tuple[ClipSpan, ...]


@dataclass(frozen=True, slots=True)
class RoundRules:
    """How often and how long to ask.

    Attributes:
        tries: Of a source, where its failure may pass.
        threads: Sources fetched side by side.
        wait_seconds: Before the second round; doubled before each further one.
        stop_after: Sources in a row that fail alike; 0 for never.
    """

    tries: int = 3
    threads: int = 4
    wait_seconds: float = 5.0
    stop_after: int = 25


@dataclass(slots=True)
class RoundsReport:
    """What became of every clip, by id, and what it cost."""

    fetched: dict[str, Fetched] = field(default_factory=dict)
    traffic: Traffic = field(default_factory=Traffic)
    tries: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)


class Streak:
    """Sources in a row with one passing failure, told by several threads.

    Attributes:
        broken: Set when there were too many.
        broken_by: The failure they shared.
    """

    def __init__(self, stop_after: int, sources: int) -> None:
        self.broken = threading.Event()
        self.broken_by: Outcome | None = None
        self._limit = min(stop_after, max(_FEWEST, sources)) if stop_after else 0
        self._lock = threading.Lock()
        self._reason: Reason | None = None
        self._length = 0

    def note(self, outcome: Outcome) -> None:
        """One more source; anything but the same passing failure begins anew."""
        with self._lock:
            if not outcome.transient:
                self._reason, self._length = None, 0
                return
            self._length = self._length + 1 if outcome.reason is self._reason else 1
            self._reason = outcome.reason
            limit = min(self._limit, _AT_ONCE.get(outcome.reason, self._limit))
            if limit and self._length >= limit and self.broken_by is None:
                self.broken_by = outcome
                self.broken.set()


def fetch_in_rounds(
    jobs: Sequence[SourceJob], folder: Path, options: FetchOptions, budget: Budget, rules: RoundRules
) -> RoundsReport:
    """Fetch all sources into subfolders of `folder`.

    Raises:
        FetchingStopped: `rules.stop_after` sources in a row failed alike, in `rules.tries` rounds.
    """
    return _Rounds(jobs, folder, options, budget, rules).run()


class _Rounds:
    def __init__(
        self, jobs: Sequence[SourceJob], folder: Path, options: FetchOptions, budget: Budget, rules: RoundRules
    ) -> None:
        self._jobs, self._folder, self._options, self._budget, self._rules = jobs, folder, options, budget, rules
        self._remote = sum(local_path(job.url) is None for job in jobs)
        # Clips not decided yet, and how often their source has failed by itself, by the source's number.
        self._wanted = {number: job.spans for number, job in enumerate(jobs)}
        self._tries = dict.fromkeys(self._wanted, 0)
        self._report = RoundsReport()

    def run(self) -> RoundsReport:
        wait, setbacks = self._rules.wait_seconds, 0
        with ThreadPoolExecutor(max_workers=self._rules.threads) as pool:
            while True:
                cause = self._round(pool)
                if cause is not None:
                    setbacks += 1
                    if setbacks >= self._rules.tries or cause.reason in _AT_ONCE:
                        raise FetchingStopped(_stopped(cause))
                if not self._wanted:
                    return self._report
                time.sleep(wait)
                wait = min(2 * wait, _LONGEST_WAIT_SECONDS)

    def _round(self, pool: ThreadPoolExecutor) -> Outcome | None:
        """Ask every undecided source once; what the round broke off for, if it did."""
        streak = Streak(self._rules.stop_after, self._remote)
        numbers = list(self._wanted)
        answers = list(pool.map(lambda number: self._ask(number, streak), numbers))
        for number, got in zip(numbers, answers, strict=True):
            if got:
                # In a round that breaks off, a failure may not be the source's fault: it is not held against it.
                self._tries[number] += streak.broken_by is None
                may_pass = self._tries[number] < self._rules.tries
                again = {g.id for g in got if g.outcome.transient and may_pass}
                self._report.fetched |= {g.id: g for g in got if g.id not in again}
                self._wanted[number] = tuple(span for span in self._wanted[number] if span.id in again)
        self._wanted = {number: spans for number, spans in self._wanted.items() if spans}
        return streak.broken_by

    def _ask(self, number: int, streak: Streak) -> list[Fetched]:
        """What became of a source's clips; nothing where the round broke off before it was through."""
        if streak.broken.is_set():
            return []
        url, spans, traffic = self._jobs[number].url, self._wanted[number], Traffic()
        got = fetch_source(
            url,
            spans,
            self._folder / f"{number:06d}",
            self._options,
            budget=self._budget,
            traffic=traffic,
            stop=streak.broken,
        )
        with self._report.lock:
            self._report.traffic.add(traffic)
            self._report.tries += 1
        outcome = next((g.outcome for g in got if g.outcome.transient), got[0].outcome)
        if outcome.transient and streak.broken.is_set():
            return []
        if local_path(url) is None or outcome.reason is Reason.DISK:  # the user's own files say nothing of the network
            streak.note(outcome)
        return got


def _stopped(outcome: Outcome) -> str:
    assert outcome.reason is not None, "only failures break a run off"
    return (
        f"stopped: nothing comes through ({outcome.reason.value}: {outcome.message}); {_ADVICE[outcome.reason]}. "
        "What was committed stays, these clips are not written down as failed, and the same command goes on; "
        "download.stop_after_failures=0 writes them down instead."
    )
