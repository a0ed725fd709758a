"""The commit of one shard of one stage: a tar named by its hash, then a table that is created last and only once.

A shard exists exactly when its table does. Whoever creates the table first has committed; a loser removes its own tar.
Tables hold nothing that differs between two runs of the same plan, and a seal that shows any change of a byte.
"""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from vidaudio.shards.damage import Damaged
from vidaudio.shards.seal import OPEN_SEAL, SEAL_KEY, sealed
from vidaudio.shards.store import Store
from vidaudio.shards.tar import sha256_of

_METADATA_KEY = b"vidaudio"
_TABLE = re.compile(r"\d{6,}\.parquet")
# What reading a damaged table raises.
TABLE_DAMAGE = (pa.ArrowException, OSError, KeyError, TypeError, ValueError)


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
    return sealed(sink.getvalue())


def read_table(store: Store, name: str) -> tuple[pa.Table, CommitRecord]:
    """A committed table and its record.

    Raises:
        Damaged: It cannot be read as one.
    """
    data = store.read(name)
    try:
        return decode_table(data)
    except TABLE_DAMAGE as error:
        raise damaged_table(store, name, error) from error


def decode_table(data: bytes) -> tuple[pa.Table, CommitRecord]:
    """The bytes of a committed table as `encode_table` made them."""
    # One thread: Arrow's own threads may hold the last reference to a Python buffer and then abort the process at exit.
    table = pq.ParquetFile(io.BytesIO(data)).read(use_threads=False)
    return table, record_of(table.schema)


def read_record(store: Store, name: str) -> CommitRecord:
    """Only the record of a committed table.

    Raises:
        Damaged: It cannot be read as one.
    """
    data = store.read(name)
    try:
        return record_of(pq.read_schema(io.BytesIO(data)))
    except TABLE_DAMAGE as error:
        raise damaged_table(store, name, error) from error


def damaged_table(store: Store, name: str, error: Exception) -> Damaged:
    """What to raise where reading a committed table raised `error`, one of `TABLE_DAMAGE`."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return Damaged(name, f"the table {store.url}/{name} is damaged ({reason})")


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
    """The record in the schema of a committed table."""
    return CommitRecord(**json.loads(schema.metadata[_METADATA_KEY]))
