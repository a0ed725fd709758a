"""Loss band of a generator: healthy runs stay inside, and sabotaged runs are warned of within 5 % of their budget.

    python -m benchmarks.loss_bands [--set KEY=VALUE] [--data PACK] [--runs NAMES] [--folder FOLDER]

Trains `demo_generation` on the demo world for 5 % of its steps: three healthy seeds, then six runs with a mistake that
users make, each of which stops at its warning, and one with a mistake that the band does not see. Every finished run is
kept in FOLDER, and the same command goes on with the others. The band is that of the recipe; `--set band=...` tries
another one. With `--set model.unet.channels=16 --set data.window_seconds=1.024` a step takes a tenth of the time.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from benchmarks.common import write_result
from benchmarks.trainings import DEFAULT_FOLDER
from benchmarks.world import WORLD_SEED
from vidaudio.demo.corpus import build_world
from vidaudio.generation import Denoiser
from vidaudio.generation.mel import LOG_LEAST
from vidaudio.tasks.generation.module import GenerationModule
from vidaudio.tasks.generation.recipe import GenerationRecipe
from vidaudio.tasks.generation.task import GenerationTask
from vidaudio.tasks.registry import load_train_recipe
from vidaudio.training import train as training
from vidaudio.training.blocks import BandBlock
from vidaudio.training.loop import TrainingLoop
from vidaudio.training.loss_band import BandExit, geometric_mean

RECIPE = "demo_generation"
BUDGET_SHARE = 0.05
VIDEOS_PER_KIND: Mapping[str, int] = {"train": 150, "val": 8, "test": 50}
SEEDS = (0, 1, 2)


def _raw_log(mels: Tensor, log_most: float) -> Tensor:
    """Return log mels before the map to [-1, 1]."""
    return LOG_LEAST + (mels + 1) / 2 * (log_most - LOG_LEAST)


@dataclass(frozen=True)
class Run:
    """A healthy run, or one with a mistake.

    Attributes:
        seed: Seed of the recipe.
        mistake: The mistake in words; empty for a healthy run.
        rate_factor: Factor of the recipe's learning rate.
        settings: Further settings of the recipe.
        alter_audio: What the corpus's sounds become, int16 `[B, samples]`.
        raw_mels: Whether the mels are not mapped to [-1, 1].
    """

    seed: int = 0
    mistake: str = ""
    rate_factor: float = 1.0
    settings: tuple[str, ...] = ()
    alter_audio: Callable[[Tensor], Tensor] | None = None
    raw_mels: bool = False


def _full_scale_noise(audio: Tensor) -> Tensor:
    return torch.where(torch.rand(audio.shape, device=audio.device) < 0.5, -32767, 32767).to(audio.dtype)


RUNS: Mapping[str, Run] = {
    **{f"healthy_{seed}": Run(seed) for seed in SEEDS},
    "high_rate": Run(mistake="learning rate x 100", rate_factor=100),
    "low_rate": Run(mistake="learning rate / 1,000", rate_factor=1e-3),
    "silent": Run(mistake="all sounds are silent", alter_audio=torch.zeros_like),
    "clipped": Run(mistake="sounds are noise at full scale", alter_audio=_full_scale_noise),
    "raw_mels": Run(mistake="mels are not mapped to [-1, 1]", raw_mels=True),
    "sgd": Run(mistake="SGD at Adam's learning rate", settings=("optimiser.kind=sgd",)),
    # The error of a mel that is lower everywhere is nearly as large.
    "quiet": Run(mistake="sounds scaled by 1/1,000", alter_audio=lambda audio: (audio / 1000).round().to(audio.dtype)),
}


class AlteredModule(GenerationModule):
    """Module that trains on what a mistake makes of the sounds."""

    run: Run

    def mels(self, batch: Mapping[str, Any]) -> Tensor:
        """Return the mels of the altered sounds."""
        if self.run.alter_audio is not None:
            batch = {**batch, "audio": self.run.alter_audio(batch["audio"])}
        mels = super().mels(batch)
        return _raw_log(mels, self.front_end.config.log_most) if self.run.raw_mels else mels


class Warned(Exception):
    """The run was warned of, and stops here."""


class StoppingLoop(TrainingLoop):
    """Loop that ends when the loss leaves its band."""

    def finish_step(self, loss: Tensor) -> None:
        """Finish the step, and end if it was warned of, also where an error ends the run after its warning."""
        try:
            super().finish_step(loss)
        finally:
            if self.band is not None and self.band.exits:
                raise Warned(self.band.exits[0])


def task_of(run: Run) -> type[GenerationTask]:
    """Return the family of generators with a run's mistake."""

    class Task(GenerationTask):
        def make_module(self) -> GenerationModule:
            model = Denoiser(self.recipe.denoiser(self.queries.dimensions))
            streams = self.train_stream, self.validation_stream
            module = AlteredModule(model, self.recipe, *streams, self.queries, self._text)
            module.run = run
            return module

    return Task


def recipe_of(run: Run, settings: list[str]) -> GenerationRecipe:
    """Return the recipe with 5 % of its steps, unvalidated, and a run's seed and rate."""
    whole = load_train_recipe(RECIPE, settings)
    steps, rate = round(whole.schedule.steps * BUDGET_SHARE), whole.optimiser.learning_rate * run.rate_factor
    own = (f"seed={run.seed}", f"optimiser.learning_rate={rate}", f"schedule.steps={steps}")
    return load_train_recipe(RECIPE, [*settings, *own, *run.settings, "validation.split=none", "log.to=none"])


def train_run(run: Run, recipe: GenerationRecipe, data: Path, folder: Path) -> dict[str, Any]:
    """Train up to the first warning or to the end; return when it was warned of, and the loss until then."""
    left: BandExit | None = None
    with mock.patch.object(training, "TrainingLoop", StoppingLoop):
        try:
            training.run_training(task_of(run), recipe, str(data), folder)
        except Warned as warned:
            left = warned.args[0]
    assert recipe.band is not None, "the command refuses recipes without a band"
    means = logged_means(folder, recipe.band)
    return {
        "mistake": run.mistake,
        "seed": run.seed,
        "steps": max(means),
        "warned": None if left is None else left.as_dict(),
        "means": {str(step): round(value, 5) for step, value in means.items()},
    }


def logged_means(folder: Path, band: BandBlock) -> dict[int, float]:
    """Return what a band is compared with at every logged step of a run, also where it has no points."""
    with (folder / "logs" / "metrics.csv").open(newline="") as file:
        values = {int(row["step"]): float(row[band.number]) for row in csv.DictReader(file)}
    logged = list(values.values())
    ends = enumerate(values, start=1)
    return {step: geometric_mean(logged[max(0, end - band.values) : end]) for end, step in ends}


def finished(name: str, chosen: argparse.Namespace, data: Path) -> dict[str, Any]:
    """Return what a run came to; a run that FOLDER holds with the same settings is not trained again."""
    run, kept = RUNS[name], chosen.folder / f"{name}.json"
    recipe = recipe_of(run, chosen.set)
    described = recipe.model_dump(mode="json")
    if kept.is_file() and (before := json.loads(kept.read_text()))["recipe"] == described:
        return before["row"]
    folder = chosen.folder / name
    if folder.exists():
        shutil.rmtree(folder)
    row = {"name": name, **train_run(run, recipe, data, folder)}
    kept.write_text(json.dumps({"recipe": described, "row": row}))
    return row


def print_row(row: Mapping[str, Any]) -> None:
    """Print one line about a run."""
    left = row["warned"]
    found = f"no warning in {row['steps']} steps"
    if left is not None:
        found = f"warned at step {left['step']}: {left['side']}"
    print(f"  {row['name']:<12} {row['mistake'] or 'none':<34} {found}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", action="append", default=[], help="a setting of the recipe; repeatable")
    parser.add_argument("--data", type=Path, help="a packed corpus; the demo world's by default")
    parser.add_argument("--runs", default=",".join(RUNS), help=f"some of {','.join(RUNS)}")
    parser.add_argument("--folder", type=Path, default=DEFAULT_FOLDER / "loss_bands", help="for corpus and runs")
    chosen = parser.parse_args()
    names = chosen.runs.split(",")
    if unknown := [name for name in names if name not in RUNS]:
        parser.error(f"there is no run {', '.join(unknown)}; there are {', '.join(RUNS)}")
    recipe = load_train_recipe(RECIPE, chosen.set)
    if recipe.band is None:
        parser.error(f"{RECIPE} has no band; set one with --set band=...")
    chosen.folder.mkdir(parents=True, exist_ok=True)
    data = chosen.data or build_world(chosen.folder, seed=WORLD_SEED, videos_per_kind=VIDEOS_PER_KIND)
    rows = []
    for name in names:
        rows.append(finished(name, chosen, data))
        print_row(rows[-1])
    settings = {
        "recipe": RECIPE,
        "settings": chosen.set,
        "budget_steps": recipe.schedule.steps,
        "share_of_budget": BUDGET_SHARE,
        "band": recipe.band.model_dump(mode="json"),
        "world_seed": WORLD_SEED,
        "videos_per_kind": dict(VIDEOS_PER_KIND),
        "quick": set(names) != set(RUNS),
    }
    healthy = [row for row in rows if not row["mistake"]]
    results = {
        "healthy_warned": sum(row["warned"] is not None for row in healthy),
        "sabotaged_warned": sum(row["warned"] is not None for row in rows if row["mistake"]),
        "runs": rows,
    }
    write_result("loss_bands", settings, results)


if __name__ == "__main__":
    main()
