"""The eight systems in a noisy demo world, where half of the training videos also sound from off screen.

    python -m benchmarks.noisy --minutes 30

Seed by seed, so that a table that is not full yet is a fair one. Every run is tested on clean mixtures, and on mixtures
with a third sound from off screen as loud as the target; asked in words, in words through the nearest pictures of the
corpus, and by pictures. Noise heads are dropped at test.
"""

from __future__ import annotations

import csv
import statistics
from pathlib import Path
from typing import Any

from benchmarks.systems import run_table
from benchmarks.trainings import TrainingJob, summaries
from benchmarks.world import THROUGH, scores_by_way
from vidaudio.report.modality_gap import gap as measured_gap
from vidaudio.tasks.queries.gap import GAP_FOLDER
from vidaudio.tasks.separation.evaluate import TestMaterial

# Level of the third sound of a test mixture relative to the target's, dB, by the name of the test.
TESTS: dict[str, float | None] = {"clean": None, "off-screen sound, 0 dB": 0.0}
ACTIVATION = "train/noise_activation"
LAST_STEPS = 10


def score_noisy(job: TrainingJob, *, mixtures: int | None, processes: int) -> dict[str, Any]:
    """Evaluate a run on clean and on noisy mixtures, and a system trained with pictures also through retrieval."""
    gap = None
    query = job.recipe.query
    if (query.kind, query.encoder, query.train) == ("corpus", "clip", "image"):
        gap = measured_gap(job.data, fit=[THROUGH], output=job.run / GAP_FOLDER, seed=job.recipe.seed).files[THROUGH]
    tests, result = {}, {}
    for name, level in TESTS.items():
        material = TestMaterial(str(job.data), different_labels=True, mixtures=mixtures, offscreen_db=level)
        report, found = scores_by_way(job.run, material, gap, processes)
        result = result or summaries(report)
        tests[name] = found
    return result | {"tests": tests, "noise_activation": _last_activation(job.run)}


def _last_activation(run: Path) -> float | None:
    """Return the mean sum of the noise masks over the last logged steps; None for a system without noise heads."""
    with (run / "logs" / "metrics.csv").open(newline="") as file:
        values = [float(row[ACTIVATION]) for row in csv.DictReader(file) if row.get(ACTIVATION)]
    return statistics.mean(values[-LAST_STEPS:]) if values else None


if __name__ == "__main__":
    run_table("noisy", __doc__, score_noisy)
