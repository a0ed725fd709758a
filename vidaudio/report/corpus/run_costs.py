"""What the runs of a corpus cost, by stage, from the logs in `runs/`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from vidaudio.corpus.columns import columns_in_order
from vidaudio.corpus.corpus import Corpus
from vidaudio.pipeline.run_log import JOURNAL, RUNS_FOLDER
from vidaudio.shards.commit import TABLE_DAMAGE
from vidaudio.shards.parquet_limits import read_whole

LOG_FILE = "tasks.parquet"


@dataclass(frozen=True, slots=True)
class StageCost:
    """What all recorded tasks of a stage cost.

    Attributes:
        stage: Name of the stage.
        tasks: Number of tasks.
        seconds: Time that the tasks took, one after the other.
        rows: Rows that they wrote: clips, and of `embed` pictures.
        requests: Requests to sites.
    """

    stage: str
    tasks: int
    seconds: float
    rows: int
    requests: int


@dataclass(frozen=True, slots=True)
class RunCosts:
    """Costs by stage, and the number of logs that cannot be read."""

    stages: tuple[StageCost, ...]
    unreadable: int


def read_run_costs(corpus: Corpus) -> RunCosts:
    """Return what the runs of a corpus cost; the logs are no part of the corpus, so damaged ones are only counted."""
    sums: dict[str, list[float]] = {}
    unreadable = 0
    for table in _logs(corpus):
        if table is None:
            unreadable += 1
            continue
        grouped = table.group_by("stage", use_threads=False).aggregate(
            [("shard", "count"), ("seconds", "sum"), ("rows", "sum"), ("requests", "sum")]
        )
        for row in grouped.to_pylist():
            summed = sums.setdefault(str(row["stage"]), [0, 0, 0, 0])
            for place, name in enumerate(("shard_count", "seconds_sum", "rows_sum", "requests_sum")):
                summed[place] += row[name] or 0
    order = [column.stage for column in columns_in_order()] + ["pack"]
    costs = [
        StageCost(stage, int(sums[stage][0]), float(sums[stage][1]), int(sums[stage][2]), int(sums[stage][3]))
        for stage in order
        if stage in sums
    ]
    return RunCosts(tuple(costs), unreadable)


def _logs(corpus: Corpus) -> Iterator[pa.Table | None]:
    """Yield the tables of all logs, in order; None for a log that cannot be read."""
    for run in corpus.store.folders(RUNS_FOLDER):
        place = f"{RUNS_FOLDER}/{run}/{LOG_FILE}"
        if not corpus.store.exists(place):
            continue
        try:
            table = read_whole(corpus.store.read(place), JOURNAL.names)
            yield table.cast(JOURNAL)
        except TABLE_DAMAGE:
            yield None
