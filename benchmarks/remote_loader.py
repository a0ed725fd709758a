"""One epoch from an object store 50 ms away against one from local disk: bytes read, and windows a second.

    python -m benchmarks.remote_loader [--shards 64] [--workers 1]

The store is an S3 server on loopback in a process of its own, which waits before it answers any request; on a machine
of two cores it takes part of what a second worker would need, so there is one. FLAC shards of
10-s clips; one window a sample and epoch. The remote epoch begins with an empty cache that holds a quarter of the
corpus (or three blocks, if that is more), so that nothing of it is left over from before, and ends with the last batch.
A consumer that takes `--pause` ms a batch, as training does, is measured beside one that only reads.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np

from benchmarks.common import report
from benchmarks.slow_s3 import BUCKET, heard, slow_s3
from vidaudio.stream.corpus import BLOCKS_IN_CACHE
from vidaudio.stream.loader import MixtureStream, StreamConfig

SAMPLES_A_SHARD, SECONDS, RATE, DIMENSIONS = 64, 10, 16_000, 512
BLOCK_SHARDS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, default=64)
    parser.add_argument("--samples", type=int, default=SAMPLES_A_SHARD, help="samples a shard")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--latency", type=float, default=0.05, help="seconds before every answer of the store")
    parser.add_argument("--pause", type=float, default=60, help="milliseconds that the training consumer takes a batch")
    parser.add_argument("--quick", action="store_true", help="few samples: only to see it work")
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.shards, chosen.samples = 8, 16
    with tempfile.TemporaryDirectory() as scratch:
        bucket = Path(scratch) / "bucket"
        bucket.mkdir()
        local = bucket / "corpus"
        write_corpus(local, chosen.shards, chosen.samples)
        with slow_s3(bucket, chosen.latency) as (address, environment):
            os.environ |= environment
            measure(chosen, Path(scratch), local, address)


def measure(chosen: argparse.Namespace, scratch: Path, local: Path, address: str) -> None:
    """One epoch from the disk and one from the store, by a consumer that only reads and by one that trains."""
    sizes = [path.stat().st_size for path in local.glob("*.tar")]
    corpus = sum(sizes)
    limit = max(corpus // 4, (BLOCKS_IN_CACHE * (BLOCK_SHARDS + 1) + 1) * max(sizes))
    config = StreamConfig(batch_size=32, block_shards=BLOCK_SHARDS, cache_bytes=limit)
    rates, read = {}, {}
    for name, pause in (("reading", 0.0), ("training", chosen.pause / 1000)):
        rates[f"{name}, local"] = [epoch_rate(str(local), config, chosen.workers, pause)]
        heard(address)
        with tempfile.TemporaryDirectory(dir=scratch) as cache:
            there = replace(config, cache_folder=cache)
            rates[f"{name}, remote"] = [epoch_rate(f"s3://{BUCKET}/corpus", there, chosen.workers, pause)]
        read[name] = heard(address)[1] / corpus
    settings = {
        "shards": chosen.shards,
        "samples_a_shard": chosen.samples,
        "workers": chosen.workers,
        "latency_seconds": chosen.latency,
        "pause_ms": chosen.pause,
        "corpus_bytes": corpus,
        "cache_bytes": limit,
        "quick": chosen.quick,
    }
    report("remote_loader", rates, "reading, local", settings, bytes_read_of_corpus=read)
    for name in ("reading", "training"):
        ratio = rates[f"{name}, remote"][0] / rates[f"{name}, local"][0]
        print(f"  {name}: remote at {ratio:.0%} of the local rate, {read[name]:.2f} x the corpus's bytes read")


def epoch_rate(url: str, config: StreamConfig, workers: int, pause: float) -> float:
    """Windows a second over one epoch, from the first request for a batch to the last batch."""
    stream = MixtureStream(url, config)
    began = time.perf_counter()
    windows = 0
    for batch in islice(stream.loader(workers=workers), stream.batches_per_epoch):
        windows += batch["rows"].numel()
        time.sleep(pause)
    return windows / (time.perf_counter() - began)


def write_corpus(folder: Path, shards: int, samples: int) -> None:
    """Noisy tones in FLAC, which cannot shrink noise; the clips of the first shard stand in all of them."""
    import io

    import pyarrow as pa
    import soundfile

    from vidaudio.shards.tar import ShardWriter, members
    from vidaudio.stream.index import INDEX_FILE, SAMPLE_SCHEMA, write_index

    folder.mkdir()
    rng = np.random.default_rng(0)
    clips = []
    for _ in range(samples):
        times = np.arange(SECONDS * RATE) / RATE
        tone = 0.3 * np.sin(2 * np.pi * rng.uniform(100, 2000) * times) + rng.normal(0, 0.02, len(times))
        sound, vectors = io.BytesIO(), io.BytesIO()
        soundfile.write(sound, (tone * 32767).clip(-32768, 32767).astype(np.int16), RATE, format="FLAC")
        np.save(vectors, rng.normal(size=(SECONDS, DIMENSIONS)).astype(np.float16))
        clips.append({"flac": sound.getvalue(), "clip.npy": vectors.getvalue(), "json": b"{}"})
    grid = [float(second) for second in range(SECONDS)]
    rows = []
    for shard in range(shards):
        path = folder / f"train-{shard:06d}.tar"
        with ShardWriter(path) as writer:
            for number, parts in enumerate(clips):
                writer.write(f"s{shard:05d}n{number:05d}", parts)
        inside = members(path)
        for number in range(samples):
            key = f"s{shard:05d}n{number:05d}"
            sound, vectors = inside[f"{key}.flac"], inside[f"{key}.clip.npy"]
            rows.append(
                {"key": key, "id": key, "source": f"made:{key}", "dataset": "made", "split": "train", "labels": [],
                 "captions": [], "samples": SECONDS * RATE, "audio_start_seconds": 0.0, "frame_seconds": grid,
                 "grid_seconds": grid, "audio_offset": sound.offset, "audio_length": sound.length,
                 "vectors_offset": vectors.offset, "vectors_length": vectors.length, "shard": shard}
            )  # fmt: skip
    metadata = {"tars": [f"train-{n:06d}.tar" for n in range(shards)], "audio": "flac", "sample_rate": RATE,
                "frames_per_second": 1.0, "encoder": {"dimensions": DIMENSIONS}, "plan_hash": "made"}  # fmt: skip
    write_index(folder / INDEX_FILE, pa.Table.from_pylist(rows, schema=SAMPLE_SCHEMA), metadata)


if __name__ == "__main__":
    main()
