"""What corpora of 200,000 and 10,000,000 clips cost: requests, hours, bytes and cores, from rates that were measured.

    python -m benchmarks.cost

Reads the newest JSON of every benchmark in results/ and prints a Markdown table. What rests on a result that is not
there is left open, and the missing benchmark is named below the table.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.common import RESULTS, machine_words
from vidaudio.config.corpus import load_corpus_recipe
from vidaudio.pipeline.dry_run import REQUESTS_PER_SOURCE

CLIPS = (200_000, 10_000_000)
SHARD_CLIPS = 256
# What one address asks of a site in an hour, as pipelines/ of YouTube's lists have it.
REQUESTS_PER_HOUR = load_corpus_recipe("vggsound").download.rate.requests_per_hour
# Every shard is a tar and a table in two stages and a table in a third, each created once.
WRITES_PER_SHARD = 5
FRAMES_PER_CLIP = 10
VECTOR_BYTES = 512 * 2


@dataclass(frozen=True, slots=True)
class Rate:
    """A measured number: what it is, from which benchmark, and None where that was not run."""

    what: str
    benchmark: str
    value: float | None


def newest_results() -> dict[str, dict[str, Any]]:
    """The newest result of each benchmark, by name; those that were only tried do not count."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(RESULTS.glob("*.json")):
        result = json.loads(path.read_text())
        if result.get("settings", {}).get("quick"):
            continue
        name = result["benchmark"]
        if name not in found or found[name].get("date", "") <= result.get("date", ""):
            found[name] = result
    return found


def _contestant(results: Mapping[str, Any], benchmark: str, *names: str) -> float | None:
    """Items a second of the first of these contestants that a benchmark has."""
    rows = results.get(benchmark, {}).get("results", {})
    rows = rows.get("contestants", []) if isinstance(rows, dict) else []
    rates = {row["name"]: row["per_second"] for row in rows}
    return next((rates[name] for name in names if name in rates), None)


def _setting(results: Mapping[str, Any], benchmark: str, name: str) -> float | None:
    part = results.get(benchmark, {})
    told = part.get("results", {})
    return (told.get(name) if isinstance(told, dict) else None) or part.get("settings", {}).get(name)


def measured_rates(results: Mapping[str, Any]) -> dict[str, Rate]:
    """What the table is computed from."""
    return {
        "extract": Rate("clips a second and core", "extraction", _contestant(results, "extraction", "stage")),
        "embed": Rate("pictures a second", "embedding", _contestant(results, "embedding", "stage")),
        "embed_cores": Rate("cores of it", "embedding", _setting(results, "embedding", "threads")),
        "media_bytes": Rate("bytes of media a clip", "build", _setting(results, "build", "media_bytes_per_clip")),
        "av_bytes": Rate("bytes of av a clip", "build", _setting(results, "build", "av_bytes_per_clip")),
    }


def costs(clips: int, rates: Mapping[str, Rate]) -> Iterator[tuple[str, str]]:
    """What a corpus of so many clips costs, one of a source each: label and amount."""

    def of(*names: str) -> list[float] | None:
        values = [rates[name].value for name in names]
        return None if any(value is None for value in values) else values

    requests = REQUESTS_PER_SOURCE * clips
    shards = -(-clips // SHARD_CLIPS)
    yield "shards", f"{shards:,}"
    yield "requests to sites", f"{requests:,}"
    yield f"hours at {REQUESTS_PER_HOUR:,g} requests an hour, one address", f"{requests / REQUESTS_PER_HOUR:,.0f}"
    yield "writes to the store", f"{WRITES_PER_SHARD * shards:,}"
    media, av = of("media_bytes"), of("av_bytes")
    yield "raw media, GB", f"{clips * media[0] / 1e9:,.0f}" if media else "?"
    yield "pictures and sound, GB", f"{clips * av[0] / 1e9:,.0f}" if av else "?"
    yield "vectors (512, float16), GB", f"{clips * FRAMES_PER_CLIP * VECTOR_BYTES / 1e9:,.1f}"
    extract, embed = of("extract"), of("embed", "embed_cores")
    extract_hours = clips / extract[0] / 3600 if extract else None
    embed_hours = clips * FRAMES_PER_CLIP / embed[0] * embed[1] / 3600 if embed else None
    yield "core hours of extract", f"{extract_hours:,.0f}" if extract_hours is not None else "?"
    yield "core hours of embed, without a GPU", f"{embed_hours:,.0f}" if embed_hours is not None else "?"
    if extract_hours is not None and embed_hours is not None:
        cores = (extract_hours + embed_hours) / (requests / REQUESTS_PER_HOUR)
        yield "cores that keep up with one address", f"{cores:,.2f}"
        yield "hours on 64 cores, media at hand", f"{(extract_hours + embed_hours) / 64:,.1f}"
    else:
        yield "cores that keep up with one address", "?"
        yield "hours on 64 cores, media at hand", "?"


def table(results: Mapping[str, Any]) -> str:
    """The Markdown table, and below it where its numbers are from."""
    rates = measured_rates(results)
    columns = [dict(costs(clips, rates)) for clips in CLIPS]
    lines = [
        f"| | {' | '.join(f'{clips:,} clips' for clips in CLIPS)} |",
        f"| --- | {' | '.join('---:' for _ in CLIPS)} |",
    ]
    lines += [f"| {label} | {' | '.join(column[label] for column in columns)} |" for label in columns[0]]
    lines.append("")
    for rate in rates.values():
        if rate.value is not None:
            source = results[rate.benchmark]
            lines.append(f"* {rate.what}: {rate.value:,.2f} ({rate.benchmark}, {source['commit']}, {_where(source)})")
    missing = sorted({rate.benchmark for rate in rates.values() if rate.value is None})
    lines += [f"* missing: `python -m benchmarks.{name}` was not run or does not tell" for name in missing]
    lines.append(f"* counted: {REQUESTS_PER_SOURCE} requests a source at least, one clip a source, 10-s clips")
    return "\n".join(lines)


def _where(result: Mapping[str, Any]) -> str:
    machine = result["machine"]
    return machine if isinstance(machine, str) else machine_words(machine)


if __name__ == "__main__":
    print(table(newest_results()))
