"""Generators in the demo world whose pictures and words lie apart: CLIPSonic, its ways to ask, and CLIP-TTA.

    python -m benchmarks.generation --minutes 60

Trains each system of `recipes/generation.yaml` on 1,200 videos, and lets it make the sounds of 128 others. A classifier
that was trained on the world's real sounds judges: what is heard, and how far generated sounds are from 128 further
real ones. CLIPSonic-PD asks through a prior that was fitted to another world's pairs, CLIPSonic-SD through one that was
fitted to the corpus's own. `python -m benchmarks.tables generation` prints what is finished.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.demo_clap import train_clap
from benchmarks.sound_classifier import train_classifier
from benchmarks.trainings import TrainingJob, arguments, load_budget, run_jobs
from benchmarks.world import WORLD_SEED, world_jobs
from vidaudio.demo.corpus import build_world
from vidaudio.demo.training_facts import FACTS_FILE
from vidaudio.files import atomic_write
from vidaudio.report.modality_gap import gap
from vidaudio.tasks.generation.evaluate import GenerationRequest, evaluate_generators, write_generation_report
from vidaudio.tasks.queries.gap import GAP_FOLDER

TABLE = "generation"
VIDEOS_PER_KIND: Mapping[str, int] = {"train": 150, "val": 8, "test": 50}
# World whose pairs CLIPSonic-PD's prior knows.
OTHER_SEED, OTHER_PER_KIND = 1, {"train": 60, "val": 1, "test": 1}
# Methods against the gap that words go through, beside the priors.
THROUGH = ("mean_shift", "retrieval", "mlp", "bridge")
JUDGE, PRETRAINED = "judge", "pretrained_prior"
MODERN, CLAP_SYSTEM = "clipsonic_iq_modern", "clap_tta"
# Scales of guidance beside the recipe's own.
SCALES = (1.0, 2.0, 3.0, 5.0)
CLIPS = 128


class Judges:
    """The world, the classifier that judges, and the priors; each made when it is first wanted."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "generation-world"

    def data(self) -> Path:
        """Return the packed corpus."""
        return _world(self._folder, WORLD_SEED, VIDEOS_PER_KIND)

    def classifier(self) -> tuple[Path, dict[str, float]]:
        """Return the classifier's file, and how often it is right on held-out real sounds."""
        file, told = self._folder / "judge.pt", self._folder / "judge.json"
        if not told.is_file():
            found = train_classifier(self.data(), file)
            with atomic_write(told) as temporary:
                temporary.write_text(json.dumps(found))
        return file, json.loads(told.read_text())

    def clap(self) -> Path:
        """Return the folder of a CLAP that was trained on single sounds with captions, none of them the world's."""
        folder = self._folder / "clap"
        if not (folder / FACTS_FILE).is_file():
            train_clap(folder)
        return folder

    def pretrained_prior(self) -> Path:
        """Return the prior that knows another world's pairs."""
        folder = self._folder / "other-prior"
        if not (folder / "prior.safetensors").is_file():
            gap(_world(self._folder / "other", OTHER_SEED, OTHER_PER_KIND), fit=["prior"], output=folder)
        return folder / "prior.safetensors"


def _world(folder: Path, seed: int, videos: Mapping[str, int]) -> Path:
    return build_world(folder, encoder="clip", seed=seed, videos_per_kind=videos, flawed_per_flaw=0)


def methods_of(job: TrainingJob, judges: Judges) -> list[str]:
    """Return the ways in which a run is asked; methods against the gap are fitted where they are missing."""
    if job.recipe.query.train == "text":
        return ["text"]
    if job.variant:
        return ["image", "text"]
    wanted = [*THROUGH, "prior"]
    folder = job.run / GAP_FOLDER
    missing = [name for name in wanted if not (folder / f"{name}.safetensors").is_file()]
    if missing:
        gap(job.data, fit=missing, output=folder, seed=job.recipe.seed)
    return ["image", "text", *(f"text+{name}" for name in wanted), f"text+{judges.pretrained_prior()}"]


def score(job: TrainingJob, *, judges: Judges, clips: int | None) -> dict[str, Any]:
    """Evaluate a run in all its ways, and an image-queried generator at several scales of guidance."""
    file, right = judges.classifier()
    request = partial(
        GenerationRequest, checkpoints=[job.run], data=str(job.data), embeddings=[f"{JUDGE}={file}"], clips=clips
    )
    out = job.run / "evaluation"
    report = evaluate_generators(request(out=out, methods=methods_of(job, judges)))
    write_generation_report(report, out)
    print(report)
    rows, sweep = report.as_dict()["rows"], []
    if job.recipe.system == "clipsonic_iq" and not job.variant:
        swept = evaluate_generators(request(out=job.run / "sweep", methods=["image"], guidance=SCALES))
        print(swept)
        sweep = [row for row in (*rows, *swept.as_dict()["rows"]) if row["name"].startswith("image")]
    for row in (*rows, *sweep):
        row.pop("sounds", None)
        row["name"] = row["name"].replace(str(judges.pretrained_prior()), PRETRAINED)
    return {"judge": right, "clips": report.about["clips"], "rows": rows, "sweep": sweep}


def run_table(table: str, description: str, score: Callable[..., dict[str, Any]]) -> None:
    """Train and score the runs of a table that the command line asks for.

    Args:
        table: Name of the table and of its recipe.
        description: What the command line's help says.
        score: Evaluates a run, with `judges` and `clips`.
    """
    chosen, budget = arguments(description, list(load_budget(table).systems)), load_budget(table)
    judges = Judges(chosen.folder)
    if CLAP_SYSTEM in chosen.systems:
        budget.systems[CLAP_SYSTEM] = {"query": {"clap": {"model": str(judges.clap())}}}
    told = {"world_seed": WORLD_SEED, "videos_per_kind": dict(VIDEOS_PER_KIND)}
    jobs = world_jobs(table, budget, chosen, lambda recipe, variant: judges.data(), told)
    run_jobs(jobs, partial(score, judges=judges, clips=chosen.mixtures or CLIPS), until=chosen.until)


def main() -> None:
    run_table(TABLE, __doc__.split("\n")[0], score)


if __name__ == "__main__":
    main()
