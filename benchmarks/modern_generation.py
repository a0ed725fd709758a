"""The modern twin of CLIPSonic-IQ, ingredient by ingredient, in the world of `benchmarks.generation`.

    python -m benchmarks.modern_generation --minutes 60

Networks, noise and data are those of `benchmarks.generation`, in half as many steps. Four runs a seed, all with an
average of their weights that is made after training: CLIPSonic-IQ, with which all others are compared, velocity
prediction with a constant variance, the same with zero terminal SNR, and flow matching. What changes only the sampling
or the averaged weights is measured on the third of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.generation import JUDGE, MODERN, Judges, run_table
from benchmarks.trainings import TrainingJob
from vidaudio.tasks.generation.evaluate import GenerationRequest, evaluate_generators
from vidaudio.training.power_average import average

TABLE = "modern_generation"
# Widths of the average that are made after training, beside the tracked 0.05.
WIDTHS = (0.02, 0.1, 0.2)
# Snapshot that autoguidance moves away from: a fifth of the training, with an average as wide as it allows.
WEAKER_SHARE, WEAKER_WIDTH = 0.2, 0.1
SCALES = (1.0, 2.0, 3.0)
INTERVAL, RESCALE = (0.1, 0.9), 0.7


def requests(job: TrainingJob, file: Path, clips: int | None) -> Iterator[tuple[str, GenerationRequest]]:
    """Yield the ways in which a run is asked for sounds, each with its name; `as trained` is the first."""
    folder = job.run / "evaluation"
    plain = GenerationRequest(
        checkpoints=[job.run],
        data=str(job.data),
        embeddings=[f"{JUDGE}={file}"],
        methods=["image"],
        clips=clips,
        out=folder / "plain",
    )
    yield "as trained", plain
    if job.variant or job.recipe.system != MODERN:
        return
    for scale in SCALES:
        yield f"w = {scale:g}", replace(plain, guidance=[scale])
    yield "interval", replace(plain, guidance_interval=INTERVAL)
    yield "rescale", replace(plain, guidance_rescale=RESCALE)
    yield "interval and rescale", replace(plain, guidance_interval=INTERVAL, guidance_rescale=RESCALE)
    for width in WIDTHS:
        made = average(job.run, job.run / f"average-{width:g}.safetensors", width)
        yield f"average {width:g}", replace(plain, checkpoints=[made.path])
    step = round(job.recipe.schedule.steps * WEAKER_SHARE)
    weaker = average(job.run, job.run / "weaker.safetensors", WEAKER_WIDTH, step=step)
    for scale in (1.5, *SCALES[1:]):
        yield f"autoguidance w = {scale:g}", replace(plain, weaker=weaker.path, guidance=[scale])


def score(job: TrainingJob, *, judges: Judges, clips: int | None) -> dict[str, Any]:
    """Evaluate a run in all its ways."""
    file, right = judges.classifier()
    rows: list[dict[str, Any]] = []
    for name, wanted in requests(job, file, clips):
        # Real sounds and their embeddings stay where they are; a set of sounds is made anew where it differs.
        report = evaluate_generators(wanted)
        print(f"{name}:\n{report}")
        found = report.as_dict()["rows"]
        if not rows:
            rows += [row for row in found if row["kind"] != "generated"]
        rows += [row | {"name": name} for row in found if row["kind"] == "generated"]
    for row in rows:
        row.pop("sounds", None)
    return {"judge": right, "clips": report.about["clips"], "rows": rows}


def main() -> None:
    run_table(TABLE, __doc__.split("\n")[0], score)


if __name__ == "__main__":
    main()
