"""What the measurements share: contestants in turn, the machine's name, one JSON a run in results/."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"
# What decides how fast codecs and matrix products run on a processor.
TOLD_FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimd", "sve", "bf16")
TOLD_PACKAGES = ("av", "torch", "open_clip_torch", "pillow", "soundfile", "webdataset", "distributed", "ffmpeg-python")


def side_by_side(contestants: Mapping[str, Callable[[], float]], *, rounds: int = 3) -> dict[str, list[float]]:
    """Items a second of every contestant in every round, run in turn so that a drifting machine is fair to all.

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
    return rates


def medians(rates: Mapping[str, list[float]]) -> dict[str, float]:
    """The median round of every contestant, items a second."""
    return {name: statistics.median(values) for name, values in rates.items()}


def median_ratio(rates: Mapping[str, list[float]], name: str, reference: str) -> float:
    """The median of a contestant's ratios to another, each taken inside one round, where both ran within seconds."""
    ratios = [own / other for own, other in zip(rates[name], rates[reference], strict=True)]
    return round(statistics.median(ratios), 4)


def compared(rates: Mapping[str, list[float]], reference: str) -> list[dict[str, Any]]:
    """A row a contestant: its median rate, slowest and fastest round, and its `median_ratio` to `reference`."""
    rows = []
    for name, values in rates.items():
        rows.append(
            {
                "name": name,
                "per_second": round(statistics.median(values), 3),
                "slowest": round(min(values), 3),
                "fastest": round(max(values), 3),
                "ratio": median_ratio(rates, name, reference),
            }
        )
    return rows


def print_compared(rows: list[dict[str, Any]], reference: str) -> None:
    """Rows of `compared` for the eye."""
    width = max(len(row["name"]) for row in rows)
    for row in rows:
        spread = f"{row['slowest']:.2f} to {row['fastest']:.2f}"
        print(f"  {row['name']:<{width}}  {row['per_second']:10.2f}/s  ({spread})  {row['ratio']:6.2f} x {reference}")


def report(
    benchmark: str, rates: Mapping[str, list[float]], reference: str, settings: Mapping[str, Any], **results: Any
) -> Path | None:
    """Print rates and their ratios to the reference, and write them as a result; `results` are kept beside them."""
    rows = compared(rates, reference)
    print_compared(rows, reference)
    return write_result(benchmark, settings, {"reference": reference, "contestants": rows, **results})


def write_result(name: str, settings: Mapping[str, Any], results: Mapping[str, Any] | list[Any]) -> Path | None:
    """Write `results/<name>-<date>-<short commit>.json`: benchmark, commit, date, machine, settings, results.

    Args:
        name: The benchmark's; letters, digits and underscores.
        settings: What it ran on and how: sizes, seeds, commands, `quick` where it was only tried.
        results: What came out, as JSON takes it.

    Returns:
        Where it was written; None with `quick`, as what was only tried must not stand among results. A second run on
        the same day at the same commit replaces the first.
    """
    if settings.get("quick"):
        print("  only tried: no result is written")
        return None
    now = datetime.now(UTC)
    described = commit()
    written = {
        "benchmark": name,
        "commit": described,
        "date": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "machine": machine(),
        "settings": dict(settings),
        "results": results,
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}-{now:%Y%m%d}-{described or 'uncommitted'}.json"
    temporary = path.with_suffix(".json.tmp")
    temporary.write_text(json.dumps(written, indent=2) + "\n")
    temporary.replace(path)
    print(f"  {machine_words(written['machine'])}; {path}")
    return path


def commit() -> str:
    """The short commit of this tree, with `-dirty` where a tracked file differs from it; empty outside a checkout."""
    for arguments in (["describe", "--always", "--dirty", "--exclude", "*"], ["rev-parse", "--short", "HEAD"]):
        try:
            done = subprocess.run(
                ["git", *arguments], capture_output=True, text=True, check=False, cwd=RESULTS.parent, timeout=60
            )
        except (OSError, subprocess.TimeoutExpired):
            return ""
        if done.returncode == 0:
            return done.stdout.strip()
    return ""


def machine() -> dict[str, Any]:
    """Processor model, cores this process may use, its features that matter here, memory, versions."""
    fields: dict[str, str] = {}
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            key, _, value = line.partition(":")
            fields.setdefault(key.strip(), value.strip())
    features = set((fields.get("flags") or fields.get("Features") or "").split())
    may_use = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    family = f" (family {fields['cpu family']}, model {fields['model']})" if "cpu family" in fields else ""
    return {
        "cpu": fields.get("model name", platform.processor() or platform.machine()) + family,
        "cores": may_use,
        "features": [name for name in TOLD_FEATURES if name in features],
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": platform.system(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in TOLD_PACKAGES},
    }


def machine_words(described: Mapping[str, Any]) -> str:
    """A machine in one line."""
    features = ", ".join(described["features"]) or "no vector extensions named"
    return f"{described['cores']} x {described['cpu']}, {described['memory_gb']:g} GB, {features}"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def use_device(device: str, refusal: str = "leave out --device cuda") -> None:
    """Hide GPUs where the processor is measured, since the trainer takes one where it sees one.

    Args:
        device: `cpu` or `cuda`.
        refusal: What to do without a GPU, for the message.

    Raises:
        SystemExit: When there is no CUDA device, and one is wanted.
    """
    import torch

    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    elif not torch.cuda.is_available():
        raise SystemExit(f"there is no CUDA device that PyTorch can use; {refusal}")
