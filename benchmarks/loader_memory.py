"""Memory of one loader process, and how long it takes to open, over indexes of ten thousand to ten million samples.

    python -m benchmarks.loader_memory

The indexes are synthetic, with 500 samples a shard. Each is read by a process of its own: it opens the stream and works
out batches of three blocks and of a later epoch. What it holds then and held at most are counted whole, mapped pages of
the index included. The largest index takes 2 GB of disk while the benchmark runs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.common import write_result

SAMPLES_A_SHARD = 500
MEASURE = """
import json, sys, time
from vidaudio.stream import MixtureStream, StreamConfig, WindowShape
began = time.perf_counter()
stream = MixtureStream(sys.argv[1], StreamConfig(shape=WindowShape(frames=3, samples=16_000), batch_size=32))
opened = time.perf_counter() - began
for step in (*range(200), *range(stream.batches_per_epoch, stream.batches_per_epoch + 100)):
    stream.rows(step)
kept = dict(line.split(":") for line in open("/proc/self/status"))
megabytes = {name: int(kept[field].split()[0]) / 1024 for name, field in (("now", "VmRSS"), ("most", "VmHWM"))}
print(json.dumps({**megabytes, "open_seconds": opened, "samples": len(stream.index)}))
"""


def measure(samples: int) -> dict[str, float]:
    """Megabytes resident at the end and at most, and seconds to open, of a fresh process."""
    from tests.stream.synthetic import write_synthetic

    with tempfile.TemporaryDirectory() as folder:
        shards = [SAMPLES_A_SHARD] * (samples // SAMPLES_A_SHARD)
        # Four samples a source on average, anywhere in the corpus, as segments of long videos are.
        sources = np.random.default_rng(0).integers(0, samples // 4, samples)
        write_synthetic(Path(folder), sources, shards)
        command = [sys.executable, "-c", MEASURE, folder]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, nargs="+", default=[10**4, 10**5, 10**6, 10**7])
    found = {samples: measure(samples) for samples in parser.parse_args().samples}
    least = min(found)
    for samples, each in found.items():
        grown = each["most"] - found[least]["most"]
        print(
            f"  {samples:>10,} samples: {each['now']:6.1f} MB, at most {each['most']:6.1f} MB ({grown:+.1f} MB), "
            f"opened in {each['open_seconds']:.2f} s"
        )
    write_result("loader_memory", {"samples_a_shard": SAMPLES_A_SHARD}, [found[samples] for samples in sorted(found)])


if __name__ == "__main__":
    main()
