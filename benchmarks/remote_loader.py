"""One epoch from an object store 50 ms away against one from local disk: bytes read, and windows a second.

    python -m benchmarks.remote_loader [--shards 256] [--workers 1] [--rounds 3]

The store is an S3 server on loopback in a process of its own, which waits before it answers any request; on a machine
of two cores it takes part of what a second worker would need, so there is one. FLAC shards of 10-s clips, 16 MB each,
in blocks of 8; one window a sample and epoch. The remote epoch begins with an empty cache that holds a quarter of the
corpus (or three blocks, if that is more), so that nothing of it is left over from before, and ends with the last batch.
A consumer that takes `--pause` ms a batch, as training does, is measured beside one that only reads.

An epoch's rate counts from the first request for a batch to the last batch. Told apart are the wait for the first batch
(a process is started, connections are opened, a block is fetched), which a run has once whatever its length, and the
rate from there on. Opening the stream, before any epoch, is told by itself. Processor seconds say who was busy. The
corpus takes 4 GB of disk, the cache 1 GB.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import psutil

from benchmarks.common import write_result
from benchmarks.slow_s3 import BUCKET, heard, slow_s3
from benchmarks.tables import rows_table
from vidaudio.stream.loader import MixtureStream, StreamConfig
from vidaudio.stream.packed_corpus import BLOCKS_IN_CACHE

SAMPLES_A_SHARD, SECONDS, RATE, DIMENSIONS = 64, 10, 16_000, 512
# Half of the default: at an epoch's end two blocks are sent for ahead, which of 256 shards should be a small part.
BLOCK_SHARDS = 8
CONSUMERS = ("reading", "training")


@dataclass(frozen=True)
class Epoch:
    """One epoch, measured.

    Attributes:
        windows_per_second: From the first request for a batch to the last batch.
        start_seconds: Until the first batch was there.
        steady_per_second: Windows after the first batch, a second.
        open_seconds: To open the stream, before all that.
        consumer_cpu_seconds, loader_cpu_seconds, store_cpu_seconds: Processor time, between request and last batch; of
            the loader's processes as long as they live, and so with their start.
    """

    windows_per_second: float
    start_seconds: float
    steady_per_second: float
    open_seconds: float
    consumer_cpu_seconds: float
    loader_cpu_seconds: float
    store_cpu_seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, default=256)
    parser.add_argument("--samples", type=int, default=SAMPLES_A_SHARD, help="samples a shard")
    parser.add_argument("--block-shards", type=int, default=BLOCK_SHARDS)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--latency", type=float, default=0.05, help="seconds before every answer of the store")
    parser.add_argument("--pause", type=float, default=60, help="milliseconds that the training consumer takes a batch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="few samples, one round: only to see it work")
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.shards, chosen.samples, chosen.block_shards, chosen.rounds = 8, 16, 2, 1
    with tempfile.TemporaryDirectory() as scratch:
        bucket = Path(scratch) / "bucket"
        bucket.mkdir()
        write_corpus(bucket / "corpus", chosen.shards, chosen.samples)
        with slow_s3(bucket, chosen.latency) as (address, environment):
            os.environ |= environment
            measure(chosen, Path(scratch), bucket / "corpus", address)


def measure(chosen: argparse.Namespace, scratch: Path, local: Path, address: str) -> None:
    """Epochs from the disk and from the store in turn, by a consumer that only reads and by one that trains."""
    sizes = [path.stat().st_size for path in local.glob("*.tar")]
    corpus = sum(sizes)
    limit = max(corpus // 4, (BLOCKS_IN_CACHE * (chosen.block_shards + 1) + 1) * max(sizes))
    config = StreamConfig(batch_size=32, block_shards=chosen.block_shards, cache_bytes=limit)
    epochs: dict[tuple[str, str], list[Epoch]] = {
        (who, where): [] for who in CONSUMERS for where in ("local", "remote")
    }
    requests: dict[str, list[int]] = {who: [] for who in CONSUMERS}
    read: dict[str, list[float]] = {who: [] for who in CONSUMERS}
    store = next(each for each in psutil.Process().children() if "benchmarks.slow_s3" in each.cmdline())
    for _ in range(chosen.rounds):
        for who in CONSUMERS:
            run = partial(one_epoch, workers=chosen.workers, store=store)
            pause = chosen.pause / 1000 if who == "training" else 0.0
            epochs[who, "local"].append(run(str(local), config, pause=pause))
            heard(address)
            with tempfile.TemporaryDirectory(dir=scratch) as cache:
                there = replace(config, cache_folder=cache)
                epochs[who, "remote"].append(run(f"s3://{BUCKET}/corpus", there, pause=pause))
            asked, sent = heard(address)
            requests[who].append(asked)
            read[who].append(sent / corpus)
    rows = [{"consumer": who, "corpus": where} | medians(found) for (who, where), found in epochs.items()]
    ratios = [
        {
            "consumer": who,
            "epoch_ratio": ratio(epochs, who, lambda epoch: epoch.windows_per_second),
            "steady_ratio": ratio(epochs, who, lambda epoch: epoch.steady_per_second),
            "read_of_corpus": round(max(read[who]), 4),
            "requests": max(requests[who]),
        }
        for who in CONSUMERS
    ]
    print(rows_table(rows), rows_table(ratios), sep="\n\n")
    settings = {
        "shards": chosen.shards,
        "samples_a_shard": chosen.samples,
        "block_shards": chosen.block_shards,
        "workers": chosen.workers,
        "latency_seconds": chosen.latency,
        "pause_ms": chosen.pause,
        "rounds": chosen.rounds,
        "corpus_bytes": corpus,
        "cache_bytes": limit,
        "quick": chosen.quick,
    }
    write_result("remote_loader", settings, {"epochs": rows, "remote_of_local": ratios})


def one_epoch(url: str, config: StreamConfig, *, workers: int, store: psutil.Process, pause: float) -> Epoch:
    """Open a stream and go through an epoch of it, `pause` seconds a batch."""
    opening = time.perf_counter()
    stream = MixtureStream(url, config)
    others = set(psutil.Process().children(recursive=True))
    cpu, store_cpu = time.process_time(), used(store)
    began = time.perf_counter()
    windows, first = 0, 0
    start = loader_cpu = 0.0
    batches = iter(stream.loader(workers=workers))
    for number, batch in enumerate(islice(batches, stream.batches_per_epoch)):
        windows += batch["rows"].numel()
        if not number:
            start, first = time.perf_counter() - began, windows
        time.sleep(pause)
    took = time.perf_counter() - began
    loader_cpu = sum(used(each) for each in set(psutil.Process().children(recursive=True)) - others)
    return Epoch(
        windows_per_second=windows / took,
        start_seconds=start,
        steady_per_second=(windows - first) / (took - start),
        open_seconds=began - opening,
        consumer_cpu_seconds=time.process_time() - cpu,
        loader_cpu_seconds=loader_cpu,
        store_cpu_seconds=used(store) - store_cpu,
    )


def used(process: psutil.Process) -> float:
    """Processor seconds of a process so far."""
    times = process.cpu_times()
    return times.user + times.system


def medians(epochs: list[Epoch]) -> dict[str, float]:
    """The median of every figure over the rounds."""
    every = [asdict(epoch) for epoch in epochs]
    return {name: round(statistics.median(each[name] for each in every), 3) for name in every[0]}


def ratio(epochs: dict[tuple[str, str], list[Epoch]], who: str, rate: Callable[[Epoch], float]) -> float:
    """The median over the rounds of the remote rate by the local one next to it."""
    pairs = zip(epochs[who, "remote"], epochs[who, "local"], strict=True)
    return round(statistics.median(rate(remote) / rate(local) for remote, local in pairs), 4)


def write_corpus(folder: Path, shards: int, samples: int) -> None:
    """Noisy tones in FLAC, which cannot shrink noise; the clips of the first shard stand in all of them."""
    import io

    import pyarrow as pa
    import soundfile

    from vidaudio.shards.tar import ShardWriter, list_members
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
        inside = list_members(path)
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
