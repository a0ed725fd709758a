"""Tallies: how many clips each committed shard of a stage has in each outcome; counted once and remembered.

Committed shards do not change, but for a removal, which changes their size. So what was counted of a table of a given
name and size stands in a snapshot, `runs/status.parquet`. It is nobody's truth: where it is missing, damaged or of
another corpus it is counted again, and where nothing may be written nothing is.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections import Counter
from collections.abc import Mapping

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from vidaudio.errors import CorpusError
from vidaudio.media.reasons import Reason, State
from vidaudio.pipeline.corpus import Corpus
from vidaudio.pipeline.superseded import Superseded, superseded
from vidaudio.shards.commit import CommitRecord
from vidaudio.shards.read_many import read_tables

SNAPSHOT_FILE = "runs/status.parquet"
SNAPSHOT_FORMAT = 1
LONGEST_EXAMPLE = 200
_KEY = b"vidaudio"
# A row an outcome of a shard's table; a table without rows has one with no clips. `example` is a message of `unknown`.
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
    ]
)


def tally(corpus: Corpus, tables: Mapping[str, Mapping[str, int]]) -> pd.DataFrame:
    """The outcomes in all these tables, each clip's where its newest try stands.

    Args:
        corpus: Opened.
        tables: Names and sizes in bytes of the committed tables in each folder.

    Returns:
        Rows of `SCHEMA`.
    """
    named = [(folder, name, size) for folder, sizes in tables.items() for name, size in sizes.items()]
    standing = pd.DataFrame(named, columns=["folder", "table", "table_bytes"])
    known = _known(corpus, standing)
    counted = pd.MultiIndex.from_frame(known[["folder", "table"]])
    missing = standing[~pd.MultiIndex.from_frame(standing[["folder", "table"]]).isin(counted)]
    if missing.empty:
        return known
    added = _count(corpus, missing, superseded(corpus))
    tallied = pd.concat([known, added], ignore_index=True) if len(known) else added
    _remember(corpus, tallied)
    return tallied


def _known(corpus: Corpus, standing: pd.DataFrame) -> pd.DataFrame:
    """What the snapshot says of tables that stand as they did then."""
    empty = SCHEMA.empty_table().to_pandas()
    try:
        file = pq.ParquetFile(io.BytesIO(corpus.store.read(SNAPSHOT_FILE)))
        described = json.loads(file.schema_arrow.metadata[_KEY])
        remembered = file.read(use_threads=False).cast(SCHEMA).to_pandas()
        if (described["format"], described["plan_hash"]) != (SNAPSHOT_FORMAT, corpus.plan_hash):
            return empty
        parts = int(described["parts"])
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError, CorpusError):
        # Missing, damaged or not ours: whatever it is, all can be counted again.
        return empty
    if not 0 < parts <= len(corpus.parts):
        return empty
    known = remembered.merge(standing, on=["folder", "table", "table_bytes"])
    if parts < len(corpus.parts):
        known = known[~known["shard"].isin(superseded(corpus, since=parts).shards)]
    return known


def _count(corpus: Corpus, tables: pd.DataFrame, older: Superseded) -> pd.DataFrame:
    names = (tables["folder"] + "/" + tables["table"]).tolist()
    read = read_tables(corpus.store, names, columns=("id", "state", "reason", "message"))
    columns: dict[str, list] = {name: [] for name in SCHEMA.names}
    for (table, record), row in zip(read, tables.itertuples(index=False), strict=True):
        for state, reason, clips, example in _outcomes(table, record, older):
            values = (row.folder, row.table, record.shard, row.table_bytes, state, reason, clips, example)
            for name, value in zip(SCHEMA.names, values, strict=True):
                columns[name].append(value)
    return pa.table(columns, schema=SCHEMA).to_pandas()


def _outcomes(
    table: pa.Table, record: CommitRecord, older: Superseded
) -> list[tuple[str | None, str | None, int, str | None]]:
    if "state" not in table.column_names:
        # A pack's: all that is in there came through.
        return [(State.DONE.value, None, record.rows, None)]
    speaks = older.speaks(record.shard, table["id"].to_pylist())
    rows = zip(speaks, table["state"].to_pylist(), table["reason"].to_pylist(), strict=True)
    counts = Counter((state, reason) for counts, state, reason in rows if counts)
    example = None
    if any(reason == Reason.UNKNOWN for _, reason in counts) and "message" in table.column_names:
        messages = zip(speaks, table["reason"].to_pylist(), table["message"].to_pylist(), strict=True)
        kept = Counter(text for counts, reason, text in messages if counts and reason == Reason.UNKNOWN and text)
        example = kept.most_common(1)[0][0][:LONGEST_EXAMPLE] if kept else None
    ordered = sorted(counts.items(), key=lambda item: (item[0][0], item[0][1] or ""))
    told = [(state, reason, n, example if reason == Reason.UNKNOWN else None) for (state, reason), n in ordered]
    return told or [(None, None, 0, None)]


def _remember(corpus: Corpus, tallied: pd.DataFrame) -> None:
    described = {"format": SNAPSHOT_FORMAT, "plan_hash": corpus.plan_hash, "parts": len(corpus.parts)}
    schema = SCHEMA.with_metadata({_KEY: json.dumps(described, sort_keys=True).encode()})
    ordered = tallied.sort_values(["folder", "table"], kind="stable")
    table = pa.Table.from_pandas(ordered, schema=schema, preserve_index=False).replace_schema_metadata(schema.metadata)
    # A corpus that may only be read is counted anew each time.
    with contextlib.suppress(OSError, CorpusError), corpus.store.workspace() as scratch:
        path = scratch / "status.parquet"
        pq.write_table(table, path, compression="zstd")
        corpus.store.put(SNAPSHOT_FILE, path)
