"""Corpora of the demo world for the tables, and the proof that the encoders in them were trained."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.trainings import Budget, TrainingJob, recipe_of, run_folder, summaries
from vidaudio.demo import train_bert, train_clip, train_resnet
from vidaudio.demo.corpus import build_world
from vidaudio.demo.training_facts import require_trained
from vidaudio.encoders.clap import load_clap
from vidaudio.stream.index import open_index
from vidaudio.tasks.separation.evaluate import EvaluateRequest, EvaluationReport, TestMaterial, evaluate
from vidaudio.tasks.separation.recipe import SeparationRecipe

WORLD_SEED = 0
# The method against the modality gap that words are asked through, where it is not the methods that are compared.
THROUGH = "retrieval"

Summaries = dict[str, Any]


class Worlds:
    """Corpora of one world, each built when a system first wants it."""

    def __init__(self, folder: Path, *, offscreen_share: float = 0.0) -> None:
        self.folder = folder
        self.offscreen_share = offscreen_share

    def data(self, recipe: SeparationRecipe) -> Path:
        """The packed corpus a recipe is trained on: with the ResNet's vectors where it asks with those."""
        encoder = "resnet" if recipe.query.encoder != "clip" else "clip"
        return build_world(self.folder, encoder=encoder, seed=WORLD_SEED, offscreen_share=self.offscreen_share)

    def told(self) -> dict[str, Any]:
        """The world, for a result's settings."""
        return {"world_seed": WORLD_SEED, "offscreen_share": self.offscreen_share}


def encoder_facts(recipe: SeparationRecipe, data: Path) -> dict[str, Any] | None:
    """What a system's frozen encoder was trained on; None where it has none.

    Raises:
        EncoderError: It was not trained, or nothing says so.
    """
    if recipe.query.kind in ("label", "none"):
        return None
    if recipe.query.kind == "bert":
        return asdict(require_trained(train_bert.FOLDER, train_bert.open_bert().weights_sha256))
    if recipe.query.kind == "clap":
        clap = recipe.query.clap.model
        return asdict(require_trained(clap, load_clap(clap).weights_sha256))
    encoder = open_index(str(data)).encoder
    folder = train_clip.FOLDER if recipe.query.encoder == "clip" else train_resnet.FOLDER
    return asdict(require_trained(folder, encoder["weights_sha256"]))


def world_jobs(
    table: str,
    budget: Budget,
    chosen: argparse.Namespace,
    data: Callable[[SeparationRecipe, str], Path],
    told: Mapping[str, Any],
) -> list[TrainingJob]:
    """Return the runs of a table that its command line asks for, seed by seed.

    Args:
        table: Name of the table.
        budget: Its systems and seeds.
        chosen: The command line, see `arguments`.
        data: Gives the folder to train on, from a run's recipe and variant.
        told: What results say about the data.
    """
    jobs = []
    for seed in chosen.seeds or budget.seeds:
        for system in chosen.systems:
            recipe, variant = recipe_of(budget, system, seed, chosen.steps), system.partition("+")[2]
            folder = data(recipe, variant)
            jobs.append(
                TrainingJob(
                    table=table,
                    recipe=recipe,
                    data=folder,
                    run=run_folder(chosen.folder, table, recipe, variant),
                    budget_steps=recipe_of(budget, system, seed).schedule.steps,
                    facts=encoder_facts(recipe, folder),
                    told=told,
                    variant=variant,
                )
            )
    return jobs


def scores_by_way(
    run: Path, material: TestMaterial, gap: str | None, processes: int
) -> tuple[EvaluationReport, Summaries]:
    """Evaluate a run asked in every way it knows, and in words through a method against the modality gap.

    Args:
        run: The run's folder.
        material: The test mixtures.
        gap: File of the fitted method; None for none.
        processes: For the scores.

    Returns:
        The report of the former, and the summaries of all ways, the method's under `THROUGH`.
    """
    # The batched scorer equals museval and is several times as fast.
    report = evaluate(EvaluateRequest(run, material, scorer="batched", processes=processes))
    print(report)
    found = summaries(report)["summaries"]
    if gap is None:
        return report, found
    through = evaluate(EvaluateRequest(run, material, ("text",), scorer="batched", gap=gap))
    return report, found | {THROUGH: summaries(through)["summaries"]["text"]}


def score_on_world(job: TrainingJob, *, mixtures: int | None, processes: int) -> dict[str, Any]:
    """Held-out videos of the world, each mixed with one of another kind, asked by all that the system knows."""
    report = evaluate(
        EvaluateRequest(
            job.run, TestMaterial(str(job.data), different_labels=True, mixtures=mixtures), processes=processes
        )
    )
    print(report)
    return summaries(report)
