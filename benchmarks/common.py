"""What the measurements share: media to measure on, pairs of contestants in turn, one JSON a run in results/."""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

RESULTS = Path(__file__).resolve().parent / "results"


def side_by_side(contestants: Mapping[str, Callable[[], int]], *, rounds: int = 3) -> dict[str, float]:
    """Median items a second of every contestant, run in turn so that a drifting machine is fair to all.

    Args:
        contestants: Name to a function that works and returns how many items it did.
        rounds: After one uncounted warm-up each.
    """
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds + 1):
        for name, work in contestants.items():
            began = time.perf_counter()
            items = work()
            if number:
                rates[name].append(items / (time.perf_counter() - began))
    return {name: statistics.median(values) for name, values in rates.items()}


def report(benchmark: str, rates: Mapping[str, float], reference: str, facts: Mapping[str, object]) -> None:
    """Print rates and their ratios to the reference, and keep them as `results/<benchmark>-<commit>.json`."""
    width = max(len(name) for name in rates)
    for name, rate in rates.items():
        print(f"  {name:<{width}}  {rate:10.2f}/s  {rate / rates[reference]:6.2f} x {reference}")
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False, cwd=RESULTS.parent
    ).stdout.strip()
    written = {
        "benchmark": benchmark,
        "machine": machine(),
        "commit": commit,
        "reference": reference,
        "items_per_second": {name: round(rate, 3) for name, rate in rates.items()},
        "ratio": {name: round(rate / rates[reference], 4) for name, rate in rates.items()},
        **facts,
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{benchmark}-{commit or 'uncommitted'}.json"
    path.write_text(json.dumps(written, indent=2, sort_keys=True) + "\n")
    print(f"  {machine()}; {path}")


def machine() -> str:
    """Processor and number of cores, in words."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        model = f"{len(names)} x {names[0]}" if names else model
    return f"{model}, {platform.system()}"


def media_argument(description: str) -> list[Path]:
    """The videos named on the command line, or some of the demo world rendered for the purpose."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--media", type=Path, help="folder of videos; the demo's are rendered otherwise")
    parser.add_argument("--limit", type=int, default=32, help="at most so many")
    chosen = parser.parse_args()
    folder = chosen.media
    if folder is None:
        from vidaudio.demo.render import render_world

        folder = Path(__file__).resolve().parent / "media"
        if not (folder / "world.csv").is_file():
            render_world(folder, videos_per_kind={"train": 4}, flawed_per_flaw=0)
        folder = folder / "media"
    return sorted(path for path in folder.iterdir() if path.suffix in (".mp4", ".webm", ".mkv", ".avi"))[: chosen.limit]
