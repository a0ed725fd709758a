"""Tallies: how many clips each committed shard of a stage has in each outcome; counted once and remembered.

Committed shards do not change, but for a removal, which changes their size. So what was counted of a table of a given
name and size stands in a snapshot, `runs/status.parquet`. It is nobody's truth: where it is missing, damaged or of
another corpus it is counted again, and where nothing may be written nothing is.
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
from vidaudio.errors import CorpusError
from vidaudio.json_values import parse_object
from vidaudio.maintenance.count_worker import ASKED, LONGEST_EXAMPLE, SCHEMA, count_tables
from vidaudio.media.outcomes import Reason, State
from vidaudio.pipeline import notices
from vidaudio.shards.commit import TABLE_DAMAGE, is_table
from vidaudio.shards.parquet_limits import read_within
from vidaudio.shards.table_checks import WORD_PATTERN, check_texts
from vidaudio.text import storable_text

SNAPSHOT_FILE = "runs/status.parquet"
SNAPSHOT_FORMAT = 3
# Tables of a folder whose messages are remembered, by reason; of `unknown` all, since their shares are told.
EXAMPLE_TABLES = 8
# More rows of one table, or more memory, no snapshot of ours takes.
MAX_OUTCOMES = len(State) * (len(Reason) + 1)
MAX_SNAPSHOT_BYTES = 256 << 20
_KEY = b"vidaudio"


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
    tallied = _thinned(pd.concat([known, added], ignore_index=True) if len(known) else added)
    _remember(corpus, tallied)
    return tallied


def _thinned(tallied: pd.DataFrame) -> pd.DataFrame:
    """The same with the messages of the first few tables alone: what is remembered of a reason has a bound."""
    ordered = tallied.sort_values(["folder", "table"], kind="stable")
    told = ordered[ordered["example"].notna() & (ordered["reason"] != Reason.UNKNOWN)]
    further = told.index[told.groupby(["folder", "reason"]).cumcount() >= EXAMPLE_TABLES]
    return tallied.assign(example=tallied["example"].mask(tallied.index.isin(further)))


def _known(corpus: Corpus, standing: pd.DataFrame) -> pd.DataFrame:
    """What the snapshot says of tables that stand as they did then."""
    empty = SCHEMA.empty_table().to_pandas()
    try:
        data = corpus.store.read(SNAPSHOT_FILE)
        file = pq.ParquetFile(pa.BufferReader(data))
        described = parse_object(file.schema_arrow.metadata[_KEY])
        if (described["format"], described["plan_hash"]) != (SNAPSHOT_FORMAT, corpus.plan_hash):
            return empty
        # The snapshot is of this corpus as it was once: not of one that was begun at its place before.
        parts = corpus.list_digests().index(described["list_digest"]) + 1
        remembered = _checked(file, data, len(standing)).to_pandas()
    except (*TABLE_DAMAGE, CorpusError):
        # Missing, damaged or not ours: whatever it is, all can be counted again.
        return empty
    known = remembered.merge(standing, on=["folder", "table", "table_bytes"])
    if parts < len(corpus.parts):
        known = known[~known["shard"].isin(superseded(corpus, since=parts).shards)]
    return known


def _checked(file: pq.ParquetFile, data: bytes, tables: int) -> pa.Table:
    """Return the rows of a snapshot, which may come from somebody else, if all of them are such as are written here.

    Args:
        file: Opened.
        data: Its bytes.
        tables: How many tables stand now.

    Raises:
        One of `TABLE_DAMAGE`: They are not.
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
    # They are printed as they are.
    for example in pc.unique(table["example"]).to_pylist():
        if example is not None and storable_text(example, max_characters=LONGEST_EXAMPLE) != example:
            raise ValueError("its column example holds a text that is not fit to print")
    return table


def _count(corpus: Corpus, tables: pd.DataFrame, older: Superseded) -> pd.DataFrame:
    gone = [sorted(older.ids(int(name.removesuffix(".parquet")))) if is_table(name) else [] for name in tables["table"]]
    asked = pa.table({**{n: tables[n] for n in ASKED.names if n != "superseded"}, "superseded": gone}, schema=ASKED)
    return count_tables(corpus.store, asked).to_pandas()


def _remember(corpus: Corpus, tallied: pd.DataFrame) -> None:
    # A corpus that may only be read is counted anew each time, and so is one whose list is damaged.
    with contextlib.suppress(OSError, CorpusError), corpus.store.workspace() as scratch:
        described = {"format": SNAPSHOT_FORMAT, "plan_hash": corpus.plan_hash, "list_digest": corpus.ref.list_digest}
        schema = SCHEMA.with_metadata({_KEY: json.dumps(described, sort_keys=True).encode()})
        ordered = tallied.sort_values(["folder", "table"], kind="stable")
        table = pa.Table.from_pandas(ordered, schema=schema, preserve_index=False)
        path = scratch / "status.parquet"
        pq.write_table(table.replace_schema_metadata(schema.metadata), path, compression="zstd")
        corpus.store.put(SNAPSHOT_FILE, path)
