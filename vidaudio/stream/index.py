"""The index of a packed corpus: where every sample lies, as one Arrow file that processes map into memory and share.

Nothing here copies the rows: a process looks at the pages of the samples it is about to read and lets them go again, so
that a loader of ten million samples needs no more memory than one of ten thousand.
"""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute

from vidaudio.errors import CorpusError
from vidaudio.shards.seal import OPEN_SEAL, SEAL_KEY, seal_file
from vidaudio.shards.store import Store, open_store

INDEX_FILE = "index.arrow"
_METADATA_KEY = b"vidaudio"
_LAYOUT_KEY = b"vidaudio.layout"

SAMPLE_SCHEMA = pa.schema(
    [
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
        ("vectors_offset", pa.int64()),
        ("vectors_length", pa.int64()),
        ("shard", pa.int32()),
    ]
)

ROWS_AT_ONCE = 1024

# In the place of an encoder's fingerprint, in packs of sounds without pictures: samples have vectors of no numbers.
NO_VECTORS = {"architecture": "none", "pretrained": None, "weights_sha256": "none", "dimensions": 0}


class RemoteFiles(Protocol):
    """Keeps copies of remote files on local disk; see `vidaudio.stream.cache.ShardCache`."""

    def open_index(self, store: Store, name: str) -> int: ...


@dataclass(frozen=True)
class TrainingIndex:
    """Samples of one split of a packed corpus, or of all.

    Attributes:
        store: The folder `training/<name>`.
        table: Rows of `SAMPLE_SCHEMA`, in packed order.
        tars: File names by the number in column `shard`.
        audio: `flac` or `wav`.
        sample_rate: Of the sound, Hz.
        frames_per_second: Of the picture grid.
        encoder: Fingerprint of what made the vectors.
        splits: All splits of the corpus and their sample counts.
        plan_hash: Of the pack.
        generation: How often samples have been taken out of the pack since.
        tar_numbers, tar_rows: The tars of these samples, in order, and how many of the rows each has.
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
    tar_numbers: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64), repr=False, compare=False)
    tar_rows: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64), repr=False, compare=False)
    mapping: mmap.mmap | None = field(default=None, repr=False, compare=False)

    def __len__(self) -> int:
        return self.table.num_rows

    @property
    def dimensions(self) -> int:
        """Of the embeddings."""
        return self.encoder["dimensions"]

    def identity(self) -> str:
        """What a run that resumes must find again: the pack's plan, and how often samples were taken out of it."""
        return f"{self.plan_hash}:{self.generation}"

    def column(self, name: str) -> np.ndarray:
        """A fixed-width column as NumPy, without a copy where Arrow allows."""
        return self._array(name).to_numpy(zero_copy_only=False)

    def codes(self, name: str, rows: np.ndarray | None = None) -> np.ndarray:
        """A text column, or some rows of it, as integers that are equal where the texts are."""
        if rows is None:
            return self._array(name).dictionary_encode().indices.to_numpy()
        column, order = self.table[name], np.argsort(rows)
        pieces = []
        # Neighbours together, and their pages given back, so that a block never has them all mapped at once.
        for first in range(0, len(rows), ROWS_AT_ONCE):
            pieces.append(column.take(pa.array(rows[order[first : first + ROWS_AT_ONCE]])).combine_chunks())
            self.let_pages_go()
        found = np.empty(len(rows), np.int32)
        if pieces:
            found[order] = pa.concat_arrays(pieces).dictionary_encode().indices.to_numpy()
        return found

    def text(self, name: str, row: int) -> str:
        """One row of a text column."""
        return self.table[name][int(row)].as_py()

    def lists(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """A list column as flat values and `[rows + 1]` offsets into them; the first offset need not be 0."""
        column = self._array(name)
        offsets = column.offsets.to_numpy()
        return column.values.to_numpy(zero_copy_only=False)[: offsets[-1]], offsets

    def let_pages_go(self) -> None:
        """Give mapped pages back to the system; they come again when they are looked at."""
        if self.mapping is not None and hasattr(mmap, "MADV_DONTNEED"):
            self.mapping.madvise(mmap.MADV_DONTNEED)

    def _array(self, name: str) -> pa.Array:
        column = self.table[name]
        return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def write_index(path: Path, table: pa.Table, metadata: dict[str, Any]) -> None:
    """Write the index file: rows of `SAMPLE_SCHEMA`, uncompressed, so that it can be mapped, and sealed.

    Where splits and shards begin is written down beside the rows: a reader need not look through them for it.
    """
    table = table.combine_chunks().replace_schema_metadata(index_metadata(metadata, layout_of(table)))
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    seal_file(path)


def index_metadata(metadata: dict[str, Any], layout: list[tuple[str, int, int]]) -> dict[bytes, bytes]:
    """What the index file says of itself, its seal still open; `layout` as `layout_of` has it."""
    return {
        _METADATA_KEY: json.dumps(metadata, sort_keys=True).encode(),
        SEAL_KEY: OPEN_SEAL,
        _LAYOUT_KEY: json.dumps(layout).encode(),
    }


def read_index(source: Any) -> tuple[pa.Table, dict[str, Any]]:
    """Rows and metadata as `write_index` took them, from an Arrow source."""
    table = pa.ipc.open_file(source).read_all()
    return table, json.loads(table.schema.metadata[_METADATA_KEY])


def open_index(url: str, split: str | None = None, *, cache: RemoteFiles | None = None) -> TrainingIndex:
    """Open `CORPUS/training/NAME`.

    Args:
        url: The folder with `index.arrow`, or a corpus whose only pack is named `default`.
        split: Only this split's samples; None for all.
        cache: Where a copy of a remote index is kept and mapped; without it, it is read into memory.

    Raises:
        CorpusError: No packed corpus there, several of them, or no such split; names those there are.
    """
    store = open_store(url)
    if not store.exists(INDEX_FILE):
        packs = [name for name in store.folders("training") if store.exists(f"training/{name}/{INDEX_FILE}")]
        if not packs:
            raise CorpusError(f"{url} is no packed corpus (no {INDEX_FILE}); name CORPUS/training/NAME, after a build")
        if packs != ["default"]:
            raise CorpusError(f"{url} has the packs {', '.join(packs)}; name one of them, as {url}/training/{packs[0]}")
        store = open_store(f"{store.url}/training/default")
    try:
        mapping = _mapped(store, cache)
        source = store.read(INDEX_FILE) if mapping is None else mapping
        table, described = read_index(pa.BufferReader(pa.py_buffer(source)))
        layout = table.schema.metadata.get(_LAYOUT_KEY)
        runs = json.loads(layout) if layout is not None else layout_of(table)
    except (pa.ArrowInvalid, KeyError, TypeError, ValueError) as error:
        raise CorpusError(f"{store.url}/{INDEX_FILE} is not an index of ours: {error}") from error
    splits: dict[str, int] = {}
    for name, _, rows in runs:
        splits[name] = splits.get(name, 0) + rows
    if split is not None:
        if split not in splits:
            raise CorpusError(f"{url} has no split {split!r}; it has {', '.join(sorted(splits))}")
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
        tar_numbers=np.asarray([number for _, number, _ in runs], np.int64),
        tar_rows=np.asarray([rows for _, _, rows in runs], np.int64),
        mapping=mapping,
    )


def encoder_in_words(encoder: Mapping[str, Any]) -> str:
    """An encoder in a sentence: what it is, the length of its vectors, and how its weights' hash begins."""
    weights = str(encoder.get("weights_sha256", ""))[:16] or "unknown"
    return f"{encoder.get('architecture', 'an encoder')} ({encoder.get('dimensions')} dimensions, weights {weights})"


def _mapped(store: Store, cache: RemoteFiles | None) -> mmap.mmap | None:
    """The index file in memory without being read: local, or a local copy; None for a remote one without a cache."""
    local = store.local_path(INDEX_FILE)
    if local is None and cache is None:
        return None
    descriptor = os.open(local, os.O_RDONLY) if local is not None else cache.open_index(store, INDEX_FILE)
    try:
        return mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
    finally:
        os.close(descriptor)


def layout_of(table: pa.Table) -> list[tuple[str, int, int]]:
    """Runs of rows of one split in one shard, in order: split, shard number, rows."""
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
    """One split's rows: a slice, without a copy, where they stand together, as `pack` writes them."""
    starts = np.cumsum([0, *(rows for _, _, rows in runs)])
    mine = [place for place, run in enumerate(runs) if run[0] == split]
    if mine == list(range(mine[0], mine[-1] + 1)):
        table = table.slice(int(starts[mine[0]]), int(starts[mine[-1] + 1] - starts[mine[0]]))
    else:
        table = table.filter(pa.compute.equal(table["split"], split))
    return table, [runs[place] for place in mine]
