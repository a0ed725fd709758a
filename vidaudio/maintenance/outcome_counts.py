"""Counts of clips by outcome for every committed table, cached in `runs/status.parquet`.

A committed table changes only when a removal rewrites it, which changes its size. A cached count is therefore valid for
a table of the same name and size. The file is only a cache: if it is missing, damaged or of another corpus, the tables
are counted again. If the corpus cannot be written to, no cache is written.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vidaudio.corpus.corpus import Corpus
from vidaudio.corpus.superseded import Superseded, superseded
from vidaudio.errors import CorpusError, StoreError
from vidaudio.json_values import parse_object
from vidaudio.maintenance import notices
from vidaudio.maintenance.count_worker import ASKED, LONGEST_EXAMPLE, SCHEMA, count_tables
from vidaudio.media.outcomes import Reason, State
from vidaudio.shards.commit import TABLE_DAMAGE, is_table
from vidaudio.shards.parquet_limits import read_within
from vidaudio.shards.table_checks import WORD_PATTERN, check_texts
from vidaudio.text import storable_text

SNAPSHOT_FILE = "runs/status.parquet"
SNAPSHOT_FORMAT = 3
# Tables per folder and reason whose example messages are kept. For `unknown` all are kept, since status ranks the
# messages by their number of clips.
EXAMPLE_TABLES = 8
# Limits of a genuine snapshot: rows per table, and bytes in memory.
MAX_OUTCOMES = len(State) * (len(Reason) + 1)
MAX_SNAPSHOT_BYTES = 256 << 20
_KEY = b"vidaudio"


def tally(corpus: Corpus, tables: Mapping[str, Mapping[str, int]]) -> pd.DataFrame:
    """Count the outcomes in all given tables; a clip that was tried again counts only in its newest shard.

    Args:
        corpus: Opened corpus.
        tables: Names and sizes in bytes of the committed tables, by folder.

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
    tallied = _thinned(pd.concat([known, added], ignore_index=True) if len(known) else added)
    _remember(corpus, tallied)
    return tallied


def _thinned(tallied: pd.DataFrame) -> pd.DataFrame:
    """Keep example messages of the first few tables per folder and reason, which bounds the cache's size."""
    ordered = tallied.sort_values(["folder", "table"], kind="stable")
    told = ordered[ordered["example"].notna() & (ordered["reason"] != Reason.UNKNOWN)]
    further = told.index[told.groupby(["folder", "reason"]).cumcount() >= EXAMPLE_TABLES]
    return tallied.assign(example=tallied["example"].mask(tallied.index.isin(further)))


def _known(corpus: Corpus, standing: pd.DataFrame) -> pd.DataFrame:
    """Return the cached counts of tables that still exist with the same size."""
    empty = SCHEMA.empty_table().to_pandas()
    try:
        data = corpus.store.read(SNAPSHOT_FILE)
        file = pq.ParquetFile(pa.BufferReader(data))
        described = parse_object(file.schema_arrow.metadata[_KEY])
        if (described["format"], described["plan_hash"]) != (SNAPSHOT_FORMAT, corpus.plan_hash):
            return empty
        # The snapshot must belong to an earlier state of this corpus, not to another corpus that was at the same URL.
        parts = corpus.list_digests().index(described["list_digest"]) + 1
        remembered = _checked(file, data, len(standing)).to_pandas()
    except (*TABLE_DAMAGE, CorpusError, StoreError):
        # Missing, damaged or of another corpus: in each case everything can be counted again.
        return empty
    known = remembered.merge(standing, on=["folder", "table", "table_bytes"])
    if parts < len(corpus.parts):
        known = known[~known["shard"].isin(superseded(corpus, since=parts).shards)]
    return known


def _checked(file: pq.ParquetFile, data: bytes, tables: int) -> pa.Table:
    """Return the rows of a snapshot if all of them are valid; the file may come from someone else.

    Args:
        file: Opened snapshot.
        data: The snapshot's bytes.
        tables: Number of tables that exist now.

    Raises:
        ValueError: When the rows are not valid; or another of `TABLE_DAMAGE`.
    """
    if not file.schema_arrow.equals(SCHEMA):
        raise ValueError("it has other columns")
    if file.metadata.num_rows > tables * MAX_OUTCOMES:
        raise ValueError("it has more rows than the tables have outcomes")
    groups = range(file.num_row_groups)
    table = read_within(file, lambda: pa.BufferReader(data), groups, most=MAX_SNAPSHOT_BYTES)
    table.validate(full=True)
    for name in ("state", "reason"):
        check_texts(table[name], WORD_PATTERN, name)
    counts = ("table_bytes", "shard", "clips", *notices.COLUMNS)
    for name in ("folder", "table", *counts):
        if table[name].null_count:
            raise ValueError(f"its column {name} lacks values")
    for name in counts:
        fits = pc.and_(pc.is_finite(table[name]), pc.greater_equal(table[name], 0))
        if not pc.all(fits, min_count=0).as_py():
            raise ValueError(f"its column {name} holds what is no count")
    # Examples are printed unchanged, so they are checked here.
    for example in pc.unique(table["example"]).to_pylist():
        if example is not None and storable_text(example, max_characters=LONGEST_EXAMPLE) != example:
            raise ValueError("its column example holds a text that is not fit to print")
    return table


def _count(corpus: Corpus, tables: pd.DataFrame, older: Superseded) -> pd.DataFrame:
    gone = [sorted(older.ids(int(name.removesuffix(".parquet")))) if is_table(name) else [] for name in tables["table"]]
    asked = pa.table({**{n: tables[n] for n in ASKED.names if n != "superseded"}, "superseded": gone}, schema=ASKED)
    return count_tables(corpus.store, asked).to_pandas()


def _remember(corpus: Corpus, tallied: pd.DataFrame) -> None:
    # A corpus that is read-only or whose manifest is damaged is counted anew each time.
    with contextlib.suppress(OSError, CorpusError, StoreError), corpus.store.workspace() as scratch:
        described = {"format": SNAPSHOT_FORMAT, "plan_hash": corpus.plan_hash, "list_digest": corpus.ref.list_digest}
        schema = SCHEMA.with_metadata({_KEY: json.dumps(described, sort_keys=True).encode()})
        ordered = tallied.sort_values(["folder", "table"], kind="stable")
        table = pa.Table.from_pandas(ordered, schema=schema, preserve_index=False)
        path = scratch / "status.parquet"
        pq.write_table(table.replace_schema_metadata(schema.metadata), path, compression="zstd")
        corpus.store.put(SNAPSHOT_FILE, path)
