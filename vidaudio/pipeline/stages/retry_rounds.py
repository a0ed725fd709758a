"""Retry rounds: every source of a shard is tried until it is decided, or the run stops because nothing comes through.

A source whose failure may pass is tried again after all the others, not at once. When sources fail in a row for one and
the same passing reason, the sources are not the cause: the network is down, the disk is full, or the site has blocked
us. The rest then waits for a while. If the failures continue, nothing at all is written down. Many equal permanent
refusals stop the run at once (see `equal_answers`).
"""

from __future__ import annotations

import functools
import os
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from vidaudio.media.fetch.pool import fetch_in_process
from vidaudio.media.fetch.rate_limit import RateLimiter
from vidaudio.media.fetch.types import PAGE_FOR_A_FILE, ClipSpan, Fetched, FetchOptions, Traffic, is_remote
from vidaudio.media.outcomes import Outcome, Reason
from vidaudio.pipeline.clip_progress import Advance, ignore_progress
from vidaudio.pipeline.stages.circuit_breaker import TRIP_LIMITS, CircuitBreaker, stopped_by, stopped_by_equal_answers
from vidaudio.pipeline.stages.equal_answers import EqualAnswers

_LONGEST_WAIT_SECONDS = 120.0


class AlreadyCommitted(Exception):
    """Another build has committed these sources meanwhile, so that more requests are useless."""


@dataclass(frozen=True, slots=True)
class SourceJob:
    """One source and the clips wanted from it."""

    url: str
    spans: tuple[ClipSpan, ...]


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Numbers of tries and waiting times.

    Attributes:
        tries: Tries of a source whose failure may pass.
        threads: Number of sources fetched in parallel.
        wait_seconds: Seconds before the second round; doubled before each further one, up to 120 s.
        stop_after: Sources in a row that fail alike before the round is broken off; 0 for never.
        stop_after_equal_answers: Sources of a site in a row with equal permanent refusals that end the run; 0 for
            never.
    """

    tries: int = 3
    threads: int = 4
    wait_seconds: float = 5.0
    stop_after: int = 25
    stop_after_equal_answers: int = 25


@dataclass(frozen=True, slots=True)
class RoundCallbacks:
    """Functions that the rounds call.

    Attributes:
        answered: Callback for the outcome of each source that is not a local file; called at once, in any thread.
        committed: Function that returns whether another build has committed the sources by now; called before and
            after every source, in any thread.
        retracted: Callback for the sources whose answers proved suspicious, before `FetchAborted` is raised.
    """

    answered: Callable[[str, Sequence[Fetched]], None] = lambda url, clips: None
    committed: Callable[[], bool] = lambda: False
    retracted: Callable[[Sequence[str]], None] = lambda urls: None


@dataclass(slots=True)
class RetryState:
    """Outcome of every clip, by id, and the costs so far, whatever the outcome.

    Attributes:
        fetched: Decided clips by id.
        traffic: Requests, including those of sources that were broken off.
        tries: Number of times that sources were tried.
        advance: Callback for the number of clips that have just been decided; called in any thread.
        lock: Lock that protects the costs.
    """

    fetched: dict[str, Fetched] = field(default_factory=dict)
    traffic: Traffic = field(default_factory=Traffic)
    tries: int = 0
    advance: Advance = field(default=ignore_progress, repr=False)
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def outcomes(self, jobs: Sequence[SourceJob]) -> list[tuple[str, Outcome]]:
        """Return URL and outcome of each source; the user's files are left out, as they say nothing of the network."""
        return [
            (job.url, source_outcome([self.fetched[span.id] for span in job.spans]))
            for job in jobs
            if is_remote(job.url)
        ]


def fetch_in_rounds(
    jobs: Sequence[SourceJob],
    folder: Path,
    options: FetchOptions,
    rate_limiter: RateLimiter,
    rules: RetryPolicy,
    report: RetryState | None = None,
    callbacks: RoundCallbacks | None = None,
) -> RetryState:
    """Fetch all sources into subfolders of `folder`, in rounds.

    Args:
        jobs: Sources to fetch, with their clips.
        folder: Local folder; each source gets a subfolder.
        options: What to fetch and how to reach the sites.
        rate_limiter: Rate limiter that grants the requests.
        rules: Tries, threads, waiting times and limits.
        report: State that is updated throughout, so that costs are known even after an error. Clips that it already
            contains are not requested. None for an empty state.
        callbacks: Functions to call; None for none.

    Raises:
        AlreadyCommitted: When `callbacks.committed` returns True.
        FetchAborted: When `rules.tries` rounds were broken off because sources in a row failed alike (one round is
            enough for the reasons of `TRIP_LIMITS`), a site permanently refused too many sources alike, or the local
            disk is full.
        RateLimiterUnreachable: When the rate limiter cannot be reached, so that no request may be sent.
    """
    report = RetryState() if report is None else report
    return _Rounds(jobs, folder, options, rate_limiter, rules, report, callbacks or RoundCallbacks()).run()


def source_outcome(clips: Sequence[Fetched]) -> Outcome:
    """Return a source's outcome: a failure that may pass, if one of its clips has one, else the first clip's."""
    return next((clip.outcome for clip in clips if clip.outcome.transient), clips[0].outcome)


class _Rounds:
    """The rounds of one shard; see `fetch_in_rounds` for the arguments."""

    def __init__(
        self,
        jobs: Sequence[SourceJob],
        folder: Path,
        options: FetchOptions,
        rate_limiter: RateLimiter,
        rules: RetryPolicy,
        report: RetryState,
        callbacks: RoundCallbacks,
    ) -> None:
        self._jobs, self._folder, self._options, self._rate_limiter, self._rules = (
            jobs,
            folder,
            options,
            rate_limiter,
            rules,
        )
        # Decided sources count, too: a resumed run stops where the killed one would have stopped.
        self._remote = sum(is_remote(job.url) for job in jobs)
        # Undecided clips, and how often their source failed by itself, by the source's number.
        self._wanted = {
            number: spans
            for number, job in enumerate(jobs)
            if (spans := tuple(span for span in job.spans if span.id not in report.fetched))
        }
        self._tries = dict.fromkeys(self._wanted, 0)
        self._report, self._callbacks = report, callbacks
        # Hashes of corrupt files as fetched, by the source's number, and the sources of each hash.
        self._corrupt: dict[int, set[str]] = {}
        self._sources_of: dict[str, set[int]] = {}
        self._equal = EqualAnswers(rules.stop_after_equal_answers)
        for number, job in enumerate(jobs):
            if number not in self._wanted and is_remote(job.url):
                self._equal.note(job.url, self._outcome(job), is_news=False)

    def _outcome(self, job: SourceJob) -> Outcome:
        return source_outcome([self._report.fetched[span.id] for span in job.spans])

    def run(self) -> RetryState:
        """Run rounds until all clips are decided, or raise the error that ends the shard."""
        wait, setbacks = self._rules.wait_seconds, 0
        with ThreadPoolExecutor(max_workers=self._rules.threads) as pool:
            while True:
                cause = self._round(pool)
                if self._equal.suspicion is not None:
                    self._retract()
                    raise stopped_by_equal_answers(self._equal.suspicion)
                if cause is not None:
                    setbacks += 1
                    if setbacks >= self._rules.tries or cause.reason in TRIP_LIMITS:
                        raise stopped_by(cause)
                if not self._wanted:
                    return self._report
                time.sleep(wait)
                wait = min(2 * wait, _LONGEST_WAIT_SECONDS)

    def _round(self, pool: ThreadPoolExecutor) -> Outcome | None:
        """Try every undecided source once; return the failure that broke the round off, or None."""
        breaker = CircuitBreaker(self._rules.stop_after, self._remote)
        numbers = list(self._wanted)
        answers = list(pool.map(lambda number: self._ask(number, breaker), numbers))
        for number, got in zip(numbers, answers, strict=True):
            if got:
                # In a round that breaks off, a failure may not be the source's fault, so it does not count as a try.
                self._tries[number] += breaker.broken_by is None
                may_pass = self._tries[number] < self._rules.tries
                again = {g.id for g in got if g.outcome.transient and may_pass}
                self._report.fetched |= {g.id: g for g in got if g.id not in again}
                self._wanted[number] = tuple(span for span in self._wanted[number] if span.id in again)
                if breaker.broken_by is None:
                    self._remember(number, got)
        self._wanted = {number: spans for number, spans in self._wanted.items() if spans}
        return breaker.broken_by

    def _remember(self, number: int, got: Sequence[Fetched]) -> None:
        """Remember the hashes of corrupt files: the same bytes a second time are final.

        A page in place of a file is not remembered. While a site is down, its page is the same, and the tries of one
        run are only seconds apart. It becomes final when another run meets it again.
        """
        for clip in got:
            is_page = clip.outcome.message == PAGE_FOR_A_FILE
            if clip.outcome.reason is Reason.CORRUPT_FETCHED and clip.sha256 and not is_page:
                self._corrupt.setdefault(number, set()).add(clip.sha256)
                self._sources_of.setdefault(clip.sha256, set()).add(number)

    def _spans(self, number: int) -> tuple[ClipSpan, ...]:
        """Return the clips to request, with the hashes of corrupt files that came for them before.

        A file that came for two sources is an error page of the site and says nothing of either source.
        """
        own = [sha for sha in sorted(self._corrupt.get(number, ())) if len(self._sources_of[sha]) == 1]
        return tuple(functools.reduce(ClipSpan.remembering, own, span) for span in self._wanted[number])

    def _retract(self) -> None:
        """Withdraw what was recorded of the sources that got the suspicious answer."""
        decided = (job for job in self._jobs if all(span.id in self._report.fetched for span in job.spans))
        self._callbacks.retracted([job.url for job in decided if self._equal.is_suspect(job.url, self._outcome(job))])

    def _ask(self, number: int, breaker: CircuitBreaker) -> list[Fetched]:
        """Fetch a source and return its clips' outcomes; an empty list where the round was broken off before."""
        if breaker.broken.is_set():
            return []
        if self._callbacks.committed():
            raise AlreadyCommitted
        stop = _Stop(breaker.broken, self._callbacks.committed)
        url, spans, traffic = self._jobs[number].url, self._spans(number), Traffic()
        folder = self._folder / f"{number:06d}"
        try:
            got = fetch_in_process(
                url, spans, folder, self._options, rate_limiter=self._rate_limiter, traffic=traffic, stop=stop
            )
        finally:
            with self._report.lock:
                self._report.traffic.add(traffic)
                self._report.tries += 1
        if self._callbacks.committed():
            raise AlreadyCommitted
        outcome = source_outcome(got)
        if is_remote(url):
            self._callbacks.answered(url, got)
            if self._equal.note(url, outcome):
                breaker.broken.set()
        if outcome.transient and breaker.broken.is_set():
            return []
        if outcome.reason is Reason.DISK and not _has_room(self._folder):
            breaker.broken.set()
            raise stopped_by(outcome)
        if is_remote(url) or outcome.reason is Reason.DISK:  # the user's files say nothing of the network
            breaker.note(outcome)
        self._report.advance(sum(not clip.outcome.transient for clip in got))
        return got


class _Stop(threading.Event):
    """Event that the fetcher checks before every request: set if the round broke off or another build has committed."""

    def __init__(self, broken: threading.Event, committed: Callable[[], bool]) -> None:
        super().__init__()
        self._broken, self._committed = broken, committed

    def is_set(self) -> bool:
        return self._broken.is_set() or self._committed()

    def wait(self, timeout: float | None = None) -> bool:
        return self._broken.wait(timeout)


def _has_room(folder: Path) -> bool:
    """Return whether our own disk takes another megabyte; errors of the user's own files do not show that."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(1 << 20))
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        return False
    return True
