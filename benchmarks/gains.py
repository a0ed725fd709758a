"""All trainings in one small table, for the README: what each system gains over the mixture, and where."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.training_tables import NAMES

# Table of the trainings, how the system is asked, and the column's head.
COLUMNS: Sequence[tuple[str, str, str]] = (
    ("systems", "text", "demo world, in words"),
    ("systems", "image", "by pictures"),
    ("noisy", "text", "noisy world, in words"),
    ("esc10", "text", "ESC-10"),
    ("esc10_words", "text", "its five classes with a CLIP vector"),
)
# What stands for a system that cannot be asked: the better of its two answers, which only an oracle knows.
ORACLE = "mask_or_complement"


def gains_markdown(results: Sequence[Mapping[str, Any]]) -> str:
    """Mean gain in SDR over the mixture, dB, a row a system; of several seeds the mean of their means. Empty without
    any result."""
    columns = [column for column in COLUMNS if any(_gains(results, *column[:2], system) for system in NAMES)]
    if not columns:
        return ""
    lines = ["| SDR over the mixture, dB | " + " | ".join(head for *_, head in columns) + " |"]
    lines.append("| --- |" + " ---: |" * len(columns))
    starred = False
    for system, name in NAMES.items():
        cells = []
        for table, method, _ in columns:
            asked, told = _gains(results, table, method, system), ""
            if not asked and method == "text":
                asked, told = _gains(results, table, ORACLE, system), " *"
            starred = starred or bool(asked and told)
            cells.append(f"{statistics.mean(asked):+.2f}{told}" if asked else "")
        if any(cells):
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    if starred:
        lines.append("\n\\* The better of its mask and what that leaves, since it cannot be asked.")
    return "\n".join(lines)


def _gains(results: Sequence[Mapping[str, Any]], table: str, method: str, system: str) -> list[float]:
    """One mean a seed, of the longest budget that there is."""
    runs = [
        (result["settings"]["steps"], result["results"]["summaries"][method]["sdr_improvement"]["mean"])
        for result in results
        if (result["settings"]["table"], result["settings"]["system"]) == (table, system)
        and method in result["results"]["summaries"]
    ]
    longest = max((steps for steps, _ in runs), default=0)
    return [gain for steps, gain in runs if steps == longest]
