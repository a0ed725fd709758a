"""A packed corpus made directly, without a build: tones for sound, a fixed vector a label, all by seed."""

from __future__ import annotations

import io
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import soundfile
from PIL import Image

from vidaudio.shards.tar import ShardWriter, list_members
from vidaudio.stream.index import INDEX_FILE, SAMPLE_SCHEMA, write_index

RATE = 16_000


def make_packed(
    folder: Path,
    encoder: Mapping[str, Any],
    *,
    labels: Sequence[str] = ("low", "middle", "high"),
    clips_per_split: Mapping[str, int],
    seconds: float = 4.0,
    labelled: bool = True,
    unlabelled: Collection[int] = (),
    picture_size: int | None = None,
    silent: bool = False,
    caption: str | None = None,
) -> Path:
    """Write `training` shards of synthetic clips, labels in turn, one shard a split; returns the folder.

    `unlabelled` names clips of each split, by number, without a label; `picture_size` puts pictures in; `silent`
    sounds hold zeros; `caption` has one {} for the clip's number.
    """
    folder.mkdir(parents=True, exist_ok=True)
    dimensions = encoder["dimensions"]
    tables, tars = [], []
    for number, (split, clips) in enumerate(sorted(clips_per_split.items())):
        rng = np.random.default_rng(number)
        rows = []
        with ShardWriter(folder / f"{split}-000000.tar") as writer:
            for clip in range(clips):
                kind = clip % len(labels)
                key = f"{split}{clip:03d}"
                times = np.arange(int(seconds * RATE)) / RATE
                sound = 0.3 * np.sin(2 * np.pi * 250 * 3**kind * times * rng.uniform(0.97, 1.03))
                sound = (sound + rng.normal(0, 1e-3, len(times))) * (0 if silent else 32767)
                vectors = np.random.default_rng(100 + kind).normal(0, 1, dimensions)
                vectors = vectors + rng.normal(0, 0.05, (int(seconds), dimensions))
                audio, array = io.BytesIO(), io.BytesIO()
                soundfile.write(audio, sound.astype(np.int16), RATE, format="FLAC", subtype="PCM_16")
                np.save(array, vectors.astype(np.float16))
                facts = {
                    "id": key,
                    "source": f"test:{key}",
                    "dataset": "test",
                    "split": split,
                    "labels": [labels[kind]] if labelled and clip not in unlabelled else [],
                    "captions": [] if caption is None else [caption.format(clip)],
                    "samples": len(times),
                    "audio_start_seconds": 0.0,
                    "frame_seconds": [float(s) for s in range(int(seconds))],
                    "grid_seconds": [float(s) for s in range(int(seconds))],
                }
                parts = {"flac": audio.getvalue(), "clip.npy": array.getvalue(), "json": json.dumps(facts).encode()}
                if picture_size is not None:
                    parts |= {f"{second:03d}.jpg": _jpeg(rng, picture_size) for second in range(int(seconds))}
                writer.write(key, parts)
                rows.append({"key": key, **facts, "shard": number})
        inside = list_members(folder / f"{split}-000000.tar")
        for row in rows:
            sound, vectors = inside[f"{row['key']}.flac"], inside[f"{row['key']}.clip.npy"]
            row |= {"audio_offset": sound.offset, "audio_length": sound.length}
            row |= {"vectors_offset": vectors.offset, "vectors_length": vectors.length}
        tables.append(pa.Table.from_pylist(rows, schema=SAMPLE_SCHEMA))
        tars.append(f"{split}-000000.tar")
    metadata = {
        "tars": tars,
        "audio": "flac",
        "sample_rate": RATE,
        "frames_per_second": 1.0,
        "encoder": dict(encoder),
        "plan_hash": "test",
    }
    write_index(folder / INDEX_FILE, pa.concat_tables(tables), metadata)
    return folder


def _jpeg(rng: np.random.Generator, size: int) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (size, size, 3), np.uint8)).save(sink, format="JPEG")
    return sink.getvalue()
