"""The log of a run: what its tasks cost and which of them failed. No identity check reads it.

A run may have hundreds of thousands of tasks. Their rows are therefore kept as compressed row groups, a few bytes a
task, and only the first errors are kept as text.
"""

from __future__ import annotations

import datetime
import io
import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vidaudio.shards.store import Store

RUNS_FOLDER = "runs"
# One row per finished task, and one per failed download, with its cost until then.
JOURNAL = pa.schema(
    [
        ("stage", pa.string()),
        ("shard", pa.int32()),
        ("rows", pa.int64()),
        ("seconds", pa.float64()),
        ("requests", pa.int64()),
        ("refused", pa.int64()),
        ("waited_seconds", pa.float64()),
        ("source_tries", pa.int64()),
    ]
)
ROW_GROUP_TASKS = 4096
MOST_ERRORS_KEPT = 100


class RunLog:
    """What one run did, kept in little memory however long the run is.

    Attributes:
        tasks: Number of finished tasks.
        failed: Number of tasks that met an unexpected error.
        errors: First line of each of the first errors, by task.
        seconds: Wall time of the run.
    """

    def __init__(self) -> None:
        self.tasks = self.failed = 0
        self.errors: dict[str, str] = {}
        self.seconds = 0.0
        self._rows: list[dict[str, Any]] = []
        self._sink = io.BytesIO()
        self._writer: pq.ParquetWriter | None = None

    def finished(self, record: Mapping[str, Any]) -> None:
        """Add a finished task; `record` is what it returned."""
        self.tasks += 1
        self._row(record)

    def error(self, task: str, text: str, spent: Mapping[str, Any] | None = None) -> None:
        """Add a task that failed for a reason that belongs to no clip.

        Args:
            task: Name of the task, `<stage>-<shard>`; `run` for an error of the whole run.
            text: What happened.
            spent: What the task had cost by then, as a record; written as a row of its own, without clips.
        """
        self.failed += 1
        if spent:
            self._row(spent)
        if len(self.errors) < MOST_ERRORS_KEPT:
            self.errors[task] = text

    def _row(self, record: Mapping[str, Any]) -> None:
        row = {name: record.get(name, 0) for name in JOURNAL.names}
        self._rows.append(row | {"requests": sum(record.get("requests", {}).values())})
        if len(self._rows) == ROW_GROUP_TASKS:
            self._flush()

    def write(self, store: Store) -> None:
        """Write the log once, at the end, to `runs/<time>/tasks.parquet`; a run without tasks writes nothing."""
        if not self.tasks and not self.failed:
            return
        writer = self._flush()
        described = {"seconds": self.seconds, "failed": self.failed, "errors": self.errors}
        writer.add_key_value_metadata({"vidaudio": json.dumps(described)})
        writer.close()
        stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S.%f")
        store.create(f"{RUNS_FOLDER}/{stamp}/tasks.parquet", self._sink.getvalue())

    def _flush(self) -> pq.ParquetWriter:
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._sink, JOURNAL, compression="zstd")
        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, schema=JOURNAL))
            self._rows = []
        return self._writer
