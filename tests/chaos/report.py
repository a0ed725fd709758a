"""The report of a chaos run: a table kill point x victim x times hit, and one of where the random kills fell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from tests.chaos.points import POINTS, VICTIMS


def report(campaigns: Sequence[dict[str, Any]], *, only: str, small_disk: bool, seconds: float) -> int:
    """Print the tables and keep them with the other measurements; 0 where no cell is empty and nothing was wrong.

    Args:
        campaigns: As the record has them.
        only: Look at the points whose name holds this text.
        small_disk: Whether the disk that was filled was a file system of its own.
        seconds: Of this run.
    """
    points = [point.name for point in POINTS if only in point.name]
    placed = _count(campaigns, random=False)
    by_chance = _count(campaigns, random=True)
    faults = [fault for campaign in campaigns for fault in campaign["faults"]]
    empty = [f"{point} x {victim}: not hit" for point in points for victim in VICTIMS if not placed[point, victim]]
    stages = sorted({stage for stage, _ in by_chance})
    print(table("kill point", points, placed))
    if by_chance:
        print(table("at random, during", stages, by_chance))
    strikes = sum(placed.values()) + sum(by_chance.values())
    opened = sum(campaign["opened"] for campaign in campaigns)
    disk = "a tmpfs" if small_disk else "make-believe: this user may not mount a small file system"
    print(f"{strikes} strikes, {sum(by_chance.values())} of them at random, in {len(campaigns)} corpora.")
    print(f"The full disk is {disk}.")
    print(f"{opened} files were read while that went on, {_partial(faults)} of them partial.")
    print(f"{len(empty)} empty cells, {len(faults)} faults.")
    for text in (*empty, *faults):
        print(f"  {text}")
    if not only:
        _keep(placed, by_chance, campaigns, faults, small_disk, seconds)
    return 1 if faults or empty else 0


def table(title: str, rows: Sequence[str], counted: Counter[tuple[str, str]]) -> str:
    """Markdown: a row a point, a column a victim."""
    width = max([len(title), *map(len, rows)])
    lines = [f"| {title:<{width}} |" + "".join(f" {victim:>9} |" for victim in VICTIMS)]
    lines.append(f"|{'-' * (width + 2)}|" + "----------:|" * len(VICTIMS))
    for row in rows:
        lines.append(f"| {row:<{width}} |" + "".join(f" {counted[row, v] or '–':>9} |" for v in VICTIMS))
    return "\n" + "\n".join(lines) + "\n"


def _count(campaigns: Sequence[dict[str, Any]], *, random: bool) -> Counter[tuple[str, str]]:
    return Counter(tuple(hit) for campaign in campaigns if campaign["random"] is random for hit in campaign["hits"])


def _partial(faults: Sequence[str]) -> int:
    return sum(fault.startswith("partial") for fault in faults)


def _keep(placed, by_chance, campaigns, faults, small_disk: bool, seconds: float) -> None:
    from benchmarks.common import write_result

    def nested(counted: Counter[tuple[str, str]]) -> dict[str, dict[str, int]]:
        rows: dict[str, dict[str, int]] = {}
        for (row, victim), times in sorted(counted.items()):
            rows.setdefault(row, {})[victim] = times
        return rows

    results = {
        "placed": nested(placed),
        "random": nested(by_chance),
        "corpora": len(campaigns),
        "builds": sum(campaign["starts"] for campaign in campaigns),
        "files_read": sum(campaign["opened"] for campaign in campaigns),
        "partial": _partial(faults),
        "requests": sum(campaign["requests"] for campaign in campaigns),
        "least_requests": sum(campaign["least_requests"] for campaign in campaigns),
        "faults": faults,
        "seconds": round(seconds),
    }
    write_result("chaos", {"full_disk": "tmpfs" if small_disk else "injected"}, results)
