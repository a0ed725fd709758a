"""How long a consumer that takes a batch every T ms waits for the loader: PCM shards, two loader processes.

    python -m benchmarks.loader_waiting [--workers 2] [--seconds 30] [--windows-per-second 5000]

The consumer is a GPU at work: it asks for a batch, is busy elsewhere for T ms (it sleeps, and leaves the processor to
the loader), and asks again. T is the batch's windows by `--windows-per-second`; without that option, by the rate of the
fastest system in `gpu_steps.json` where that was measured, and by 5,000 otherwise. Waiting is the time inside asking,
the first batches left out: a run starts its loader once. What the consumer spends on giving a batch's memory back is
told beside it. The rate without any pause, before and after, tells what the loader had to spare. PyTorch hands batches
on in a thread of its own where there is a GPU; here the consumer receives them itself, and that counts as waiting.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from benchmarks.common import write_result
from benchmarks.loader import BATCH, SECONDS, write_corpus
from vidaudio.stream.loader import MixtureStream, StreamConfig

GPU_STEPS = Path(__file__).resolve().parent / "gpu_steps.json"
WINDOWS_PER_SECOND = 5000.0
SOURCES, CLIPS = 2, 512
# As many as the processes read ahead, and some more: a queue that was filled before the clock ran is no loader's rate.
LEFT_OUT = 32


def wanted_rate(steps: Path = GPU_STEPS) -> tuple[float, str]:
    """Windows a second that training takes, and where the number is from.

    Args:
        steps: A JSON with a list of `results`, a row a system with `system`, `mixtures_per_second` and maybe `sources`
            (2 otherwise); no such file, no such number.

    Raises:
        SystemExit: The file has no such rows.
    """
    if not steps.is_file():
        return WINDOWS_PER_SECOND, "chosen"
    try:
        rows = json.loads(steps.read_text())["results"]
        # A system may stand there more than once: compiled or not, in batches of several sizes.
        rates = [(row["mixtures_per_second"] * row.get("sources", SOURCES), row["system"]) for row in rows]
        rate, fastest = max(rates)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SystemExit(f"{steps} has no results with system and mixtures_per_second ({error!r})") from None
    return float(rate), f"{fastest} in {steps.name}"


def waits(batches: Iterator[dict], pause_seconds: float, seconds: float) -> tuple[np.ndarray, float, float]:
    """A consumer that is busy `pause_seconds` a batch.

    Returns:
        Seconds inside asking, one number a batch; seconds of giving the batches' memory back; seconds in all.
    """
    found, released = [], 0.0
    began = time.perf_counter()
    while (asked := time.perf_counter()) - began < seconds:
        batch = next(batches)
        found.append(time.perf_counter() - asked)
        time.sleep(pause_seconds)
        done = time.perf_counter()
        del batch
        released += time.perf_counter() - done
    return np.asarray(found), released, time.perf_counter() - began


def free_rate(batches: Iterator[dict], number: int) -> float:
    """Windows a second of a consumer that only reads."""
    began = time.perf_counter()
    windows = sum(batch["rows"].numel() for batch in islice(batches, number))
    return windows / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--windows-per-second", type=float)
    parser.add_argument("--quick", action="store_true", help="few clips, one second: only to see it work")
    chosen = parser.parse_args()
    rate, origin = wanted_rate() if chosen.windows_per_second is None else (chosen.windows_per_second, "chosen")
    seconds, clips, free = (1.0, 64, 8) if chosen.quick else (chosen.seconds, CLIPS, 400)
    pause = BATCH * SOURCES / rate
    with tempfile.TemporaryDirectory() as folder:
        write_corpus(Path(folder), "wav", clips)
        stream = MixtureStream(folder, StreamConfig(batch_size=BATCH, sources=SOURCES))
        batches = iter(stream.loader(workers=chosen.workers))
        free_rate(batches, LEFT_OUT)
        before = free_rate(batches, free)
        waits(batches, pause, LEFT_OUT * pause)
        found, released, took = waits(batches, pause, seconds)
        after = free_rate(batches, free)
        del batches
    results = {
        "waiting_share": round(float(found.sum()) / took, 5),
        "releasing_share": round(released / took, 5),
        "median_wait_ms": round(1000 * float(np.median(found)), 3),
        "wait_of_99_percent_ms": round(1000 * float(np.quantile(found, 0.99)), 3),
        "longest_wait_ms": round(1000 * float(found.max()), 3),
        "windows_per_second": round(len(found) * BATCH * SOURCES / took, 1),
        "without_pause_per_second": round(statistics.mean((before, after)), 1),
    }
    print(f"  a batch every {1000 * pause:.1f} ms: waits {results['waiting_share']:.1%} of its time, {results}")
    settings = {
        "wanted_windows_per_second": rate,
        "wanted_by": origin,
        "batch_every_ms": round(1000 * pause, 3),
        "batch_size": BATCH,
        "sources": SOURCES,
        "workers": chosen.workers,
        "seconds": seconds,
        "clips": clips,
        "clip_seconds": SECONDS,
        "quick": chosen.quick,
    }
    write_result("loader_waiting", settings, results)


if __name__ == "__main__":
    main()
