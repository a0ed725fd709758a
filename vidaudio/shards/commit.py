"""The commit of one shard of one stage: a tar named by its hash, then a table that is created last and only once.

A shard exists exactly when its table does. Whoever creates the table first has committed; a loser removes its own tar.
Tables hold nothing that differs between two runs of the same plan, and a seal that shows any change of a byte.
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

from vidaudio.json_values import parse_json
from vidaudio.shards.checksum import OPEN_SEAL, SEAL_KEY, checksum_ok, with_checksum
from vidaudio.shards.corruption import CorruptFileError
from vidaudio.shards.names import is_tar_name
from vidaudio.shards.parquet_limits import read_whole
from vidaudio.shards.store import Store
from vidaudio.shards.table_checks import LARGEST, check_columns, check_table
from vidaudio.shards.tar import sha256_of

_METADATA_KEY = b"vidaudio"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_TABLE = re.compile(r"\d{6,}\.parquet")
# What reading a damaged table raises.
TABLE_DAMAGE = (pa.ArrowException, OSError, KeyError, TypeError, ValueError, AttributeError, MemoryError)


@dataclass(frozen=True, slots=True)
class CommitRecord:
    """What a table says of itself; small enough to travel in a future.

    `outcomes` counts its clips: those `done`, and the others by reason; empty where a table has no outcomes.
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
    """`folder/000012.parquet`."""
    return f"{folder}/{shard:06d}.parquet"


def commit(
    store: Store, folder: str, shard: int, *, stage: str, plan_hash: str, table: pa.Table, tar: Path | None = None
) -> CommitRecord:
    """Commit one shard; returns what stands afterwards, ours or that of whoever was first.

    `tar` is a finished file in a workspace of this store; its offsets are in `table` already.
    """
    tar_name = tar_sha = None
    tar_bytes = 0
    if tar is not None:
        tar_sha = sha256_of(tar)
        tar_bytes = tar.stat().st_size
        tar_name = f"{shard:06d}.{tar_sha[:8]}.tar"
        # Equal names mean equal bytes, so putting it over an existing one changes nothing a reader could see.
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
    """Clips of a stage's table that are `done`, and the others by reason."""
    if not {"state", "reason"} <= set(table.column_names):
        return {}
    pairs = zip(table["state"].to_pylist(), table["reason"].to_pylist(), strict=True)
    return dict(sorted(Counter(reason or state for state, reason in pairs).items()))


def encode_table(table: pa.Table, record: CommitRecord) -> bytes:
    """Parquet bytes with the record in the schema's metadata, sealed; a pure function of both.

    The record's outcomes are counted anew, from the table.
    """
    record = replace(record, outcomes=count_outcomes(table))
    metadata = {_METADATA_KEY: json.dumps(asdict(record), sort_keys=True).encode(), SEAL_KEY: OPEN_SEAL}
    sink = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(metadata), sink, compression="zstd")
    return with_checksum(sink.getvalue())


def read_table(store: Store, name: str) -> tuple[pa.Table, CommitRecord]:
    """Return a committed table and its record, both checked: see `vidaudio.shards.table_checks`.

    Raises:
        Damaged: It is not as it was committed, or holds what no commit writes.
    """
    data = store.read(name)
    try:
        return decode_table(data)
    except TABLE_DAMAGE as error:
        raise damaged_table(store, name, error) from error


def decode_table(data: bytes, columns: Sequence[str] | None = None) -> tuple[pa.Table, CommitRecord]:
    """Return the table and record in bytes that `encode_table` made.

    Args:
        data: Of the file.
        columns: Those that are needed; all by default. A name that the table does not have is left out.

    Raises:
        One of `TABLE_DAMAGE`: The bytes were changed, or are none of ours.
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
        Damaged: It cannot be read as one.
    """
    data = store.read(name)
    try:
        return decode_record(data)
    except TABLE_DAMAGE as error:
        raise damaged_table(store, name, error) from error


def decode_record(data: bytes) -> CommitRecord:
    """Return the record in bytes that `encode_table` made, once their seal is found to hold.

    Raises:
        One of `TABLE_DAMAGE`: The bytes were changed, or are none of ours.
    """
    if not checksum_ok(data):
        raise ValueError("its bytes do not give the hash it carries")
    return record_of(pq.read_schema(pa.BufferReader(data)))


def damaged_table(store: Store, name: str, error: Exception) -> CorruptFileError:
    """What to raise where reading a committed table raised `error`, one of `TABLE_DAMAGE`."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return CorruptFileError(name, f"the table {store.url}/{name} is damaged ({reason})")


def committed_shards(store: Store, folder: str) -> set[int]:
    """Numbers of the shards whose table stands in `folder`."""
    return committed_shards_in(store.list(folder))


def committed_shards_in(names: Iterable[str]) -> set[int]:
    """Numbers of the shards whose tables are among the files of a stage's folder."""
    return {int(name.removesuffix(".parquet")) for name in names if is_table(name)}


def is_table(name: str) -> bool:
    """Whether a file of a stage's folder is a shard's table."""
    return _TABLE.fullmatch(name) is not None


def record_of(schema: pa.Schema) -> CommitRecord:
    """Return the record in the schema of a committed table, its values checked.

    Raises:
        One of `TABLE_DAMAGE`: There is none, or it says what no commit writes.
    """
    told = parse_json((schema.metadata or {})[_METADATA_KEY])
    known = {each.name for each in fields(CommitRecord)}
    # A later version may tell more.
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
