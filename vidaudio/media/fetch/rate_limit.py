"""How often a site may be asked: one budget a site, shared by everybody who fetches from this machine's address.

A site counts the requests of an address, not those of a process, and what it throttles is the address. So the right to
send a request is taken from a shared place, and a site's "slow down" (429, 503) is written down there: it pauses the
site for everybody, not the one video that happened to hear it.

The rules are pure functions over `SiteState`. `MemoryRateLimiter` keeps the states in this process, `FileRateLimiter`
in a folder for all processes of a machine; `RateLimiter` is what a third place (the scheduler of a cluster) has to
offer: calls that never block and speak plain values.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import random
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Protocol

from vidaudio.errors import CorpusError

# After a pause one request asks whether it is over; the others wait for its answer, but no longer than this.
PROBE_SECONDS = 30.0
# How soon to ask again while another request is asking.
_PROBE_POLL_SECONDS = 0.2
# Bytes of a state's file, always written whole in one call, so that a killed process leaves no half of it.
_RECORD_BYTES = 512


@dataclass(frozen=True, slots=True)
class SiteRate:
    """What one site is asked for at most.

    Attributes:
        requests_per_hour: Spread evenly over the hour, without bursts; None for no limit.
        minimum_interval_seconds: Between two requests.
        jitter_seconds: Up to this much, drawn evenly, is added to every interval.
        first_pause_seconds: Of the site after its first 429 or 503 without Retry-After; doubled with each that follows.
        longest_pause_seconds: No pause is longer, whatever Retry-After says.
    """

    requests_per_hour: float | None = None
    minimum_interval_seconds: float = 0.0
    jitter_seconds: float = 0.0
    first_pause_seconds: float = 10.0
    longest_pause_seconds: float = 3600.0

    @property
    def interval_seconds(self) -> float:
        """Least time between two requests, jitter not counted."""
        even = 3600.0 / self.requests_per_hour if self.requests_per_hour else 0.0
        return max(even, self.minimum_interval_seconds)


@dataclass(frozen=True, slots=True)
class Rates:
    """The rate of every site: `sites` by name (as `RateLimiter` is told it), `default` for all others."""

    default: SiteRate = SiteRate()
    sites: Mapping[str, SiteRate] = field(default_factory=dict)

    def of(self, site: str) -> SiteRate:
        return self.sites.get(site, self.default)


class RateLimiterUnreachable(CorpusError):
    """Where a budget is kept cannot be reached any more: no request may be sent, and no source is to blame."""


class RateLimiter(Protocol):
    """Where the right to send requests is taken from. No call waits for a turn; times are seconds from now.

    Each may raise `RateLimiterUnreachable`.
    """

    def try_acquire(self, site: str) -> float:
        """0: one request is granted, and spent. More: nothing is granted; ask again after so many seconds."""
        ...

    def report_throttled(self, site: str, retry_after_seconds: float | None) -> float:
        """The site answered 429 or 503: pause it for all. Returns for how long it is paused."""
        ...

    def report_ok(self, site: str) -> None:
        """The site answered anything else: the pause was long enough."""
        ...

    def report_no_response(self, site: str) -> None:
        """The connection broke: nothing was learned, and another may ask whether a pause is over."""
        ...


@dataclass(frozen=True, slots=True)
class SiteState:
    """What a budget remembers of a site; times are those of `time.time()`.

    Attributes:
        next_at: No request before.
        paused_until: Nor before this.
        refusals: 429s and 503s since the last other answer, those of one pause counted once.
        probing_until: While it lies ahead, one request is finding out whether the pause is over.
        spent: Requests granted, ever.
    """

    next_at: float = 0.0
    paused_until: float = 0.0
    refusals: int = 0
    probing_until: float = 0.0
    spent: int = 0


def acquire(state: SiteState, rate: SiteRate, now: float, jitter: float) -> tuple[SiteState, float]:
    """One request, if it may be sent now; else how long to wait. `jitter` is in [0, 1]."""
    gap = rate.interval_seconds + jitter * rate.jitter_seconds
    # Clocks are set back now and then; no wait is longer than the rules make it.
    next_at = min(state.next_at, now + rate.interval_seconds + rate.jitter_seconds)
    paused_until = min(state.paused_until, now + rate.longest_pause_seconds)
    ready_at = max(next_at, paused_until)
    if now < ready_at:
        return state, ready_at - now
    probing_until = 0.0
    if state.refusals:
        if now < min(state.probing_until, now + PROBE_SECONDS):
            return state, min(_PROBE_POLL_SECONDS, state.probing_until - now)
        probing_until = now + PROBE_SECONDS
    return replace(state, next_at=now + gap, probing_until=probing_until, spent=state.spent + 1), 0.0


def on_throttled(state: SiteState, rate: SiteRate, now: float, retry_after_seconds: float | None) -> SiteState:
    """The pause that a 429 or 503 begins. Several heard during one pause, sent before it, count once."""
    refusals = state.refusals if now < state.paused_until else state.refusals + 1
    doubled = rate.first_pause_seconds * 2.0 ** min(refusals - 1, 30)
    if retry_after_seconds is None:
        pause = doubled
    else:  # taken at its word once; a site that refuses again did not mean it
        pause = retry_after_seconds if refusals <= 1 else max(retry_after_seconds, doubled)
    paused_until = max(state.paused_until, now + min(pause, rate.longest_pause_seconds))
    return replace(state, refusals=refusals, paused_until=paused_until, probing_until=0.0)


def on_ok(state: SiteState) -> SiteState:
    """The site talks again."""
    return replace(state, refusals=0, probing_until=0.0)


def on_timeout(state: SiteState) -> SiteState:
    """Whoever was to find out whether a pause is over has not."""
    return replace(state, probing_until=0.0)


class MemoryRateLimiter:
    """A budget for the threads of one process; also what a budget server keeps inside."""

    def __init__(self, rates: Rates | None = None, *, clock: Callable[[], float] = time.time) -> None:
        self.rates = rates or Rates()
        self._clock = clock
        self._lock = threading.Lock()
        self._states: dict[str, SiteState] = {}

    def try_acquire(self, site: str) -> float:
        with self._lock:
            state = self._states.get(site, SiteState())
            self._states[site], wait = acquire(state, self.rates.of(site), self._clock(), random.random())
            return wait

    def report_throttled(self, site: str, retry_after_seconds: float | None) -> float:
        with self._lock:
            now = self._clock()
            state = on_throttled(self._states.get(site, SiteState()), self.rates.of(site), now, retry_after_seconds)
            self._states[site] = state
            return state.paused_until - now

    def report_ok(self, site: str) -> None:
        with self._lock:
            self._states[site] = on_ok(self._states.get(site, SiteState()))

    def report_no_response(self, site: str) -> None:
        with self._lock:
            self._states[site] = on_timeout(self._states.get(site, SiteState()))

    def state(self, site: str) -> SiteState:
        """What is remembered of a site."""
        with self._lock:
            return self._states.get(site, SiteState())


@dataclass(frozen=True)
class FileRateLimiter:
    """A budget for all processes that name the same folder: one small file a site, under a lock while it is changed.

    The kernel lets go of the lock of a process that dies. On a file system that locks across machines, and with their
    clocks in step, the folder may be shared by machines, too.

    Attributes:
        folder: Made where it is missing, for this user only.
        rates: Of those who ask through this object; others may ask by other rates.
    """

    folder: Path
    rates: Rates = Rates()

    def try_acquire(self, site: str) -> float:
        with self._locked(site) as file:
            state, wait = acquire(_read(file), self.rates.of(site), time.time(), random.random())
            if not wait:
                _write(file, state)
            return wait

    def report_throttled(self, site: str, retry_after_seconds: float | None) -> float:
        with self._locked(site) as file:
            now = time.time()
            state = on_throttled(_read(file), self.rates.of(site), now, retry_after_seconds)
            _write(file, state)
            return state.paused_until - now

    def report_ok(self, site: str) -> None:
        with self._locked(site) as file:
            state = _read(file)
            if state.refusals:
                _write(file, on_ok(state))

    def report_no_response(self, site: str) -> None:
        with self._locked(site) as file:
            state = _read(file)
            if state.probing_until:
                _write(file, on_timeout(state))

    def state(self, site: str) -> SiteState:
        """What is remembered of a site."""
        with self._locked(site) as file:
            return _read(file)

    @contextlib.contextmanager
    def _locked(self, site: str) -> Iterator[int]:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        file = os.open(self.folder / _file_name(site), flags, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file
        finally:
            os.close(file)


def user_rate_folder() -> Path:
    """Where the processes of one user on one machine share their budgets unless told otherwise.

    Raises:
        PermissionError: Somebody else has put something in its place.
    """
    folder = Path(tempfile.gettempdir()) / f"vidaudio-budget-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    standing = folder.lstat()
    if standing.st_uid != os.getuid() or not folder.is_dir() or folder.is_symlink():
        raise PermissionError(f"{folder} is not a folder of this user; name another with download.rate.folder")
    return folder


def _file_name(site: str) -> str:
    readable = re.sub(r"[^a-z0-9.-]+", "_", site.lower())[:80].strip(".") or "site"
    return f"{readable}.{hashlib.sha256(site.encode()).hexdigest()[:8]}.json"


def _read(file: int) -> SiteState:
    record = os.pread(file, _RECORD_BYTES, 0)
    return SiteState(**json.loads(record)) if record else SiteState()


def _write(file: int, state: SiteState) -> None:
    os.pwrite(file, json.dumps(asdict(state)).encode().ljust(_RECORD_BYTES), 0)
