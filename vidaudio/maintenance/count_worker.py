"""Counts of clips by outcome in committed tables; for many remote tables, the work is shared among processes.

A request to S3 costs the client over a millisecond of one core, and the requests of one process share one core. Tens of
thousands of tables are therefore divided among processes. Each process reads some tables and returns a table of counts.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vidaudio.cpus import available_cores
from vidaudio.errors import CorpusError, StoreError
from vidaudio.maintenance import notices
from vidaudio.media.outcomes import Reason, State
from vidaudio.shards.commit import TABLE_DAMAGE, CommitRecord, record_of
from vidaudio.shards.open import open_store
from vidaudio.shards.parallel_read import in_parallel
from vidaudio.shards.store import Store
from vidaudio.shards.table_checks import WORD_PATTERN, check_texts
from vidaudio.text import first_line, storable_text

LONGEST_EXAMPLE = 200
# Messages for a reason are no longer read once more than this many tables of a folder had an example for it: the
# message column costs as much as all other columns together. For `unknown`, messages are always read.
ENOUGH_EXAMPLES = 100
# With fewer remote tables per process, starting the process costs more than it saves.
TABLES_A_PROCESS = 2_000
# One row per outcome in a shard's table; a table without rows has one row with 0 clips. `example` is the most frequent
# message of the clips that failed for this reason.
SCHEMA = pa.schema(
    [
        ("folder", pa.string()),
        ("table", pa.string()),
        ("shard", pa.int32()),
        ("table_bytes", pa.int64()),
        ("state", pa.string()),
        ("reason", pa.string()),
        ("clips", pa.int32()),
        ("example", pa.string()),
        *notices.COLUMNS.items(),
    ]
)
# The tables to count, and the ids in each table whose rows are superseded and therefore not counted.
ASKED = pa.schema(
    [
        ("folder", pa.string()),
        ("table", pa.string()),
        ("table_bytes", pa.int64()),
        ("superseded", pa.list_(pa.string())),
    ]
)


def count_tables(store: Store, asked: pa.Table) -> pa.Table:
    """Count the clips of each outcome in committed tables.

    Args:
        store: Store of the corpus.
        asked: Tables to count, as rows of `ASKED`.

    Returns:
        Rows of `SCHEMA`.

    Raises:
        CorpusError: When a table is damaged or disappears before it is counted.
    """
    processes = min(available_cores(), asked.num_rows // TABLES_A_PROCESS)
    if processes < 2 or store.local_path("") is not None:
        return _count_here(store, asked)
    share = -(-asked.num_rows // processes)
    shares = [asked.slice(begin, share) for begin in range(0, asked.num_rows, share)]
    with ThreadPoolExecutor(len(shares)) as pool:
        return pa.concat_tables(pool.map(lambda part: _count_elsewhere(store.url, part), shares))


def _count_here(store: Store, asked: pa.Table) -> pa.Table:
    told: Counter[tuple[str, str]] = Counter()

    def count(row: dict) -> list[tuple]:
        return list(_counted(store, row, told))

    counted = [values for rows in in_parallel(store, count, _rows(asked)) for values in rows]
    columns: list[Sequence[Any]] = list(zip(*counted, strict=True)) or [() for _ in SCHEMA]
    return pa.table([pa.array(c, f.type) for c, f in zip(columns, SCHEMA, strict=True)], schema=SCHEMA)


# State, reason, clips, and an example of their message.
_Counts = tuple[str | None, str | None, int, str | None]


def _rows(asked: pa.Table) -> Iterator[dict]:
    for batch in asked.to_batches(max_chunksize=1024):
        yield from batch.to_pylist()


def _counted(store: Store, row: dict, told: Counter[tuple[str, str]]) -> Iterator[tuple]:
    name = f"{row['folder']}/{row['table']}"
    try:
        data = store.read(name)
        # Use one thread: Arrow's own may hold the last reference to a Python buffer and abort the process at exit.
        file = pq.ParquetFile(io.BytesIO(data))
        record = record_of(file.schema_arrow)
        if "state" not in file.schema_arrow.names:
            # All of its rows are done.
            outcomes: Sequence[_Counts] = [(State.DONE.value, None, _done(file, record, row["superseded"] or ()), None)]
            noticed = notices.NONE
        else:
            enough = {
                reason for (folder, reason), n in list(told.items()) if folder == row["folder"] and n > ENOUGH_EXAMPLES
            }
            outcomes, noticed = _outcomes(file, frozenset(row["superseded"] or ()), enough - {Reason.UNKNOWN})
            told.update((row["folder"], reason) for _, reason, _, example in outcomes if reason is not None and example)
    except FileNotFoundError:
        raise CorpusError(f"the table {store.url}/{name} went away while it was to be counted") from None
    except TABLE_DAMAGE as error:
        raise CorpusError(f"the table {store.url}/{name} is damaged ({first_line(error)})") from error
    for state, reason, clips, example in outcomes:
        mended = noticed if state == State.DONE else notices.NONE
        yield (
            *(row["folder"], row["table"], record.shard, row["table_bytes"], state, reason, clips, example),
            *(mended[name] for name in notices.COLUMNS),
        )


def _done(file: pq.ParquetFile, record: CommitRecord, superseded: Collection[str]) -> int:
    """Count the samples of a pack's table, or the clips of a column's table that has no outcomes."""
    if "key" in file.schema_arrow.names:
        return record.rows
    ids = file.read(columns=["id"], use_threads=False)["id"].to_pylist()
    return len(set(ids).difference(superseded))


def _outcomes(
    file: pq.ParquetFile, superseded: frozenset[str], enough: Collection[str]
) -> tuple[Sequence[_Counts], Mapping[str, float]]:
    def column(name: str) -> list:
        return file.read(columns=[name], use_threads=False)[name].to_pylist()

    table = file.read(columns=["state", "reason"], use_threads=False)
    # States and reasons are printed unchanged, so they are checked here.
    for name in table.column_names:
        check_texts(table[name], WORD_PATTERN, name)
    rows = list(zip(table["state"].to_pylist(), table["reason"].to_pylist(), strict=True))
    speaks = [clip_id not in superseded for clip_id in column("id")] if superseded else [True] * len(rows)
    counts = Counter(row for row, counts in zip(rows, speaks, strict=True) if counts)
    said: dict[str, Counter[str]] = {}
    asked = {reason for state, reason in counts if state == State.FAILED} - set(enough)
    if asked and "message" in file.schema_arrow.names:
        for counts_now, (state, reason), text in zip(speaks, rows, column("message"), strict=True):
            if counts_now and state == State.FAILED and text and reason in asked:
                said.setdefault(reason, Counter())[text] += 1
    ordered = sorted(counts.items(), key=lambda item: (item[0][0], item[0][1] or ""))
    noticed = notices.count_notices(file, [state for state, _ in rows], speaks)
    return [(*outcome, n, _example(said, *outcome)) for outcome, n in ordered] or [(None, None, 0, None)], noticed


def _example(said: Mapping[str, Counter[str]], state: str, reason: str | None) -> str | None:
    if state != State.FAILED or reason is None or reason not in said:
        return None
    # Clean the message again: the corpus may have been built by someone else.
    return storable_text(" ".join(said[reason].most_common(1)[0][0].split()), max_characters=LONGEST_EXAMPLE)


def _count_elsewhere(url: str, asked: pa.Table) -> pa.Table:
    """Run `_count_here` in a new process, without multiprocessing, which would import the user's script again."""
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as found, tempfile.TemporaryFile() as said:
        with pa.ipc.new_stream(given, ASKED) as writer:
            writer.write_table(asked)
        given.seek(0)
        command = [sys.executable, "-m", "vidaudio.maintenance.count_worker", url]
        done = subprocess.run(command, stdin=given, stdout=found, stderr=said, check=False)
        found.seek(0)
        if done.returncode == 0:
            return pa.ipc.open_stream(found.read()).read_all()
        said.seek(0)
        lines = said.read().decode(errors="replace").strip().splitlines() or [f"exit code {done.returncode}"]
        raise CorpusError(lines[-1])


def _main() -> int:
    try:
        asked = pa.ipc.open_stream(sys.stdin.buffer.read()).read_all()
        counted = _count_here(open_store(sys.argv[1]), asked)
    except (CorpusError, StoreError) as error:
        print(error, file=sys.stderr)
        return 1
    with pa.ipc.new_stream(sys.stdout.buffer, SCHEMA) as writer:
        writer.write_table(counted)
    return 0


if __name__ == "__main__":
    sys.exit(_main())
