"""The eight systems on the demo world: one budget, asked in words and by pictures.

    python -m benchmarks.systems --minutes 30

Trains what is not trained yet, in the recipe's order, and stops in order when the time is over; the same command goes
on. Every finished run adds a JSON to results/; `python -m benchmarks.tables` prints them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks.trainings import arguments, load_budget, run_jobs
from benchmarks.world import Worlds, score_on_world, world_jobs
from vidaudio.demo.render import OFFSCREEN_SHARE

# World of each table, and the share of its training videos that also sound from off screen.
TABLES = {
    "systems": ("world-systems", 0.0),
    "gap": ("world-systems", 0.0),
    "noisy": ("world-noisy", OFFSCREEN_SHARE),
}


def run_table(table: str, description: str, score: Callable[..., dict[str, Any]] = score_on_world) -> None:
    """All runs of a table on the demo world that its command line asks for, seed by seed.

    Args:
        table: One of `TABLES`.
        description: Of the command line; its first line is shown.
        score: Evaluates a trained job; called with it, `mixtures` and `processes`.
    """
    budget = load_budget(table)
    chosen = arguments(description.split("\n")[0], list(budget.systems))
    world, offscreen_share = TABLES[table]
    worlds = Worlds(chosen.folder / world, offscreen_share=offscreen_share)
    jobs = world_jobs(table, budget, chosen, lambda recipe, variant: worlds.data(recipe), worlds.told())
    measured = partial(score, mixtures=chosen.mixtures, processes=chosen.processes)
    run_jobs(jobs, measured, until=chosen.until)


if __name__ == "__main__":
    run_table("systems", __doc__)
