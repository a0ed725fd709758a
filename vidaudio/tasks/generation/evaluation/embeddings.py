"""Embeddings of a set's sounds, kept in a Parquet file per set and embedding model.

A row belongs to a file by the SHA-256 of the file, and a table to a model by that of its weights and of how it prepares
sounds. So what was embedded before
is not embedded again, and what has changed is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vidaudio.encoders.embedding_models import Embedded, EmbeddingModel, embed_in_batches
from vidaudio.errors import UsageError
from vidaudio.files import atomic_write
from vidaudio.tasks.generation.evaluation.sound_sets import SoundSet, folder_name

# Sounds that are read before they are embedded.
READ_AHEAD = 64
# How models are read here: another number where one of them is read in another way, so that older vectors are left.
READING = b"2"
_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("sha256", pa.string()),
        ("windows", pa.int32()),
        ("vectors", pa.list_(pa.float32())),
        ("probabilities", pa.list_(pa.float32())),
    ]
)


@dataclass(frozen=True)
class EmbeddedSet:
    """Vectors and probabilities of a set, sound by sound.

    Attributes:
        name: Name of the set.
        keys: Key of each sound.
        windows: Vectors of each sound's windows of time, float32 `[W, D]` each.
        probabilities: Probabilities of the classes, `[N, C]`; None where the model has none.
    """

    name: str
    keys: tuple[str, ...]
    windows: tuple[np.ndarray, ...]
    probabilities: np.ndarray | None

    @property
    def means(self) -> np.ndarray:
        """Return the mean vector of each sound, float64 `[N, D]`."""
        return np.stack([windows.astype(np.float64).mean(0) for windows in self.windows])

    def chosen(self, keys: Sequence[str]) -> EmbeddedSet:
        """Return the sounds of some keys, in their order."""
        place = {key: number for number, key in enumerate(self.keys)}
        rows = [place[key] for key in keys]
        probabilities = None if self.probabilities is None else self.probabilities[rows]
        return EmbeddedSet(self.name, tuple(keys), tuple(self.windows[row] for row in rows), probabilities)


def embed_set(
    sounds: SoundSet, model: EmbeddingModel, folder: Path, *, on_sound: Callable[[], object] = lambda: None
) -> EmbeddedSet:
    """Return the embeddings of a set, from its table where they are known.

    Args:
        sounds: The set.
        model: The embedding model.
        folder: Folder of the tables.
        on_sound: Called for every sound that is embedded.

    Raises:
        UsageError: When vectors are not finite; the message names the sound.
    """
    name = hashlib.sha256(sounds.name.encode()).hexdigest()[:12]
    path = folder / f"{folder_name(model.name)}-{name}.parquet"
    known = _read(path, model)
    hashes = {key: sounds.digest(key) for key in sounds.keys}
    wanted = [key for key, digest in hashes.items() if digest not in known]
    try:
        for first in range(0, len(wanted), READ_AHEAD):
            keys = wanted[first : first + READ_AHEAD]
            read = [sounds.read(key, model.sample_rate) for key in keys]
            for key, found in zip(keys, embed_in_batches(model, read), strict=True):
                for what, values in (("vectors", found.vectors), ("probabilities", found.probabilities)):
                    if values is not None and not np.isfinite(values).all():
                        raise UsageError(f"{model.name} gives {what} that are not finite for {key} of {sounds.name}")
                known[hashes[key]] = found
                on_sound()
    finally:
        # Also where a sound fails or the evaluation is stopped: what was embedded is kept.
        if wanted:
            _write(path, model, {key: (digest, known[digest]) for key, digest in hashes.items() if digest in known})
    kept = [known[hashes[key]] for key in sounds.keys]
    probabilities = [one.probabilities for one in kept if one.probabilities is not None]
    return EmbeddedSet(
        sounds.name,
        sounds.keys,
        tuple(one.vectors[0] for one in kept),
        np.concatenate(probabilities) if len(probabilities) == len(kept) else None,
    )


def _read(path: Path, model: EmbeddingModel) -> dict[str, Embedded]:
    """Return what is known, by the hash of the sound; nothing if the table is another model's, or damaged."""
    if not path.is_file():
        return {}
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError):
        return {}
    if table.schema.metadata != _described(model):
        return {}
    vectors, probabilities = (_rows(table[name]) for name in ("vectors", "probabilities"))
    known = {}
    for row, (digest, windows) in enumerate(
        zip(table["sha256"].to_pylist(), table["windows"].to_pylist(), strict=True)
    ):
        held, said = vectors[row], probabilities[row]
        assert held is not None, "every sound has vectors"
        known[digest] = Embedded(held.reshape(1, windows, -1), None if said is None else said[None])
    return known


def _rows(column: pa.ChunkedArray) -> list[np.ndarray | None]:
    """Return the lists of a column as views of one array, float32; None for a missing list."""
    found: list[np.ndarray | None] = []
    for chunk in column.chunks:
        values, ends = chunk.values.to_numpy(), chunk.offsets.to_numpy()
        found += [
            values[begin:end] if is_there else None
            for begin, end, is_there in zip(ends[:-1], ends[1:], chunk.is_valid().to_pylist(), strict=True)
        ]
    return found


def _described(model: EmbeddingModel) -> dict[bytes, bytes]:
    return {
        b"model": model.name.encode(),
        b"model_sha256": model.sha256.encode(),
        b"preparation_sha256": hashlib.sha256(
            json.dumps([model.sample_rate, model.classes, model.preparation]).encode()
        )
        .hexdigest()
        .encode(),
        b"reading": READING,
    }


def _write(path: Path, model: EmbeddingModel, rows: Mapping[str, tuple[str, Embedded]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = [
        {
            "key": key,
            "sha256": digest,
            "windows": found.vectors.shape[1],
            "vectors": found.vectors.ravel(),
            "probabilities": None if found.probabilities is None else found.probabilities[0],
        }
        for key, (digest, found) in rows.items()
    ]
    with atomic_write(path) as temporary:
        pq.write_table(pa.Table.from_pylist(values, _SCHEMA.with_metadata(_described(model))), temporary)
