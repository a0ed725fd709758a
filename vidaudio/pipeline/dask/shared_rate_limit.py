"""One rate limiter for a cluster of many machines: it runs on the scheduler, and every worker calls it over Dask.

A site counts all requests of a cluster, whichever machine sent them. The scheduler is the one place that all workers
can reach already, so a small plugin answers there. It keeps its states in files, as a single machine does (see
`vidaudio.media.fetch.rate_limit.FileRateLimiter`). They outlive drivers, workers and the scheduler itself, and builds
that run on the scheduler's machine without a cluster share the same limits.
"""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from distributed import SchedulerPlugin
from distributed.utils import sync

from vidaudio.errors import ClusterError
from vidaudio.media.fetch.rate_limit import FileRateLimiter, RateLimiterUnreachable, Rates, SiteRate, user_rate_folder

if TYPE_CHECKING:
    from distributed import Client, Scheduler, Worker

# A scheduler that has not answered by then is taken as unreachable.
ANSWER_SECONDS = 60.0


class RateLimiterServer(SchedulerPlugin):
    """Scheduler plugin that answers the workers. The first one registered stays, whichever drivers come and go.

    Rates come with each call, so that a driver may change them between two runs.
    """

    name = "vidaudio-budget"
    idempotent = True

    async def start(self, scheduler: Scheduler) -> None:
        """Find the folder of the states and register the handler.

        Raises:
            OSError: When the scheduler's machine has no folder for the states.
        """
        self._folder = user_rate_folder()
        scheduler.handlers["vidaudio_rate_limiter"] = self.answer

    async def answer(self, call: str, site: str, rate: dict[str, Any], told: float | None = None) -> Any:
        """Call a method of `vidaudio.media.fetch.rate_limit.RateLimiter`, or return a site's `state` as a mapping.

        Files are locked in a thread: waiting for a lock must not block the scheduler.

        Args:
            call: `try_acquire`, `report_throttled`, `report_ok`, `report_no_response` or `state`.
            site: Site, as the rate limiter names it.
            rate: Fields of the site's `SiteRate`.
            told: For `report_throttled`: seconds to wait that the site asked for; None where it named none.
        """
        rate_limiter = FileRateLimiter(self._folder, Rates(SiteRate(**rate)))
        if call == "try_acquire":
            return await asyncio.to_thread(rate_limiter.try_acquire, site)
        if call == "report_throttled":
            return await asyncio.to_thread(rate_limiter.report_throttled, site, told)
        if call == "report_ok":
            return await asyncio.to_thread(rate_limiter.report_ok, site)
        if call == "report_no_response":
            return await asyncio.to_thread(rate_limiter.report_no_response, site)
        if call == "state":
            return asdict(await asyncio.to_thread(rate_limiter.state, site))
        raise ValueError(f"a budget does not answer {call!r}")


class ClusterRateLimiter:
    """The scheduler's rate limiter as the threads of one worker see it.

    No call waits for the site, but each waits for the scheduler's answer. A worker remembers how long it has to wait.
    Until then no thread can be granted a request, so none asks. A hundred workers with all their threads then cost the
    scheduler one call each per interval.
    """

    def __init__(self, worker: Worker, rates: Rates) -> None:
        self.rates = rates
        self._worker = worker
        self._lock = threading.Lock()
        self._not_before: dict[str, float] = {}

    def try_acquire(self, site: str) -> float:
        """Return 0 if one request is granted, else the seconds after which to ask again."""
        with self._lock:
            remaining = self._not_before.get(site, 0.0) - time.monotonic()
        if remaining > 0:
            return remaining
        wait = self._ask("try_acquire", site)
        if wait:
            self._wait_until(site, time.monotonic() + wait)
        return wait

    def report_throttled(self, site: str, retry_after_seconds: float | None) -> float:
        """Report a 429 or 503; return for how many seconds the site is paused."""
        pause = self._ask("report_throttled", site, retry_after_seconds)
        self._wait_until(site, time.monotonic() + pause)
        return pause

    def report_ok(self, site: str) -> None:
        """Report any other answer of the site."""
        self._ask("report_ok", site)

    def report_no_response(self, site: str) -> None:
        """Report that the connection broke without an answer."""
        self._ask("report_no_response", site)

    def _wait_until(self, site: str, moment: float) -> None:
        with self._lock:
            self._not_before[site] = max(moment, self._not_before.get(site, 0.0))

    def _ask(self, call: str, site: str, told: float | None = None) -> Any:
        question = {"call": call, "site": site, "rate": asdict(self.rates.of(site)), "told": told}
        try:
            return sync(
                self._worker.loop,
                self._worker.scheduler.vidaudio_rate_limiter,
                callback_timeout=ANSWER_SECONDS,
                **question,
            )
        except (OSError, RuntimeError) as error:  # closed connections and loops: this worker is shutting down
            raise RateLimiterUnreachable(
                f"the Dask scheduler no longer answers for the budget of {site} ({type(error).__name__}: {error})"
            ) from error


def serve_rate_limiter(client: Client, address: str) -> None:
    """Register the rate limiter with the cluster's scheduler, unless it has one already.

    Raises:
        ClusterError: When registration fails; the message says why.
    """
    try:
        client.register_plugin(RateLimiterServer())
    except Exception as error:  # unpickling on a foreign machine may raise anything
        raise ClusterError(
            f"the scheduler at {address} cannot keep the budgets of the sites ({type(error).__name__}: {error}); "
            "start it with the same vidaudio installed, or name a folder that all workers share with "
            "download.rate.folder"
        ) from error


_rate_limiters: dict[tuple[str, str], ClusterRateLimiter] = {}
_rate_limiters_lock = threading.Lock()


def cluster_rate_limiter(rates: Rates) -> ClusterRateLimiter | None:
    """Return the rate limiter of the cluster whose worker runs this thread's task; None outside of a task.

    There is one object per worker and rates, so that all threads share its waiting times.
    """
    from distributed import get_worker

    try:
        worker = get_worker()
    except ValueError:
        return None
    with _rate_limiters_lock:
        return _rate_limiters.setdefault((worker.id, repr(rates)), ClusterRateLimiter(worker, rates))
