"""Rate limiters: how often a site may be asked, shared by everything that fetches from this machine's address.

A site counts the requests of an address, not of a process, and it throttles the address. So the permission to send a
request comes from a shared place. A site's "slow down" (429, 503) is recorded there too: it pauses the site for all
sources, not only for the video whose request received it.

The rules are pure functions over `SiteState`. `MemoryRateLimiter` keeps the states in this process, `FileRateLimiter`
in a folder for all processes of a machine. `RateLimiter` is the protocol that another place (the scheduler of a
cluster) must offer: calls that never block and exchange plain values.
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

from vidaudio.errors import ClusterError

# After a pause, one request probes whether it is over; other requests wait for the answer, but at most this long.
PROBE_SECONDS = 30.0
# Time after which to ask again while another request is probing.
_PROBE_POLL_SECONDS = 0.2
# Bytes of a state's file. It is always written whole in one call, so that a killed process leaves no partial state.
_RECORD_BYTES = 512


@dataclass(frozen=True, slots=True)
class SiteRate:
    """Limits on the requests to one site.

    Attributes:
        requests_per_hour: Largest number of requests, spread evenly over the hour, without bursts; None for no limit.
        minimum_interval_seconds: Least time between two requests.
        jitter_seconds: Upper bound of the random time, drawn uniformly, that is added to every interval.
        first_pause_seconds: Pause after the site's first 429 or 503 without Retry-After; doubled with each that
            follows.
        longest_pause_seconds: Longest pause, regardless of Retry-After.
    """

    requests_per_hour: float | None = None
    minimum_interval_seconds: float = 0.0
    jitter_seconds: float = 0.0
    first_pause_seconds: float = 10.0
    longest_pause_seconds: float = 3600.0

    @property
    def interval_seconds(self) -> float:
        """Return the least time between two requests, without jitter."""
        even = 3600.0 / self.requests_per_hour if self.requests_per_hour else 0.0
        return max(even, self.minimum_interval_seconds)


@dataclass(frozen=True, slots=True)
class Rates:
    """Limits of all sites: `sites` by the site's name (as passed to `RateLimiter`), `default` for all others."""

    default: SiteRate = SiteRate()
    sites: Mapping[str, SiteRate] = field(default_factory=dict)

    def of(self, site: str) -> SiteRate:
        """Return the limits of a site."""
        return self.sites.get(site, self.default)


class RateLimiterUnreachable(ClusterError):
    """The place that keeps the rate limits is unreachable: no request may be sent, and no source is to blame."""


class RateLimiter(Protocol):
    """Protocol of a rate limiter. No call waits for a turn; times are seconds from now.

    Every call may raise `RateLimiterUnreachable`.
    """

    def try_acquire(self, site: str) -> float:
        """Return 0 if one request is granted (and counted); otherwise the seconds after which to ask again."""
        ...

    def report_throttled(self, site: str, retry_after_seconds: float | None) -> float:
        """Pause the site for all, after it answered 429 or 503; return the length of the pause in seconds."""
        ...

    def report_ok(self, site: str) -> None:
        """Record any other answer of the site: the pause was long enough."""
        ...

    def report_no_response(self, site: str) -> None:
        """Record a broken connection: nothing was learned, and another request may probe whether a pause is over."""
        ...


@dataclass(frozen=True, slots=True)
class SiteState:
    """State that a rate limiter keeps of a site; times are those of `time.time()`.

    Attributes:
        next_at: Time before which no request is granted, by the interval.
        paused_until: Time before which no request is granted, by a pause.
        refusals: Number of 429s and 503s since the last other answer; those of one pause count once.
        probing_until: Time until which one request probes whether the pause is over; 0 or in the past if none does.
        spent: Number of all requests ever granted.
    """

    next_at: float = 0.0
    paused_until: float = 0.0
    refusals: int = 0
    probing_until: float = 0.0
    spent: int = 0


def acquire(state: SiteState, rate: SiteRate, now: float, jitter: float) -> tuple[SiteState, float]:
    """Grant one request if it may be sent now; return the new state and 0, or the same state and the seconds to wait.

    Args:
        state: State of the site.
        rate: Limits of the site.
        now: Current time, as of `time.time()`.
        jitter: Share of `rate.jitter_seconds` to add to the interval, in [0, 1].
    """
    gap = rate.interval_seconds + jitter * rate.jitter_seconds
    # Clocks are sometimes set back; no wait may be longer than the rules allow.
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
    """Return the state after a 429 or 503, which begins a pause. Several received during one pause count once."""
    refusals = state.refusals if now < state.paused_until else state.refusals + 1
    doubled = rate.first_pause_seconds * 2.0 ** min(refusals - 1, 30)
    if retry_after_seconds is None:
        pause = doubled
    else:  # believed once; if the site refuses again, its value was too short
        pause = retry_after_seconds if refusals <= 1 else max(retry_after_seconds, doubled)
    paused_until = max(state.paused_until, now + min(pause, rate.longest_pause_seconds))
    return replace(state, refusals=refusals, paused_until=paused_until, probing_until=0.0)


def on_ok(state: SiteState) -> SiteState:
    """Return the state after any answer other than 429 or 503: the site is no longer refusing."""
    return replace(state, refusals=0, probing_until=0.0)


def on_timeout(state: SiteState) -> SiteState:
    """Return the state after a request without an answer: a probe, if it was one, has found out nothing."""
    return replace(state, probing_until=0.0)


class MemoryRateLimiter:
    """A rate limiter for the threads of one process; rate limit servers also use it inside.

    Args:
        rates: Limits of all sites; None means no limit on the rate, only pauses after a 429 or 503.
        clock: Source of the current time in seconds.
    """

    def __init__(self, rates: Rates | None = None, *, clock: Callable[[], float] = time.time) -> None:
        self.rates = rates or Rates()
        self._clock = clock
        self._lock = threading.Lock()
        self._states: dict[str, SiteState] = {}

    def try_acquire(self, site: str) -> float:
        """Return 0 if one request is granted; otherwise the seconds after which to ask again."""
        with self._lock:
            state = self._states.get(site, SiteState())
            self._states[site], wait = acquire(state, self.rates.of(site), self._clock(), random.random())
            return wait

    def report_throttled(self, site: str, retry_after_seconds: float | None) -> float:
        """Pause the site after a 429 or 503; return the length of the pause in seconds."""
        with self._lock:
            now = self._clock()
            state = on_throttled(self._states.get(site, SiteState()), self.rates.of(site), now, retry_after_seconds)
            self._states[site] = state
            return state.paused_until - now

    def report_ok(self, site: str) -> None:
        """Record any other answer of the site."""
        with self._lock:
            self._states[site] = on_ok(self._states.get(site, SiteState()))

    def report_no_response(self, site: str) -> None:
        """Record a broken connection."""
        with self._lock:
            self._states[site] = on_timeout(self._states.get(site, SiteState()))

    def state(self, site: str) -> SiteState:
        """Return the state of a site."""
        with self._lock:
            return self._states.get(site, SiteState())


@dataclass(frozen=True)
class FileRateLimiter:
    """A rate limiter for all processes that use the same folder: one small file per site, locked while it is changed.

    The kernel releases the lock of a process that dies. Machines may share the folder, too, if its file system locks
    across machines and their clocks agree.

    Attributes:
        folder: Folder of the files; created if it is missing, for this user only.
        rates: Limits that this object applies; other processes may apply other limits.
    """

    folder: Path
    rates: Rates = Rates()

    def try_acquire(self, site: str) -> float:
        """Return 0 if one request is granted; otherwise the seconds after which to ask again."""
        with self._locked(site) as file:
            state, wait = acquire(_read(file), self.rates.of(site), time.time(), random.random())
            if not wait:
                _write(file, state)
            return wait

    def report_throttled(self, site: str, retry_after_seconds: float | None) -> float:
        """Pause the site after a 429 or 503; return the length of the pause in seconds."""
        with self._locked(site) as file:
            now = time.time()
            state = on_throttled(_read(file), self.rates.of(site), now, retry_after_seconds)
            _write(file, state)
            return state.paused_until - now

    def report_ok(self, site: str) -> None:
        """Record any other answer of the site."""
        with self._locked(site) as file:
            state = _read(file)
            if state.refusals:
                _write(file, on_ok(state))

    def report_no_response(self, site: str) -> None:
        """Record a broken connection."""
        with self._locked(site) as file:
            state = _read(file)
            if state.probing_until:
                _write(file, on_timeout(state))

    def state(self, site: str) -> SiteState:
        """Return the state of a site."""
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
    """Return the default folder in which the processes of one user on one machine share their rate limits.

    Raises:
        PermissionError: When something that is not this user's folder exists under its name.
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
