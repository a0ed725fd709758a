"""Commit of one shard of one stage: a tar named by its hash, then a table that is created last and only once.

A shard exists exactly if its table exists. The first process to create the table has committed; any other process
removes its own tar. Tables hold nothing that differs between two runs of the same plan, and a checksum that detects any
changed byte.
"""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from vidaudio.hashing import sha256_of
from vidaudio.json_values import parse_json
from vidaudio.shards.checksum import OPEN_SEAL, SEAL_KEY, checksum_ok, with_checksum
from vidaudio.shards.corruption import CorruptFileError
from vidaudio.shards.names import is_tar_name
from vidaudio.shards.parquet_limits import read_whole
from vidaudio.shards.store import Store
from vidaudio.shards.table_checks import LARGEST, check_columns, check_table
from vidaudio.text import first_line

_METADATA_KEY = b"vidaudio"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_TABLE = re.compile(r"\d{6,}\.parquet")
# Exceptions that reading a damaged table raises.
TABLE_DAMAGE = (pa.ArrowException, OSError, KeyError, TypeError, ValueError, AttributeError, MemoryError)


@dataclass(frozen=True, slots=True)
class CommitRecord:
    """Metadata that a table holds about itself; small enough to be sent in a future.

    `outcomes` counts the table's clips: those `done`, and the others by reason. It is empty if the table has no
    outcomes.
    """

    stage: str
    shard: int
    plan_hash: str
    rows: int
    tar: str | None = None
    tar_sha256: str | None = None
    tar_bytes: int = 0
    outcomes: dict[str, int] = field(default_factory=dict, compare=False)


def table_name(folder: str, shard: int) -> str:
    """Return the name of a shard's table, such as `folder/000012.parquet`."""
    return f"{folder}/{shard:06d}.parquet"


def commit(
    store: Store, folder: str, shard: int, *, stage: str, plan_hash: str, table: pa.Table, tar: Path | None = None
) -> CommitRecord:
    """Commit one shard; return the record that exists afterwards, from this call or from whoever committed first.

    Args:
        store: Store of the corpus.
        folder: Folder of the stage.
        shard: Shard number.
        stage: Name of the stage.
        plan_hash: Hash of the plan that the shard was made by.
        table: Table of the shard; it already contains the offsets in the tar.
        tar: Finished file in a workspace of this store; None if the stage has no tar.
    """
    tar_name = tar_sha = None
    tar_bytes = 0
    if tar is not None:
        tar_sha = sha256_of(tar)
        tar_bytes = tar.stat().st_size
        tar_name = f"{shard:06d}.{tar_sha[:8]}.tar"
        # Equal names mean equal bytes, so replacing an existing tar changes nothing that a reader could see.
        store.put(f"{folder}/{tar_name}", tar)
    record = CommitRecord(stage, shard, plan_hash, table.num_rows, tar_name, tar_sha, tar_bytes, count_outcomes(table))
    name = table_name(folder, shard)
    if store.create(name, encode_table(table, record)):
        return record
    standing = read_record(store, name)
    if tar_name is not None and standing.tar != tar_name:
        store.remove(f"{folder}/{tar_name}")
    return standing


def count_outcomes(table: pa.Table) -> dict[str, int]:
    """Return how many clips of a stage's table are `done`, and how many are not by reason."""
    if not {"state", "reason"} <= set(table.column_names):
        return {}
    pairs = zip(table["state"].to_pylist(), table["reason"].to_pylist(), strict=True)
    return dict(sorted(Counter(reason or state for state, reason in pairs).items()))


def encode_table(table: pa.Table, record: CommitRecord) -> bytes:
    """Return the table as Parquet bytes, with the record and a checksum in the schema's metadata.

    The result depends on the two arguments only. The record's outcomes are counted again from the table.
    """
    record = replace(record, outcomes=count_outcomes(table))
    metadata = {_METADATA_KEY: json.dumps(asdict(record), sort_keys=True).encode(), SEAL_KEY: OPEN_SEAL}
    sink = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(metadata), sink, compression="zstd")
    return with_checksum(sink.getvalue())


def read_table(store: Store, name: str) -> tuple[pa.Table, CommitRecord]:
    """Return a committed table and its record, both checked; see `vidaudio.shards.table_checks`.

    Raises:
        CorruptFileError: When the table differs from what was committed, or holds what no commit writes.
    """
    data = store.read(name)
    try:
        return decode_table(data)
    except TABLE_DAMAGE as error:
        raise damaged_table(store, name, error) from error


def decode_table(data: bytes, columns: Sequence[str] | None = None) -> tuple[pa.Table, CommitRecord]:
    """Return the table and record in bytes that `encode_table` made.

    Args:
        data: Bytes of the file.
        columns: Columns to read; None means all. A column that the table does not have is left out.

    Raises:
        One of `TABLE_DAMAGE`: When the bytes were changed, or were not made by `encode_table`.
    """
    record = decode_record(data)
    table = read_whole(data, columns)
    if columns is None:
        check_columns(table.column_names, record.stage)
    if table.num_rows != record.rows:
        raise ValueError(f"it has {table.num_rows:,} rows, and says that it has {record.rows:,}")
    check_table(table, record.stage, record.tar_bytes if record.tar is not None else 0)
    return table, record


def read_record(store: Store, name: str) -> CommitRecord:
    """Return only the record of a committed table.

    Raises:
        CorruptFileError: When the table or its record cannot be read.
    """
    data = store.read(name)
    try:
        return decode_record(data)
    except TABLE_DAMAGE as error:
        raise damaged_table(store, name, error) from error


def decode_record(data: bytes) -> CommitRecord:
    """Return the record in bytes that `encode_table` made, after checking their checksum.

    Raises:
        One of `TABLE_DAMAGE`: When the bytes were changed, or were not made by `encode_table`.
    """
    if not checksum_ok(data):
        raise ValueError("its bytes do not give the hash it carries")
    return record_of(pq.read_schema(pa.BufferReader(data)))


def damaged_table(store: Store, name: str, error: Exception) -> CorruptFileError:
    """Return the exception to raise if reading a committed table raised `error`, one of `TABLE_DAMAGE`."""
    reason = first_line(error)
    return CorruptFileError(name, f"the table {store.url}/{name} is damaged ({reason})")


def committed_shards(store: Store, folder: str) -> set[int]:
    """Return the numbers of the shards whose table exists in `folder`."""
    return committed_shards_in(store.list(folder))


def committed_shards_in(names: Iterable[str]) -> set[int]:
    """Return the numbers of the shards whose tables are among the file names of a stage's folder."""
    return {int(name.removesuffix(".parquet")) for name in names if is_table(name)}


def is_table(name: str) -> bool:
    """Return whether a file name of a stage's folder is that of a shard's table."""
    return _TABLE.fullmatch(name) is not None


def record_of(schema: pa.Schema) -> CommitRecord:
    """Return the record in the schema of a committed table, its values checked.

    Raises:
        One of `TABLE_DAMAGE`: When there is no record, or it holds what no commit writes.
    """
    told = parse_json((schema.metadata or {})[_METADATA_KEY])
    known = {each.name for each in fields(CommitRecord)}
    # A later version may store more fields.
    record = CommitRecord(**{key: value for key, value in told.items() if key in known})
    counts = (record.shard, record.rows, record.tar_bytes)
    if not all(isinstance(count, int) and not isinstance(count, bool) and 0 <= count < LARGEST for count in counts):
        raise ValueError("its record counts wrongly")
    if not isinstance(record.stage, str) or not isinstance(record.plan_hash, str):
        raise ValueError("its record names no stage and no plan")
    outcomes = record.outcomes
    if not isinstance(outcomes, dict) or not all(isinstance(count, int) for count in outcomes.values()):
        raise ValueError("its record counts no outcomes")
    if record.tar is not None:
        if not is_tar_name(record.tar):
            raise ValueError(f"its record names the tar {str(record.tar)[:80]!r}, which no commit writes")
        if not isinstance(record.tar_sha256, str) or not _SHA256.fullmatch(record.tar_sha256):
            raise ValueError("its record has no hash of its tar")
    return record
