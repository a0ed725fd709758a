"""Indexes of any size without a corpus behind them, and corpora of many small shards, written in a moment."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import soundfile

from vidaudio.shards.tar import ShardWriter, list_members
from vidaudio.stream.index import SAMPLE_SCHEMA, WEIGHT, sample_schema, write_index
from vidaudio.stream.vector_columns import VectorColumn

RATE = 16_000
PICTURES = 5


def texts(numbers: np.ndarray, digits: int = 8) -> pa.Array:
    """Numbers as decimal texts of one length, made without a Python object each."""
    powers = 10 ** np.arange(digits - 1, -1, -1)
    data = (numbers[:, None] // powers % 10 + ord("0")).astype(np.uint8)
    offsets = np.arange(len(numbers) + 1, dtype=np.int32) * digits
    return pa.Array.from_buffers(pa.string(), len(numbers), [None, pa.py_buffer(offsets), pa.py_buffer(data)])


def write_synthetic(
    folder: Path,
    sources: np.ndarray,
    shard_rows: Sequence[int],
    *,
    unusable: Sequence[int] = (),
    splits: int = 1,
    weights: np.ndarray | None = None,
) -> Path:
    """An index of samples with these sources in shards of so many; those named have sound too short for a window."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = len(sources)
    assert sum(shard_rows) == rows
    samples = np.full(rows, PICTURES * RATE)
    samples[list(unusable)] = 10
    offsets = pa.array(np.arange(rows + 1, dtype=np.int32) * PICTURES)
    seconds = pa.ListArray.from_arrays(offsets, pa.array(np.tile(np.arange(PICTURES, dtype=np.float64), rows)))
    none = pa.ListArray.from_arrays(pa.array(np.zeros(rows + 1, np.int32)), pa.array([], pa.string()))
    numbers = texts(np.arange(rows))
    zeros = pa.array(np.zeros(rows, np.int64))
    shards = np.repeat(np.arange(len(shard_rows)), shard_rows)
    split_of = np.minimum(shards * splits // max(1, len(shard_rows)), splits - 1)
    names = pa.array([f"split{n}" if n else "train" for n in range(splits)])
    columns = {
        "key": numbers,
        "id": numbers,
        "source": texts(np.asarray(sources)),
        "dataset": numbers,
        "split": names.take(pa.array(split_of)),
        "labels": none,
        "captions": none,
        "samples": pa.array(samples),
        "audio_start_seconds": pa.array(np.zeros(rows)),
        "frame_seconds": seconds,
        "grid_seconds": seconds,
        "audio_offset": zeros,
        "audio_length": pa.array(2 * np.asarray(samples, np.int64) + 44),
        "vectors_offset": zeros,
        "vectors_length": zeros,
        "shard": pa.array(shards.astype(np.int32)),
    }
    if weights is not None:
        columns[WEIGHT] = pa.array(weights.astype(np.float32))
    metadata = {
        "tars": [f"train-{n:06d}.tar" for n in range(len(shard_rows))],
        "audio": "wav",
        "sample_rate": RATE,
        "frames_per_second": 1.0,
        "encoder": {"dimensions": 32},
        "plan_hash": "synthetic",
        **({} if weights is None else {WEIGHT: "p_corresponds"}),
    }
    schema = sample_schema([VectorColumn("")], weighted=weights is not None)
    write_index(folder / "index.arrow", pa.table(columns, schema=schema), metadata)
    return folder


def write_shards(folder: Path, *, shards: int, samples_a_shard: int, dimensions: int = 16) -> Path:
    """A corpus of noise, PCM, a second a sample, each of its own source: many shards that take little time to write."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    rows, seconds = [], [0.0]
    for shard in range(shards):
        path = folder / f"train-{shard:06d}.tar"
        own = [f"s{shard:03d}n{number:03d}" for number in range(samples_a_shard)]
        with ShardWriter(path) as writer:
            for key in own:
                sound, vectors = io.BytesIO(), io.BytesIO()
                noise = rng.integers(-3000, 3000, RATE, dtype=np.int16)
                soundfile.write(sound, noise, RATE, format="WAV", subtype="PCM_16")
                np.save(vectors, rng.normal(size=(1, dimensions)).astype(np.float16))
                writer.write(key, {"wav": sound.getvalue(), "clip.npy": vectors.getvalue(), "json": b"{}"})
        inside = list_members(path)
        for key in own:
            sound, vectors = inside[f"{key}.wav"], inside[f"{key}.clip.npy"]
            rows.append(
                {"key": key, "id": key, "source": f"made:{key}", "dataset": "made", "split": "train", "labels": [],
                 "captions": [], "samples": RATE, "audio_start_seconds": 0.0, "frame_seconds": seconds,
                 "grid_seconds": seconds, "audio_offset": sound.offset, "audio_length": sound.length,
                 "vectors_offset": vectors.offset, "vectors_length": vectors.length, "shard": shard}
            )  # fmt: skip
    metadata = {
        "tars": [f"train-{shard:06d}.tar" for shard in range(shards)],
        "audio": "wav",
        "sample_rate": RATE,
        "frames_per_second": 1.0,
        "encoder": {"dimensions": dimensions},
        "plan_hash": "noise",
    }
    write_index(folder / "index.arrow", pa.Table.from_pylist(rows, schema=SAMPLE_SCHEMA), metadata)
    return folder
