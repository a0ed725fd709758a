"""The task loop: keeps a bounded number of task chains in flight, whatever they do, and shows their outcomes in a bar.

A chain is the tasks of one work item, each after those that it needs. Work comes from an iterator and is forgotten once
it has finished, so a run of any length takes the same memory.
"""

from __future__ import annotations

import errno
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from tqdm import tqdm

from vidaudio.errors import VidaudioError
from vidaudio.media.outcomes import Reason
from vidaudio.pipeline.run_log import RunLog
from vidaudio.pipeline.stages.circuit_breaker import FetchAborted
from vidaudio.pipeline.stages.download import spent_by
from vidaudio.pipeline.task_id import TaskId
from vidaudio.text import number_of

if TYPE_CHECKING:
    from dask.typing import Key
    from distributed import Future

Work = TypeVar("Work")

# Unexpected errors in this many tasks in a row end the run: something is wrong with all of them.
MAX_FAILURES_IN_A_ROW = 5
MOST_REASONS_SHOWN = 4
SCHEDULER_GONE = "the Dask scheduler is gone"


class Progress:
    """A progress bar over the clips of all shards; it also shows the number of finished shards and the clips' outcomes.

    The bar moves when a shard is finished, and before that by reports from inside the shard (`inside`).

    Args:
        title, unit: Title of the bar and name of its unit.
        total: Units of all shards together.
        shards: Number of shards to do.
        shown: False for no bar at all.
    """

    def __init__(self, title: str, *, unit: str, total: int, shards: int, shown: bool) -> None:
        self._bar = tqdm(total=total, desc=title, unit=unit, disable=not shown, dynamic_ncols=True)
        self._shards = shards
        self._inside: dict[int, int] = {}
        # Reports from inside a shard arrive in another thread.
        self._lock = threading.Lock()
        self.through = 0
        self._outcomes: Counter[str] = Counter()
        self._show(0)

    def begun(self, shard: int) -> None:
        """Mark a shard as in flight; reports from inside it count only from now on."""
        with self._lock:
            self._inside[shard] = 0

    def inside(self, shard: int, units: int) -> None:
        """Move the bar to `units` within a shard that is not finished; it never moves back."""
        with self._lock:
            if units > self._inside.get(shard, units):
                self._bar.update(units - self._inside[shard])
                self._inside[shard] = units

    def finished(
        self, units: int, records: Sequence[Mapping[str, Any]], failed_tasks: int, shard: int | None = None
    ) -> None:
        """Add a finished shard with the records of its tasks; `failed_tasks` counts all failures of the run so far."""
        with self._lock:
            self.through += 1
            self._outcomes.update(chain_outcomes(records))
            self._show(failed_tasks)
            self._bar.update(units - (self._inside.pop(shard, 0) if shard is not None else 0))

    def close(self) -> None:
        """Close the bar."""
        self._bar.close()

    def _show(self, failed_tasks: int) -> None:
        self._bar.set_postfix_str(
            progress_text(self.through, self._shards, self._outcomes, failed_tasks), refresh=False
        )


def chain_outcomes(records: Sequence[Mapping[str, Any]]) -> Counter[str]:
    """Count the clips of a shard that came through all its stages (`done`), and the reasons of the others."""
    counted: Counter[str] = Counter()
    done = None
    for outcomes in (record.get("outcomes") for record in records):
        if outcomes:
            done = outcomes.get("done", 0)
            counted.update({reason: clips for reason, clips in outcomes.items() if reason != "done"})
    return counted if done is None else counted + Counter(done=done)


def progress_text(through: int, shards: int, outcomes: Mapping[str, int], failed_tasks: int) -> str:
    """Return the text behind the bar: `12/40 shards, 231 done, 14 private, 3 no_audio`."""
    text = [f"{through:,}/{shards:,} shards"]
    if "done" in outcomes:
        text.append(f"{outcomes['done']:,} done")
    others = Counter({reason: clips for reason, clips in outcomes.items() if reason != "done"}).most_common()
    text += [f"{clips:,} {reason}" for reason, clips in others[:MOST_REASONS_SHOWN]]
    if len(others) > MOST_REASONS_SHOWN:
        text.append(f"{sum(clips for _, clips in others[MOST_REASONS_SHOWN:]):,} others")
    if failed_tasks:
        text.append(f"{number_of(failed_tasks, 'task')} failed")
    return ", ".join(text)


@dataclass(slots=True)
class _Flight(Generic[Work]):
    """A work item in flight: its chain, and how many of the chain's tasks have not ended."""

    item: Work
    chain: list[Future]
    running: int


def run_tasks(
    work: Iterator[Work],
    submit: Callable[[Work], list[Future]],
    *,
    limit: int,
    units: Callable[[Work], int],
    report: RunLog,
    progress: Progress,
    verdict: Callable[[Mapping[str, Any]], str | None] = lambda record: None,
    shard_of: Callable[[Work], int | None] = lambda item: None,
) -> None:
    """Keep `limit` chains in flight until no work is left, or until everything fails.

    Args:
        work: Work items, each for one chain of tasks; the next is taken only when there is room.
        submit: Function from a work item to the futures of its chain, in order.
        limit: Number of chains in flight.
        units: Function from a work item to its share of the bar, in units.
        report: Log of finished and failed tasks.
        progress: The bar; it is left open.
        verdict: Function that is called with every record, in order of arrival; a sentence that it returns ends the run
            and is logged as the cause.
        shard_of: Function from a work item to its shard number, where progress is reported from inside shards.
    """
    from distributed import as_completed

    waiting = as_completed()
    flying: dict[Key, _Flight[Work]] = {}
    in_flight = failures_in_a_row = 0
    stopped = False
    # All shards in flight meet the cause that ends the run, each with its own message; the first message is used for
    # all.
    causes: dict[Reason, str] = {}

    def feed() -> None:
        nonlocal in_flight
        while in_flight < limit and (item := next(work, None)) is not None:
            if (shard := shard_of(item)) is not None:
                progress.begun(shard)
            chain = submit(item)
            in_flight += 1
            flying.update(dict.fromkeys((link.key for link in chain), _Flight(item, chain, len(chain))))
            waiting.update(chain)

    feed()
    for future in waiting:
        flight = flying.pop(future.key)
        del future
        flight.running -= 1
        if flight.running:
            continue
        in_flight -= 1
        item, chain = flight.item, flight.chain
        unfinished = [link for link in chain if link.status != "finished"]
        if not unfinished:
            failures_in_a_row = 0
        else:
            failures_in_a_row += 1
            culprit = next((link for link in unfinished if link.status == "error"), unfinished[-1])
            text, cause = _described(culprit), _shared_cause(culprit)
            if cause is not None:
                text = causes.setdefault(cause, text)
            task, spent = TaskId.parse(str(culprit.key)), spent_by(culprit.exception())
            report.error(str(task), text, {**spent, "stage": task.stage, "shard": int(task.part)} if spent else None)
            stopped = stopped or _ends_the_run(culprit)
        # Tasks that finished before another task of the chain failed still count, with their cost.
        records, lost = _records(chain)
        if lost and not stopped:
            report.error("run", SCHEDULER_GONE)
            stopped = True
        for record in records:
            report.finished(record)
            if not stopped and (ending := verdict(record)) is not None:
                report.error("run", ending)
                stopped = True
        through = () if unfinished else records
        progress.finished(units(item), through, report.failed, shard_of(item))
        # A future that is still referenced here would keep its task in the scheduler until the next one ends.
        del flight, item, chain, unfinished, records, through
        if failures_in_a_row < MAX_FAILURES_IN_A_ROW and not stopped:
            feed()


def _records(chain: Sequence[Future]) -> tuple[list[dict[str, Any]], bool]:
    """Return what the finished tasks of a chain returned, and whether the scheduler was lost before the last."""
    records = []
    for link in chain:
        if link.status == "finished":
            try:
                records.append(link.result())
            except CancelledError:
                return records, True
    return records, False


def _ends_the_run(future: Future) -> bool:
    """Return whether all further tasks would fail the same way."""
    error = future.exception()
    return _given_up(future) or isinstance(error, FetchAborted) or _disk_is_full(error)


def _shared_cause(future: Future) -> Reason | None:
    """Return the reason of a failure that every other task would meet, too; None for another failure."""
    error = future.exception()
    if isinstance(error, FetchAborted):
        return error.reason
    return Reason.DISK if _disk_is_full(error) else None


def _given_up(future: Future) -> bool:
    """Return whether the task was lost together with the scheduler."""
    return future.status in ("cancelled", "lost")


def _disk_is_full(error: BaseException | None) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def _described(future: Future) -> str:
    if _given_up(future):
        return SCHEDULER_GONE
    error = future.exception()
    text = str(error).strip() or type(error).__name__
    if _disk_is_full(error):
        return f"the disk is full ({text}); make room on it"
    return text if isinstance(error, VidaudioError) else f"{type(error).__name__}: {text.splitlines()[0]}"
