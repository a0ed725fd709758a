"""The shard plan: which clip belongs to which shard. A pure function of manifest and settings, so all runs agree on it.

A manifest of any length is planned from one column, read in pieces. Its rows are put in the order of their shards in
pieces, too. Only a few numbers a row stay in memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vidaudio.errors import ManifestError
from vidaudio.hashing import hashed
from vidaudio.manifest import SCHEMA
from vidaudio.manifest.source import RowSource, TableRows
from vidaudio.shards.scratch import temporary_folder

# Rows per temporary file, where rows are brought into another order.
BUCKET_ROWS = 200_000


@dataclass(frozen=True)
class ShardPlan:
    """Assignment of a manifest's rows to shards.

    Attributes:
        clips: Number of rows of every shard, int64 `[shards]`.
        positions: Position of every manifest row among the planned rows, int32 `[rows]`; None where the order does not
            change.
    """

    clips: np.ndarray
    positions: np.ndarray | None


def plan_shards(rows: RowSource, shard_clips: int) -> ShardPlan:
    """Divide a manifest into shards.

    Clips of one source stay together in one shard, so that a source is fetched once. Sources keep the order of their
    first clip. A shard is closed once it holds `shard_clips` clips; it exceeds that number only by the last source's
    clips.

    Args:
        rows: Rows of the manifest.
        shard_clips: Number of clips at which a shard is closed.

    Raises:
        ManifestError: When the manifest is empty.
    """
    if rows.num_rows == 0:
        raise ManifestError("the manifest has no clips")
    codes = _by_first_appearance(np.concatenate([hashed(table["source"]) for table in rows.tables(["source"])]))
    ends = np.cumsum(np.bincount(codes))
    bounds = [0]
    while bounds[-1] < len(codes):
        # The first source that fills the shard closes it.
        last = min(int(np.searchsorted(ends, bounds[-1] + shard_clips)), len(ends) - 1)
        bounds.append(int(ends[last]))
    positions = None
    if (codes[1:] < codes[:-1]).any():
        positions = np.empty(len(codes), np.int32)
        positions[np.argsort(codes, kind="stable")] = np.arange(len(codes), dtype=np.int32)
    return ShardPlan(np.diff(bounds), positions)


def planned_tables(rows: RowSource, plan: ShardPlan, first_shard: int = 0) -> Iterator[pa.Table]:
    """Yield the rows in the order of their shards, with shard numbers, in pieces of any size."""
    bounds = np.cumsum(plan.clips)
    place = SCHEMA.get_field_index("shard")
    first = 0
    for table in rows.tables() if plan.positions is None else _in_order(rows, plan.positions):
        shards = np.searchsorted(bounds, np.arange(first, first + table.num_rows), side="right") + first_shard
        first += table.num_rows
        yield table.set_column(place, SCHEMA.field("shard"), pa.array(shards.astype(np.int32)))


def assign_shards(manifest: pa.Table, shard_clips: int) -> pa.Table:
    """Return a manifest in memory with its shards assigned, by `plan_shards` and `planned_tables`."""
    rows = TableRows(manifest)
    return pa.concat_tables(planned_tables(rows, plan_shards(rows, shard_clips))).combine_chunks()


def manifest_hash(planned: pa.Table | Iterable[pa.Table]) -> str:
    """Return SHA-256 over every value of the planned rows, in order; independent of the division into pieces."""
    columns: dict[str, hashlib._Hash] = {}

    def add(name: str, values: np.ndarray | pa.Buffer) -> None:
        data = values.data if isinstance(values, np.ndarray) else values
        columns.setdefault(name, hashlib.sha256()).update(data)

    def add_column(name: str, column: pa.Array) -> None:
        add(f"{name}.null", column.is_null().to_numpy(zero_copy_only=False).astype(np.uint8))
        if pa.types.is_list(column.type):
            add(f"{name}.length", pc.fill_null(pc.list_value_length(column), 0).to_numpy().astype("<i4"))
            add_column(f"{name}.item", column.flatten())
        elif pa.types.is_string(column.type):
            filled = pc.fill_null(column, "")
            add(f"{name}.length", pc.binary_length(filled).to_numpy().astype("<i4"))
            # Joined, since the buffer of a piece may also hold texts of neighbouring pieces.
            add(f"{name}.text", pc.binary_join(_one_list(filled), "")[0].as_buffer())
        else:
            kind = "<i4" if pa.types.is_integer(column.type) else "<f8"
            add(f"{name}.value", pc.fill_null(column, 0).to_numpy().astype(kind))

    for table in [planned] if isinstance(planned, pa.Table) else planned:
        for batch in table.select(SCHEMA.names).to_batches(max_chunksize=1 << 16):
            for name, column in zip(SCHEMA.names, batch.columns, strict=True):
                add_column(name, column)
    digest = hashlib.sha256()
    for name in sorted(columns):
        digest.update(f"{name} {columns[name].hexdigest()}\n".encode())
    return digest.hexdigest()


def _one_list(texts: pa.Array) -> pa.Array:
    return pa.ListArray.from_arrays(pa.array([0, len(texts)], pa.int32()), texts)


def _by_first_appearance(values: np.ndarray) -> np.ndarray:
    """Number equal values alike, in the order of first occurrence: int32 `[rows]`, in less memory than a hash table."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    begins = np.r_[True, ordered[1:] != ordered[:-1]]
    del ordered
    first_rows = order[begins]
    number = np.empty(len(first_rows), np.int32)
    number[np.argsort(first_rows)] = np.arange(len(first_rows), dtype=np.int32)
    codes = np.empty(len(values), np.int32)
    codes[order] = number[np.cumsum(begins, dtype=np.int32) - 1]
    return codes


def _in_order(rows: RowSource, positions: np.ndarray) -> Iterator[pa.Table]:
    """Yield the rows by their positions; long manifests go through files on disk, one per range of positions."""
    buckets = -(-rows.num_rows // BUCKET_ROWS)
    if buckets == 1:
        yield _sorted(pa.concat_tables(rows.tables()), positions)
        return
    with temporary_folder() as folder:
        paths = [folder / f"{number}.arrow" for number in range(buckets)]
        _scatter(rows, positions, paths)
        for path in paths:
            with pa.ipc.open_stream(path) as stream:
                table = stream.read_all()
            path.unlink()
            yield _sorted(table.drop_columns(["position"]), table["position"].to_numpy())


def _scatter(rows: RowSource, positions: np.ndarray, paths: list[Path]) -> None:
    schema = SCHEMA.append(pa.field("position", pa.int32()))
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    first = 0
    with ExitStack() as stack:
        writers = [stack.enter_context(pa.ipc.new_stream(path, schema, options=options)) for path in paths]
        for table in rows.tables():
            own = positions[first : first + table.num_rows]
            first += table.num_rows
            table = table.append_column(schema.field("position"), pa.array(own))
            for number in np.unique(own // BUCKET_ROWS):
                writers[number].write_table(table.filter(pa.array(own // BUCKET_ROWS == number)))


def _sorted(table: pa.Table, positions: np.ndarray) -> pa.Table:
    return table.take(pa.array(np.argsort(positions)))
