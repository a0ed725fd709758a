"""The index of a packed corpus: where every sample lies, as one Arrow file that processes map into memory and share."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from vidaudio.errors import CorpusError
from vidaudio.shards.seal import OPEN_SEAL, SEAL_KEY, seal_file
from vidaudio.shards.store import Store, open_store

INDEX_FILE = "index.arrow"
_METADATA_KEY = b"vidaudio"

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
    """

    store: Store
    table: pa.Table
    tars: tuple[str, ...]
    audio: str
    sample_rate: int
    frames_per_second: float
    encoder: dict[str, Any]
    splits: dict[str, int]

    def __len__(self) -> int:
        return self.table.num_rows

    @property
    def dimensions(self) -> int:
        """Of the embeddings."""
        return self.encoder["dimensions"]

    def column(self, name: str) -> np.ndarray:
        """A fixed-width column as NumPy, without a copy where Arrow allows."""
        return self.table[name].combine_chunks().to_numpy(zero_copy_only=False)

    def codes(self, name: str) -> np.ndarray:
        """A text column as integers, equal where the texts are."""
        return self.table[name].combine_chunks().dictionary_encode().indices.to_numpy()

    def lists(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """A list column as flat values and `[rows + 1]` offsets into them."""
        column = self.table[name].combine_chunks()
        offsets = column.offsets.to_numpy()
        return column.values.to_numpy(zero_copy_only=False)[: offsets[-1]], offsets


def write_index(path: Path, table: pa.Table, metadata: dict[str, Any]) -> None:
    """Write the index file: rows of `SAMPLE_SCHEMA`, uncompressed, so that it can be mapped, and sealed."""
    described = {_METADATA_KEY: json.dumps(metadata, sort_keys=True).encode(), SEAL_KEY: OPEN_SEAL}
    table = table.combine_chunks().replace_schema_metadata(described)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    seal_file(path)


def read_index(source: Any) -> tuple[pa.Table, dict[str, Any]]:
    """Rows and metadata as `write_index` took them, from an Arrow source."""
    table = pa.ipc.open_file(source).read_all()
    return table, json.loads(table.schema.metadata[_METADATA_KEY])


def open_index(url: str, split: str | None = None) -> TrainingIndex:
    """Open `CORPUS/training/NAME`.

    Args:
        url: The folder with `index.arrow`, or a corpus with one pack named `default`.
        split: Only this split's samples; None for all.

    Raises:
        CorpusError: No packed corpus there, or no such split; names those there are.
    """
    store = open_store(url)
    if not store.exists(INDEX_FILE):
        nested = f"training/default/{INDEX_FILE}"
        if not store.exists(nested):
            raise CorpusError(f"{url} is no packed corpus (no {INDEX_FILE}); name CORPUS/training/NAME, after a build")
        store = open_store(f"{store.url}/training/default")
    local = store.local_path(INDEX_FILE)
    source = pa.memory_map(str(local)) if local is not None else pa.BufferReader(store.read(INDEX_FILE))
    try:
        table, described = read_index(source)
    except (pa.ArrowInvalid, KeyError, TypeError, ValueError) as error:
        raise CorpusError(f"{store.url}/{INDEX_FILE} is not an index of ours: {error}") from error
    counted = table["split"].value_counts().to_pylist()
    splits = {entry["values"]: entry["counts"] for entry in counted}
    if split is not None:
        if split not in splits:
            raise CorpusError(f"{url} has no split {split!r}; it has {', '.join(sorted(splits))}")
        table = table.filter(pa.compute.equal(table["split"], split))
    return TrainingIndex(
        store=store,
        table=table,
        tars=tuple(described["tars"]),
        audio=described["audio"],
        sample_rate=described["sample_rate"],
        frames_per_second=described["frames_per_second"],
        encoder=described["encoder"],
        splits=splits,
    )
