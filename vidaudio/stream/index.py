"""The index of a packed corpus: where every sample lies, as one Arrow file that processes map into memory and share.

Nothing here copies the rows: a process looks at the pages of the samples it is about to read and lets them go again, so
that a loader of ten million samples needs no more memory than one of ten thousand.
"""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute

from vidaudio.errors import CorpusError
from vidaudio.json_values import parse_json
from vidaudio.shards.checksum import OPEN_SEAL, SEAL_KEY, seal_file
from vidaudio.shards.links import open_regular
from vidaudio.shards.store import Store, open_store
from vidaudio.stream.index_checks import check_rows, check_runs, described_in, read_batches, read_runs

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
# What reading a file that is no index raises, by what is wrong with it.
INDEX_DAMAGE = (pa.ArrowException, KeyError, TypeError, ValueError, IndexError, OverflowError, MemoryError, OSError)

# In the place of an encoder's fingerprint, in packs of sounds without pictures: samples have vectors of no numbers.
NO_VECTORS = {"architecture": "none", "pretrained": None, "weights_sha256": "none", "dimensions": 0}


class RemoteFiles(Protocol):
    """Keeps copies of remote files on local disk; see `vidaudio.stream.cache.ShardCache`."""

    def open_index(self, store: Store, name: str) -> tuple[int, str]: ...


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
        version: Of a remote index's file: age and size. A pack that is made anew at the same place has another one.
        stamp: Of the mapped file: device, number, size and age; None where it is read into memory.
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
    version: str = ""
    stamp: tuple[int, ...] | None = None
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
            self.release_pages()
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

    def release_pages(self) -> None:
        """Give mapped pages back to the system; they come again when they are looked at."""
        _let_pages_go(self.mapping)

    def _array(self, name: str) -> pa.Array:
        column = self.table[name]
        return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _let_pages_go(mapping: mmap.mmap | None) -> None:
    if mapping is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapping.madvise(mmap.MADV_DONTNEED)


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


def read_index(
    source: pa.BufferReader, let_go: Callable[[], None] = lambda: None, *, is_known: bool = False
) -> tuple[pa.Table, dict[str, Any], list[tuple[str, int, int]]]:
    """Return rows, metadata and layout as `write_index` took them, all of them checked.

    Args:
        source: The file, in memory or mapped.
        let_go: Gives mapped pages back to the system.
        is_known: The same file has been checked by another process of this run: its rows are not looked through again.

    Raises:
        One of `INDEX_DAMAGE`: It is no index of ours.
    """
    table = read_batches(source, SAMPLE_SCHEMA, let_go, is_known=is_known)
    described = described_in(table.schema.metadata or {}, _METADATA_KEY)
    tars = len(described["tars"])
    layout = table.schema.metadata.get(_LAYOUT_KEY)
    runs = read_runs(layout_of(table) if layout is None else parse_json(layout), table.num_rows, tars)
    if not is_known:
        check_rows(table, tars, described["audio"], let_go)
        check_runs(runs, table)
        let_go()
    return table, described, runs


def open_index(
    url: str, split: str | None = None, *, cache: RemoteFiles | None = None, known: tuple[int, ...] | None = None
) -> TrainingIndex:
    """Open `CORPUS/training/NAME`.

    Args:
        url: The folder with `index.arrow`, or a corpus whose only pack is named `default`.
        split: Only this split's samples; None for all.
        cache: Where a copy of a remote index is kept and mapped; without it, it is read into memory.
        known: The `stamp` of an index that another process of this run has checked: that very file is opened faster.

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
        mapping, version, stamp = _mapped(store, cache)
        source = store.read(INDEX_FILE) if mapping is None else mapping
        table, described, runs = read_index(
            pa.BufferReader(pa.py_buffer(source)),
            lambda: _let_pages_go(mapping),
            is_known=stamp is not None and stamp == known,
        )
    except INDEX_DAMAGE as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CorpusError(
            f"{store.url}/{INDEX_FILE} is not an index of ours: {reason}; delete it and pack again: it is made from "
            "the tables"
        ) from error
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
        version=version,
        stamp=stamp,
        tar_numbers=np.asarray([number for _, number, _ in runs], np.int64),
        tar_rows=np.asarray([rows for _, _, rows in runs], np.int64),
        mapping=mapping,
    )


def encoder_in_words(encoder: Mapping[str, Any]) -> str:
    """An encoder in a sentence: what it is, the length of its vectors, and how its weights' hash begins."""
    weights = str(encoder.get("weights_sha256", ""))[:16] or "unknown"
    return f"{encoder.get('architecture', 'an encoder')} ({encoder.get('dimensions')} dimensions, weights {weights})"


def _mapped(store: Store, cache: RemoteFiles | None) -> tuple[mmap.mmap | None, str, tuple[int, ...] | None]:
    """The index file in memory without being read, the version of a remote one, and the file's stamp.

    It is the local file, or a local copy; None for a remote one without a cache.
    """
    local = store.local_path(INDEX_FILE)
    if local is None and cache is None:
        return None, "", None
    if local is not None:
        descriptor, version = open_regular(local, INDEX_FILE), ""
    else:
        descriptor, version = cache.open_index(store, INDEX_FILE)
    try:
        found = os.fstat(descriptor)
        if not found.st_size:
            raise ValueError("it is empty")
        stamp = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
        return mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ), version, stamp
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
