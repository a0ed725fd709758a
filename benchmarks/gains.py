"""All trainings in one small table, for the README: what each system gains over the mixture, and where."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.training_tables import DEFAULT_VARIANTS, NAMES, is_of_table, si_sdr_gains

# Table of the trainings, how the system is asked, and the column's head.
COLUMNS: Sequence[tuple[str, str, str]] = (
    ("systems", "text", "demo world, words as they are"),
    ("systems", "retrieval", "words, through the nearest pictures"),
    ("systems", "image", "pictures"),
    ("noisy", "text", "noisy world, in words"),
    ("esc10", "text", "ESC-10"),
    ("esc10_words", "text", "its five classes with a CLIP vector"),
)
# What stands for a system that cannot be asked: the better of its two answers, which only an oracle knows.
ORACLE = "mask_or_complement"


def gains_markdown(results: Sequence[Mapping[str, Any]]) -> str:
    """Mean gains over the mixture in SI-SDR and SDR, dB, a row a system; of several seeds the mean of their means.

    Empty without any result.
    """
    columns = [column for column in COLUMNS if any(_gains(results, *column[:2], system) for system in NAMES)]
    if not columns:
        return ""
    lines = ["| SI-SDR / SDR over the mixture, dB | " + " | ".join(head for *_, head in columns) + " |"]
    lines.append("| --- |" + " ---: |" * len(columns))
    starred = False
    for system, name in NAMES.items():
        cells = []
        for table, method, _ in columns:
            asked, told = _gains(results, table, method, system), ""
            if not asked and method == "text":
                asked, told = _gains(results, table, ORACLE, system), " *"
            starred = starred or bool(asked and told)
            cells.append(f"{_told(asked)}{told}" if asked else "")
        if any(cells):
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    if starred:
        lines.append("\n\\* The better of its mask and what that leaves, since it cannot be asked.")
    return "\n".join(lines)


def _gains(
    results: Sequence[Mapping[str, Any]], table: str, method: str, system: str
) -> list[tuple[float | None, float]]:
    """SI-SDR gain (None where it was not stored) and SDR gain, means, one pair a seed, of the longest budget."""
    runs = []
    for result in results:
        settings = result["settings"]
        summaries = result["results"]["summaries"] | result["results"].get("through", {})
        fits = (
            is_of_table(settings, table)
            and settings.get("variant", "") == DEFAULT_VARIANTS.get((table, system), "")
            and settings["system"] == system
        )
        if fits and method in summaries:
            scale_invariant = next(iter(si_sdr_gains([summaries], method)), None)
            runs.append((settings["steps"], (scale_invariant, summaries[method]["sdr_improvement"]["mean"])))
    longest = max((steps for steps, _ in runs), default=0)
    return [gains for steps, gains in runs if steps == longest]


def _told(gains: Sequence[tuple[float | None, float]]) -> str:
    sdr = f"{statistics.mean(sdr for _, sdr in gains):+.2f}"
    scale_invariant = [value for value, _ in gains if value is not None]
    return f"{statistics.mean(scale_invariant):+.2f} / {sdr}" if len(scale_invariant) == len(gains) else sdr
