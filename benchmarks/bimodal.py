"""Weakly supervised separation in the demo world: trained on mixtures of 2, 3 and 4 sounds whose labels are known.

    python -m benchmarks.bimodal --minutes 60

BiModal, its baseline and its supervised form at equal steps, with CLIPSep's U-Net; MixIT beside them. What contrast
there is comes from a small CLAP that was trained on captions of *mixtures* of two kinds, of sounds that are in no video
of the world: nothing told it what one kind sounds like alone. `single sounds` is the same with a CLAP that was trained
on captions of single sounds, which leaks supervision. Tested on mixtures of 2, 3 and 4 held-out sounds, in which every
sound is asked for. `python -m benchmarks.tables bimodal` prints what is finished.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.demo_clap import train_clap
from benchmarks.generation import Judges
from benchmarks.trainings import TrainingJob, arguments, load_budget, run_jobs, summaries
from benchmarks.world import WORLD_SEED, world_jobs
from vidaudio.config.recipes import merge
from vidaudio.demo.training_facts import FACTS_FILE
from vidaudio.tasks.separation.evaluate import EvaluateRequest, TestMaterial, evaluate

TABLE = "bimodal"
TESTED = (2, 3, 4)
MIXTURES = 100
# The joint encoders: kinds in each example of their training.
OF_MIXTURES, OF_SINGLE_SOUNDS = 2, 1
CLAP_STEPS, CLAP_RATE = 1500, 16_000
SINGLE = "single sounds"


class Encoders:
    """The small CLAPs, each trained when a run first wants it.

    Args:
        folder: Folder of the benchmarks.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def clap(self, sources: int) -> Path:
        """Return the folder of a CLAP whose training examples have so many kinds."""
        folder = self._folder / f"clap-mix{sources}"
        if not (folder / FACTS_FILE).is_file():
            train_clap(folder, sources=sources, steps=CLAP_STEPS, sample_rate=CLAP_RATE)
        return folder


def score(job: TrainingJob, *, mixtures: int, processes: int) -> dict[str, Any]:
    """Test a run on mixtures of 2, 3 and 4 sounds, every sound asked for."""
    found = {}
    for sources in TESTED:
        material = TestMaterial(
            str(job.data), different_labels=True, mixtures=mixtures, sources=sources, every_source=True
        )
        # The batched scorer equals museval and is several times as fast.
        report = evaluate(EvaluateRequest(job.run, material, scorer="batched", processes=processes))
        print(report)
        found[str(sources)] = summaries(report)["summaries"]
    return {"mixtures": mixtures, "tested": found}


def jobs(chosen: argparse.Namespace, data: Path, encoders: Encoders) -> Sequence[TrainingJob]:
    """Return the runs that the command line asks for."""
    budget = load_budget(TABLE)
    for system in chosen.systems:
        if system == "mixit":
            continue
        trained_with, held_out = OF_MIXTURES, OF_SINGLE_SOUNDS
        if system.endswith(SINGLE):
            trained_with, held_out = held_out, trained_with
        settings: dict[str, Any] = {"query": {"clap": {"model": str(encoders.clap(trained_with))}}}
        if system.partition("+")[0] not in ("bimodal_supervised", "mixit_ranked"):
            # The other encoder, which nothing is trained with, measures the similarity too.
            settings["objective"] = {"held_out_joint": str(encoders.clap(held_out))}
        budget.systems[system] = merge(budget.systems[system], settings)
    return world_jobs(TABLE, budget, chosen, lambda recipe, variant: data, {"world_seed": WORLD_SEED})


def main() -> None:
    chosen = arguments(__doc__.split("\n")[0], list(load_budget(TABLE).systems))
    data, encoders = Judges(chosen.folder).data(), Encoders(chosen.folder)
    count = chosen.mixtures or MIXTURES
    run_jobs(
        jobs(chosen, data, encoders), partial(score, mixtures=count, processes=chosen.processes), until=chosen.until
    )


if __name__ == "__main__":
    main()
