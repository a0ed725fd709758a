"""One budget for a cluster of many machines: kept where the scheduler runs, asked by every worker over Dask.

A site counts what comes from a cluster, whichever machine sent it. The scheduler is the one place all workers can reach
already, so a small plugin answers there. It keeps the states as every single machine does, in files (see
`vidaudio.media.fetch.rate_limit.FileRateLimiter`): they outlive drivers, workers and the scheduler itself, and builds
that run on the scheduler's machine without a cluster spend from the same budget.
"""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from distributed import SchedulerPlugin
from distributed.utils import sync

from vidaudio.errors import CorpusError
from vidaudio.media.fetch.rate_limit import FileRateLimiter, RateLimiterUnreachable, Rates, SiteRate, user_rate_folder

if TYPE_CHECKING:
    from distributed import Client, Scheduler, Worker

# A scheduler that has not answered by then is as good as gone.
ANSWER_SECONDS = 60.0


class RateLimiterServer(SchedulerPlugin):
    """Answers workers on the scheduler. The first one registered stays, whatever drivers come and go.

    Rates come with each question, so that a driver may change them between two runs.
    """

    name = "vidaudio-budget"
    idempotent = True

    async def start(self, scheduler: Scheduler) -> None:
        """Begin to answer.

        Raises:
            OSError: The scheduler's machine has no folder for it.
        """
        self._folder = user_rate_folder()
        scheduler.handlers["vidaudio_budget"] = self.answer

    async def answer(self, call: str, site: str, rate: dict[str, Any], told: float | None = None) -> Any:
        """`turn`, `refused(told)`, `answered`, `unanswered` of `vidaudio.media.fetch.rate_limit.RateLimiter`; or
        `state` as a mapping.

        Files are locked in a thread: whoever holds a lock must not hold up the scheduler.
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
    """The scheduler's budget as the threads of one worker see it. No call waits for the site, each for the scheduler.

    A worker remembers how long it was told to wait: nobody in it can be served earlier, so nobody asks. A hundred
    workers with all their threads then cost the scheduler one question each an interval.
    """

    def __init__(self, worker: Worker, rates: Rates) -> None:
        self.rates = rates
        self._worker = worker
        self._lock = threading.Lock()
        self._not_before: dict[str, float] = {}

    def try_acquire(self, site: str) -> float:
        with self._lock:
            remaining = self._not_before.get(site, 0.0) - time.monotonic()
        if remaining > 0:
            return remaining
        wait = self._ask("try_acquire", site)
        if wait:
            self._wait_until(site, time.monotonic() + wait)
        return wait

    def report_throttled(self, site: str, retry_after_seconds: float | None) -> float:
        pause = self._ask("report_throttled", site, retry_after_seconds)
        self._wait_until(site, time.monotonic() + pause)
        return pause

    def report_ok(self, site: str) -> None:
        self._ask("report_ok", site)

    def report_no_response(self, site: str) -> None:
        self._ask("report_no_response", site)

    def _wait_until(self, site: str, moment: float) -> None:
        with self._lock:
            self._not_before[site] = max(moment, self._not_before.get(site, 0.0))

    def _ask(self, call: str, site: str, told: float | None = None) -> Any:
        question = {"call": call, "site": site, "rate": asdict(self.rates.of(site)), "told": told}
        try:
            return sync(
                self._worker.loop,
                self._worker.scheduler.vidaudio_budget,
                callback_timeout=ANSWER_SECONDS,
                **question,
            )
        except (OSError, RuntimeError) as error:  # closed connections and loops: this worker is on its way out
            raise RateLimiterUnreachable(
                f"the Dask scheduler no longer answers for the budget of {site} ({type(error).__name__}: {error})"
            ) from error


def serve_rate_limiter(client: Client, address: str) -> None:
    """Have the cluster's scheduler keep the budgets, unless it does so already.

    Raises:
        CorpusError: It cannot; says why.
    """
    try:
        client.register_plugin(RateLimiterServer())
    except Exception as error:  # whatever unpickling on a foreign machine may raise
        raise CorpusError(
            f"the scheduler at {address} cannot keep the budgets of the sites ({type(error).__name__}: {error}); "
            "start it with the same vidaudio installed, or name a folder that all workers share with "
            "download.rate.folder"
        ) from error


_budgets: dict[tuple[str, str], ClusterRateLimiter] = {}
_budgets_lock = threading.Lock()


def cluster_rate_limiter(rates: Rates) -> ClusterRateLimiter | None:
    """The budget of the cluster whose worker runs this thread's task; None outside of a task.

    One object a worker and rates, so that all its threads share what they were told.
    """
    from distributed import get_worker

    try:
        worker = get_worker()
    except ValueError:
        return None
    with _budgets_lock:
        return _budgets.setdefault((worker.id, repr(rates)), ClusterRateLimiter(worker, rates))
