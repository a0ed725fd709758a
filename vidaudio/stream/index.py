"""The index of a packed corpus: the position of every sample, in one Arrow file that processes map and share.

The rows of a mapped file stay in the file. A process reads the pages of the samples that it is about to load and then
releases them, so that a loader of ten million samples needs no more memory than one of ten thousand.
"""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute

from vidaudio.errors import PackError
from vidaudio.json_values import parse_json
from vidaudio.shards.checksum import OPEN_SEAL, SEAL_KEY, write_checksum
from vidaudio.shards.links import open_regular
from vidaudio.shards.open import open_store
from vidaudio.shards.store import Store
from vidaudio.stream.index_checks import (
    check_rows,
    check_runs,
    columns_in,
    described_in,
    open_batches,
    read_batches,
    read_runs,
)
from vidaudio.stream.vector_columns import VectorColumn, column_named, columns_in_words
from vidaudio.text import first_line

INDEX_FILE = "index.arrow"
_METADATA_KEY = b"vidaudio"
_LAYOUT_KEY = b"vidaudio.layout"

# Column of a pack whose samples have weights, and key of the metadata with the name of the column that they are from.
WEIGHT = "weight"

# Columns of every pack; the columns of its vectors and weights stand before the last.
_BASE_FIELDS = (
    ("key", pa.string()),
    ("id", pa.string()),
    ("source", pa.string()),
    ("dataset", pa.string()),
    ("split", pa.string()),
    ("labels", pa.list_(pa.string())),
    ("captions", pa.list_(pa.string())),
    ("samples", pa.int64()),
    ("audio_start_seconds", pa.float64()),
    ("frame_seconds", pa.list_(pa.float64())),
    ("grid_seconds", pa.list_(pa.float64())),
    ("audio_offset", pa.int64()),
    ("audio_length", pa.int64()),
)


def table_schema(columns: Sequence[VectorColumn], *, weighted: bool = False) -> pa.Schema:
    """Return the schema of the tables of a pack with these vector columns, and with weights or without."""
    fields = list(_BASE_FIELDS)
    for column in columns:
        fields += [(column.offset, pa.int64()), (column.length, pa.int64())]
        fields += [(column.seconds, pa.list_(pa.float64()))] if column.input == "sound" else []
    fields += [(WEIGHT, pa.float32())] if weighted else []
    return pa.schema(fields)


def sample_schema(columns: Sequence[VectorColumn], *, weighted: bool = False) -> pa.Schema:
    """Return the schema of the index of a pack: that of its tables, and the shard of each row."""
    return table_schema(columns, weighted=weighted).append(pa.field("shard", pa.int32()))


# Schema of a pack with the vectors of the corpus's own encoder only.
SAMPLE_SCHEMA = sample_schema([VectorColumn("")])

ROWS_AT_ONCE = 1024
# Exceptions that reading an invalid index file can raise, depending on what is wrong.
INDEX_DAMAGE = (pa.ArrowException, KeyError, TypeError, ValueError, IndexError, OverflowError, MemoryError, OSError)

# Replaces the encoder's fingerprint in packs of sounds without pictures: their vectors have 0 dimensions.
NO_VECTORS = {"architecture": "none", "pretrained": None, "weights_sha256": "none", "dimensions": 0}


class RemoteFiles(Protocol):
    """A cache of remote files on local disk; see `vidaudio.stream.cache.ShardCache`."""

    def open_index(self, store: Store, name: str) -> tuple[int, str]:
        """Return a file descriptor of a local copy of an index, and the version of the file."""


@dataclass(frozen=True)
class TrainingIndex:
    """The samples of a packed corpus, of one split or of all.

    Attributes:
        store: The folder `training/<name>`.
        table: Rows of `sample_schema(vectors)`, in packed order.
        tars: File names of the tars, by the number in column `shard`.
        audio: Sound format, `flac` or `wav`.
        sample_rate: Sample rate of the sound, Hz.
        frames_per_second: Rate of the picture grid.
        encoder: Fingerprint of the encoder that made the first vectors.
        splits: Sample count of each split of the corpus.
        plan_hash: Hash of the pack's plan.
        generation: Number of times that samples have been removed from the pack.
        version: Version of a cached remote index file, as its store reports it: a pack that is made anew at the same
            place has another one. Otherwise empty.
        stamp: Device, inode number, size and modification time of the mapped file; None if the file was read into
            memory.
        tar_numbers: Tar number of each run of consecutive rows in one split and tar, in order.
        tar_rows: Number of rows of each such run.
        mapping: Memory map of the file; None if the file was read into memory.
        vectors: Vector columns of the pack, the first one first.
        weight: Name of the clips' column that the samples' weights are from; None for a pack without weights.
    """

    store: Store
    table: pa.Table
    tars: tuple[str, ...]
    audio: str
    sample_rate: int
    frames_per_second: float
    encoder: dict[str, Any]
    splits: dict[str, int]
    plan_hash: str = ""
    generation: int = 0
    version: str = ""
    stamp: tuple[int, ...] | None = None
    tar_numbers: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64), repr=False, compare=False)
    tar_rows: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64), repr=False, compare=False)
    mapping: mmap.mmap | None = field(default=None, repr=False, compare=False)
    vectors: tuple[VectorColumn, ...] = ()
    weight: str | None = None

    def __len__(self) -> int:
        return self.table.num_rows

    @property
    def dimensions(self) -> int:
        """Length of the first vectors."""
        return self.encoder["dimensions"]

    def vectors_of(self, encoder: str | None = None) -> VectorColumn:
        """Return the vector column of an encoder; the first one if no encoder is named.

        Raises:
            PackError: When the pack has no vectors of the encoder; names those that it has.
        """
        found = column_named(self.vectors, encoder)
        if found is None:
            raise PackError(
                f"{self.store.url} holds no vectors of {encoder!r}; it holds those of {columns_in_words(self.vectors)}"
            )
        return found

    def identity(self) -> str:
        """Return what must be unchanged when a run resumes: the pack's plan hash and its generation."""
        return f"{self.plan_hash}:{self.generation}"

    def column(self, name: str) -> np.ndarray:
        """Return a fixed-width column as NumPy array, without a copy where Arrow allows."""
        return self._array(name).to_numpy(zero_copy_only=False)

    def codes(self, name: str, rows: np.ndarray | None = None) -> np.ndarray:
        """Return a text column, or some of its rows, as integers that are equal where the texts are equal."""
        if rows is None:
            return self._array(name).dictionary_encode().indices.to_numpy()
        column, order = self.table[name], np.argsort(rows)
        pieces = []
        # Sorted rows are read in pieces and their pages released, so that a block's pages are never all mapped at once.
        for first in range(0, len(rows), ROWS_AT_ONCE):
            pieces.append(column.take(pa.array(rows[order[first : first + ROWS_AT_ONCE]])).combine_chunks())
            self.release_pages()
        found = np.empty(len(rows), np.int32)
        if pieces:
            found[order] = pa.concat_arrays(pieces).dictionary_encode().indices.to_numpy()
        return found

    def text(self, name: str, row: int) -> str:
        """Return one row of a text column."""
        return self.table[name][int(row)].as_py()

    def lists(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return a list column as flat values and `[rows + 1]` offsets into them; the first offset may be above 0."""
        column = self._array(name)
        offsets = column.offsets.to_numpy()
        return column.values.to_numpy(zero_copy_only=False)[: offsets[-1]], offsets

    def release_pages(self) -> None:
        """Release mapped pages to the system; they are loaded again when they are read."""
        _let_pages_go(self.mapping)

    def _array(self, name: str) -> pa.Array:
        column = self.table[name]
        return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _let_pages_go(mapping: mmap.mmap | None) -> None:
    if mapping is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapping.madvise(mmap.MADV_DONTNEED)


def write_index(path: Path, table: pa.Table, metadata: dict[str, Any]) -> None:
    """Write the index file: rows of `sample_schema`, uncompressed so that they can be mapped, with a checksum.

    The metadata contains where splits and shards begin, so that a reader does not have to search the rows.
    """
    table = table.combine_chunks().replace_schema_metadata(index_metadata(metadata, layout_of(table)))
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    write_checksum(path)


def index_metadata(metadata: dict[str, Any], layout: list[tuple[str, int, int]]) -> dict[bytes, bytes]:
    """Return the schema metadata of the index file, with an unset checksum; `layout` is the result of `layout_of`."""
    return {
        _METADATA_KEY: json.dumps(metadata, sort_keys=True).encode(),
        SEAL_KEY: OPEN_SEAL,
        _LAYOUT_KEY: json.dumps(layout).encode(),
    }


def read_index(
    source: pa.BufferReader, let_go: Callable[[], None] = lambda: None, *, is_known: bool = False
) -> tuple[pa.Table, dict[str, Any], list[tuple[str, int, int]]]:
    """Return the rows, metadata and layout that `write_index` wrote, all of them checked.

    Args:
        source: The file, in memory or mapped.
        let_go: Releases mapped pages to the system.
        is_known: Whether another process of this run has checked the same file: then the rows are not checked again.

    Raises:
        One of `INDEX_DAMAGE`: When the file is not a valid index.
    """
    file = open_batches(source)
    described = described_in(file.schema.metadata or {}, _METADATA_KEY)
    columns = columns_in(described)
    schema = sample_schema(columns, weighted=described.get(WEIGHT) is not None)
    table = read_batches(file, source.size(), schema, let_go, is_known=is_known)
    tars = len(described["tars"])
    layout = table.schema.metadata.get(_LAYOUT_KEY)
    runs = read_runs(layout_of(table) if layout is None else parse_json(layout), table.num_rows, tars)
    if not is_known:
        check_rows(table, columns, tars, described["audio"], let_go)
        check_runs(runs, table)
        let_go()
    return table, described, runs


def open_index(
    url: str, split: str | None = None, *, cache: RemoteFiles | None = None, known: tuple[int, ...] | None = None
) -> TrainingIndex:
    """Open the index of the pack `CORPUS/training/NAME`.

    Args:
        url: The folder with `index.arrow`, or a corpus whose only pack is named `default`.
        split: Split whose samples are kept; None keeps all samples.
        cache: Cache that keeps a copy of a remote index, which is then mapped; None reads a remote index into memory.
        known: The `stamp` of an index that another process of this run has checked: if the file is the same, its rows
            are not checked again.

    Raises:
        PackError: When there is no packed corpus, there are several, or the split is missing; names the existing
            ones.
    """
    store = open_store(url)
    if not store.exists(INDEX_FILE):
        packs = [name for name in store.folders("training") if store.exists(f"training/{name}/{INDEX_FILE}")]
        if not packs:
            raise PackError(f"{url} is no packed corpus (no {INDEX_FILE}); name CORPUS/training/NAME, after a build")
        if packs != ["default"]:
            raise PackError(f"{url} has the packs {', '.join(packs)}; name one of them, as {url}/training/{packs[0]}")
        store = open_store(f"{store.url}/training/default")
    try:
        mapping, version, stamp = _mapped(store, cache)
        source = store.read(INDEX_FILE) if mapping is None else mapping
        table, described, runs = read_index(
            pa.BufferReader(pa.py_buffer(source)),
            lambda: _let_pages_go(mapping),
            is_known=stamp is not None and stamp == known,
        )
    except INDEX_DAMAGE as error:
        reason = first_line(error)
        raise PackError(
            f"{store.url}/{INDEX_FILE} is not an index of ours: {reason}; delete it and pack again: it is made from "
            "the tables"
        ) from error
    splits: dict[str, int] = {}
    for name, _, rows in runs:
        splits[name] = splits.get(name, 0) + rows
    if split is not None:
        if split not in splits:
            raise PackError(f"{url} has no split {split!r}; it has {', '.join(sorted(splits))}")
        table, runs = _only(table, runs, split)
    return TrainingIndex(
        store=store,
        table=table,
        tars=tuple(described["tars"]),
        audio=described["audio"],
        sample_rate=described["sample_rate"],
        frames_per_second=described["frames_per_second"],
        encoder=described["encoder"],
        splits=splits,
        plan_hash=described.get("plan_hash", ""),
        generation=described.get("generation", 0),
        version=version,
        stamp=stamp,
        tar_numbers=np.asarray([number for _, number, _ in runs], np.int64),
        tar_rows=np.asarray([rows for _, _, rows in runs], np.int64),
        mapping=mapping,
        vectors=columns_in(described),
        weight=described.get(WEIGHT),
    )


def encoder_in_words(encoder: Mapping[str, Any]) -> str:
    """Describe an encoder: its architecture, the length of its vectors, its windows of time, and its weights' hash."""
    weights = str(encoder.get("weights_sha256", ""))[:16] or "unknown"
    sizes = f"{encoder.get('dimensions')} dimensions"
    if encoder.get("input") == "sound":
        sizes += f", {encoder.get('window_seconds'):g} s every {encoder.get('hop_seconds'):g} s"
    return f"{encoder.get('architecture', 'an encoder')} ({sizes}, weights {weights})"


def _mapped(store: Store, cache: RemoteFiles | None) -> tuple[mmap.mmap | None, str, tuple[int, ...] | None]:
    """Return the mapped index file, the version of a remote file, and the file's stamp.

    The mapped file is the local file or a local copy. The map is None for a remote file without a cache.
    """
    local = store.local_path(INDEX_FILE)
    if local is not None:
        descriptor, version = open_regular(local, INDEX_FILE), ""
    elif cache is not None:
        descriptor, version = cache.open_index(store, INDEX_FILE)
    else:
        return None, "", None
    try:
        found = os.fstat(descriptor)
        if not found.st_size:
            raise ValueError("it is empty")
        stamp = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
        return mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ), version, stamp
    finally:
        os.close(descriptor)


def layout_of(table: pa.Table) -> list[tuple[str, int, int]]:
    """Return the runs of consecutive rows in one split and shard, in order: split, shard number, rows."""
    if not len(table):
        return []
    shards = table["shard"].to_numpy()
    splits = table["split"].combine_chunks().dictionary_encode()
    codes = splits.indices.to_numpy()
    edges = np.flatnonzero(np.r_[True, (shards[1:] != shards[:-1]) | (codes[1:] != codes[:-1])])
    names = splits.dictionary.to_pylist()
    counts = np.diff(np.r_[edges, len(shards)])
    return [(names[codes[e]], int(shards[e]), int(rows)) for e, rows in zip(edges, counts, strict=True)]


def _only(table: pa.Table, runs: list, split: str) -> tuple[pa.Table, list]:
    """Return the rows and runs of one split.

    The rows are a slice, without a copy, if they are adjacent, as `pack` writes them.
    """
    starts = np.cumsum([0, *(rows for _, _, rows in runs)])
    mine = [place for place, run in enumerate(runs) if run[0] == split]
    if mine == list(range(mine[0], mine[-1] + 1)):
        table = table.slice(int(starts[mine[0]]), int(starts[mine[-1] + 1] - starts[mine[0]]))
    else:
        table = table.filter(pa.compute.equal(table["split"], split))
    return table, [runs[place] for place in mine]
