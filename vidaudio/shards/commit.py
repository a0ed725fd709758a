"""The commit of one shard of one stage: a tar named by its hash, then a table that is created last and only once.

A shard exists exactly when its table does. Whoever creates the table first has committed; a loser removes its own tar.
Tables hold nothing that differs between two runs of the same plan, and a seal that shows any change of a byte.
"""

from __future__ import annotations

import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from vidaudio.errors import CorpusError
from vidaudio.shards.seal import OPEN_SEAL, SEAL_KEY, sealed
from vidaudio.shards.store import Store
from vidaudio.shards.tar import sha256_of

_METADATA_KEY = b"vidaudio"


@dataclass(frozen=True, slots=True)
class CommitRecord:
    """What a table says of itself; small enough to travel in a future."""

    stage: str
    shard: int
    plan_hash: str
    rows: int
    tar: str | None = None
    tar_sha256: str | None = None
    tar_bytes: int = 0


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
    record = CommitRecord(stage, shard, plan_hash, table.num_rows, tar_name, tar_sha, tar_bytes)
    name = table_name(folder, shard)
    if store.create(name, encode_table(table, record)):
        return record
    standing = read_record(store, name)
    if tar_name is not None and standing.tar != tar_name:
        store.remove(f"{folder}/{tar_name}")
    return standing


def encode_table(table: pa.Table, record: CommitRecord) -> bytes:
    """Parquet bytes with the record in the schema's metadata, sealed; a pure function of both."""
    metadata = {_METADATA_KEY: json.dumps(asdict(record), sort_keys=True).encode(), SEAL_KEY: OPEN_SEAL}
    sink = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(metadata), sink, compression="zstd")
    return sealed(sink.getvalue())


def read_table(store: Store, name: str) -> tuple[pa.Table, CommitRecord]:
    """A committed table and its record."""
    data = store.read(name)
    try:
        return decode_table(data)
    except (pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise CorpusError(f"the table {store.url}/{name} is damaged ({str(error).splitlines()[0]})") from error


def decode_table(data: bytes) -> tuple[pa.Table, CommitRecord]:
    """The bytes of a committed table as `encode_table` made them."""
    # One thread: Arrow's own threads may hold the last reference to a Python buffer and then abort the process at exit.
    table = pq.ParquetFile(io.BytesIO(data)).read(use_threads=False)
    return table, _record(table.schema)


def read_record(store: Store, name: str) -> CommitRecord:
    """Only the record of a committed table."""
    return _record(pq.read_schema(io.BytesIO(store.read(name))))


def committed_shards(store: Store, folder: str) -> set[int]:
    """Numbers of the shards whose table stands in `folder`."""
    return {int(n.removesuffix(".parquet")) for n in store.list(folder) if n.endswith(".parquet") and n[:6].isdigit()}


def _record(schema: pa.Schema) -> CommitRecord:
    return CommitRecord(**json.loads(schema.metadata[_METADATA_KEY]))
