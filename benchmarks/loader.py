"""Windows a second through one loader process, against the bare reads and decoding they need. Page cache warm.

    python -m benchmarks.loader [--quick]

For FLAC and for PCM shards of 10-s clips: `bare` is pread and soundfile (PCM: pread alone) of as many windows and the
read of their vectors; `loader` is `MixtureStream` through one DataLoader worker, batches and all. `webdataset` reads
the same tars from front to back, one worker too, with the same decoding of one random window a clip, and stacks as
large batches; it shuffles nothing.
"""

from __future__ import annotations

import argparse
import functools
import io
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import soundfile

from benchmarks.common import median_ratio, report, side_by_side
from vidaudio.shards.tar import ShardWriter, list_members
from vidaudio.stream.index import INDEX_FILE, SAMPLE_SCHEMA, TrainingIndex, write_index
from vidaudio.stream.loader import MixtureStream, StreamConfig

CLIPS, SECONDS, RATE, DIMENSIONS = 512, 10, 16_000, 512
BATCHES, BATCH = 60, 32
SPAN = 65_535
# As many as VGGSound has: what a system of labels learns a vector of.
LABELS = 309


def write_corpus(folder: Path, audio: str, clips: int = CLIPS, *, rate: int = RATE, pictures: bool = False) -> None:
    """A packed corpus of noisy tones: FLAC cannot shrink noise, so it decodes as slowly as real sound does.

    Args:
        folder: To write into; it exists.
        audio: `flac` or `wav`.
        clips: How many, of `SECONDS`.
        rate: Of the sound, Hz.
        pictures: Put a picture a second in, of 224 x 224.
    """
    rng = np.random.default_rng(0)
    rows = []
    with ShardWriter(folder / "train-000000.tar") as writer:
        for clip in range(clips):
            times = np.arange(SECONDS * rate) / rate
            tone = 0.3 * np.sin(2 * np.pi * rng.uniform(100, 2000) * times)
            samples = ((tone + rng.normal(0, 0.02, len(times))) * 32767).clip(-32768, 32767).astype(np.int16)
            sound, vectors = io.BytesIO(), io.BytesIO()
            soundfile.write(sound, samples, rate, format=audio.upper(), subtype="PCM_16")
            np.save(vectors, rng.normal(size=(SECONDS, DIMENSIONS)).astype(np.float16))
            key = f"clip{clip:05d}"
            parts = {audio: sound.getvalue(), "clip.npy": vectors.getvalue(), "json": json.dumps({}).encode()}
            writer.write(key, parts | (_pictures(rng) if pictures else {}))
            grid = [float(second) for second in range(SECONDS)]
            rows.append(
                {"key": key, "id": key, "source": f"made:{key}", "dataset": "made", "split": "train",
                 "labels": [f"kind {clip % LABELS}"], "captions": [], "samples": len(samples),
                 "audio_start_seconds": 0.0, "frame_seconds": grid, "grid_seconds": grid, "shard": 0}
            )  # fmt: skip
    inside = list_members(folder / "train-000000.tar")
    for row in rows:
        sound, vectors = inside[f"{row['key']}.{audio}"], inside[f"{row['key']}.clip.npy"]
        row |= {"audio_offset": sound.offset, "audio_length": sound.length}
        row |= {"vectors_offset": vectors.offset, "vectors_length": vectors.length}
    metadata = {"tars": ["train-000000.tar"], "audio": audio, "sample_rate": rate, "frames_per_second": 1.0,
                "encoder": {"dimensions": DIMENSIONS}, "plan_hash": "made"}  # fmt: skip
    write_index(folder / INDEX_FILE, pa.Table.from_pylist(rows, schema=SAMPLE_SCHEMA), metadata)


def _pictures(rng: np.random.Generator) -> dict[str, bytes]:
    from benchmarks.on_the_fly import made_up_picture

    found = {}
    for second in range(SECONDS):
        jpeg = io.BytesIO()
        made_up_picture(rng).save(jpeg, format="JPEG", quality=90)
        found[f"{second:03d}.jpg"] = jpeg.getvalue()
    return found


def bare_reads(folder: Path, audio: str, index: TrainingIndex, batches: int) -> Callable[[], int]:
    """The least a loader could do for as many windows: two preads, and for FLAC the decoding up to the window's end."""
    columns = [index.column(n) for n in ("audio_offset", "audio_length", "vectors_offset", "vectors_length")]
    descriptor = os.open(folder / "train-000000.tar", os.O_RDONLY)

    def work() -> int:
        for number in range(batches * BATCH * 2):
            row = number * 7 % len(index)
            audio_at, audio_bytes, vectors_at, vectors_bytes = (int(column[row]) for column in columns)
            first = RATE * (number % 5)
            if audio == "flac":
                with soundfile.SoundFile(io.BytesIO(os.pread(descriptor, audio_bytes, audio_at))) as file:
                    file.seek(first)
                    file.read(SPAN, dtype="int16")
            else:
                np.frombuffer(os.pread(descriptor, 2 * SPAN, audio_at + 44 + 2 * first), "<i2")
            np.frombuffer(os.pread(descriptor, vectors_bytes, vectors_at)[128:], np.float16)
        return batches * BATCH * 2

    return work


def window_of(sample: dict, audio: str) -> tuple[np.ndarray, np.ndarray]:
    """What a loader must make of a WebDataset sample: a random window's sound, and the vectors of its pictures."""
    centre = int(np.random.randint(2, SECONDS - 3))
    vectors = np.load(io.BytesIO(sample["clip.npy"]), allow_pickle=False)[centre - 1 : centre + 2]
    with soundfile.SoundFile(io.BytesIO(sample[audio])) as file:
        file.seek(RATE * (centre - 2))
        return file.read(SPAN, dtype="int16"), vectors


def plain_batches(folder: Path, audio: str) -> Iterator:
    """Endless batches of as many windows by webdataset's own pipeline and one DataLoader worker."""
    import webdataset

    from vidaudio.stream import shard_urls

    pipeline = webdataset.WebDataset(shard_urls(str(folder), "train"), shardshuffle=False, empty_check=False)
    pipeline = pipeline.map(functools.partial(window_of, audio=audio)).repeat().batched(2 * BATCH)
    return iter(webdataset.WebLoader(pipeline, batch_size=None, num_workers=1, prefetch_factor=4))


def take(batches: Iterator, number: int) -> int:
    """A contestant: so many batches, whose windows it counts."""
    for _ in range(number):
        next(batches)
    return number * BATCH * 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few clips and batches, one round: only to see it work")
    quick = parser.parse_args().quick
    clips, number_of_batches, rounds = (64, 2, 1) if quick else (CLIPS, BATCHES, 3)
    contestants = {}
    with tempfile.TemporaryDirectory() as scratch:
        for audio in ("flac", "wav"):
            folder = Path(scratch) / audio
            folder.mkdir()
            write_corpus(folder, audio, clips)
            stream = MixtureStream(str(folder), StreamConfig(batch_size=BATCH))

            # Started once: a worker lives as long as a training run, and its start is not what is measured.
            batches = iter(stream.loader(workers=1))
            plain = plain_batches(folder, audio)
            contestants |= {
                f"{audio} bare": bare_reads(folder, audio, stream.index, number_of_batches),
                f"{audio} loader": functools.partial(take, batches, number_of_batches),
                f"{audio} webdataset": functools.partial(take, plain, number_of_batches),
            }
        rates = side_by_side(contestants, rounds=rounds)
    settings = {"clips": clips, "seconds": SECONDS, "batch_size": BATCH, "quick": quick}
    report("loader", rates, "flac bare", settings)
    for audio in ("flac", "wav"):
        of_bare, of_plain = (
            median_ratio(rates, f"{audio} loader", f"{audio} {other}") for other in ("bare", "webdataset")
        )
        print(f"  {audio}: loader at {of_bare:.0%} of the bare reads, {of_plain:.2f} x webdataset")


if __name__ == "__main__":
    main()
