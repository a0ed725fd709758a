"""Training runs that are measured: one budget, resumable, in order, one JSON each; what systems, noisy and esc10 share.

A run lies in `FOLDER/TABLE/SYSTEM-seedN-STEPSsteps` until it is done, and goes on where it was stopped, by Ctrl-C or by
`--minutes`. Its steps stand in a recipe of benchmarks/recipes; `--steps` makes a run of its own.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field

from benchmarks.common import commit, write_result
from vidaudio.config.recipes import RecipeModel, check, find_recipe, load_values, merge
from vidaudio.cpus import available_cores
from vidaudio.tasks.registry import check_train_recipe, train
from vidaudio.tasks.separation.evaluation.report import EvaluationReport
from vidaudio.training.recipe import CommonRecipe

RECIPES = Path(__file__).resolve().parent / "recipes"
DEFAULT_FOLDER = Path("runs") / "benchmarks"
PARTS_FILE = "parts.json"
DONE_FILE = "done.json"
LEAST_SECONDS = 20.0
# What a validation is judged by: of separators, and of all others.
GAIN, LOSS = "validation/si_sdr_improvement", "validation/loss"


class Budget(RecipeModel):
    """Which systems are trained how far, with which seeds."""

    sizes: str | None = None
    seeds: tuple[int, ...] = (0,)
    all: dict[str, Any] = Field(default_factory=dict)
    systems: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class TrainingJob:
    """One training run and where it stands.

    Attributes:
        table: Whose row it is.
        recipe: Of the run; its seed and its steps are the row's.
        data: A packed corpus.
        run: The run's folder.
        budget_steps: Of the benchmark's recipe; fewer make the run a mere try.
        facts: What its encoder was trained on, JSON-able; None where it has none.
        told: What else the result says about data and settings.
        variant: What of the system's recipe is otherwise, in words; empty for the recipe itself.
    """

    table: str
    recipe: Any
    data: Path
    run: Path
    budget_steps: int
    facts: Mapping[str, Any] | None = None
    told: Mapping[str, Any] = field(default_factory=dict)
    variant: str = ""

    @property
    def name(self) -> str:
        recipe = self.recipe
        system = "_".join([recipe.system, *self.variant.split()])
        return f"{self.table}_{system}_seed{recipe.seed}_{recipe.schedule.steps}steps"

    @property
    def mixtures(self) -> int:
        return self.recipe.schedule.steps * self.recipe.data.batch_size


class OutOfTime(Exception):
    """The minutes asked for are over; the run's state is kept."""


def load_budget(name: str) -> Budget:
    """A recipe of benchmarks/recipes."""
    path = RECIPES / f"{name}.yaml"
    return check(Budget, yaml.safe_load(path.read_text("utf-8")), f"benchmarks/recipes/{path.name}")


def recipe_of(budget: Budget, system: str, seed: int, steps: int | None = None, **query: Any) -> Any:
    """A system's own recipe with the budget laid over it.

    Args:
        budget: Of the table.
        system: A recipe of train/, or `RECIPE+VARIANT` where a table has it more than once.
        seed: Of the run.
        steps: Another budget than the recipe's.
        query: Further settings of the query.
    """
    values = load_values(system.partition("+")[0], "train")
    if budget.sizes is not None:
        sizes = yaml.safe_load(find_recipe(budget.sizes, "train").read_text("utf-8"))
        # The demo asks through a method against the modality gap; a table says for itself how it asks. A loss band
        # holds for the demo's own rate and schedule.
        sizes = {name: block for name, block in sizes.items() if name not in ("extends", "query", "band")}
        values = merge(values, sizes)
    values = merge(merge(values, budget.all), budget.systems[system])
    values = merge(values, {"seed": seed, "query": query})
    if steps is not None:
        schedule = {"steps": steps, "decay_until_step": steps, "warmup_steps": min(50, max(1, steps // 4))}
        values = merge(values, {"schedule": schedule})
    return check_train_recipe(values, f"benchmark of {system}")


def run_folder(folder: Path, table: str, recipe: CommonRecipe, variant: str = "") -> Path:
    """Where a run lies."""
    system = "-".join([recipe.system, *variant.split()])
    return folder / table / f"{system}-seed{recipe.seed}-{recipe.schedule.steps}steps"


def run_jobs(
    jobs: Sequence[TrainingJob],
    score: Callable[[TrainingJob], dict[str, Any]],
    *,
    until: float | None = None,
) -> bool:
    """Train and measure one after another whatever is not done; True when nothing is left.

    Args:
        jobs: In the order of their worth, since time may run out.
        score: Evaluates a trained run; JSON-able.
        until: Time of `time.monotonic` at which training stops in order.
    """
    for number, job in enumerate(jobs):
        if (job.run / DONE_FILE).is_file():
            print(f"{job.name}: done already")
            continue
        left = None if until is None else until - time.monotonic()
        if left is not None and left < LEAST_SECONDS:
            return _out_of_time(jobs[number:])
        print(f"{job.name}: {job.recipe.schedule.steps:,} steps, {job.mixtures:,} mixtures, in {job.run}")
        try:
            _train(job, left)
        except OutOfTime:
            return _out_of_time(jobs[number:])
        _measure(job, score)
    return True


def _out_of_time(left: Sequence[TrainingJob]) -> bool:
    waiting = [job.name for job in left if not (job.run / DONE_FILE).is_file()]
    print(f"out of time; the same command goes on with {', '.join(waiting)}")
    return False


def _train(job: TrainingJob, seconds: float | None) -> None:
    """Train, or go on; every part's length and commit is written down, also of one that was stopped."""
    parts = _parts(job.run)
    if parts and parts[-1]["finished"]:
        return
    began = time.monotonic()
    finished = False
    try:
        with interrupted_after(seconds):
            train(job.recipe, str(job.data), job.run, resume="auto")
        finished = True
    finally:
        if job.run.is_dir():
            part = {"seconds": round(time.monotonic() - began, 1), "commit": commit(), "finished": finished}
            (job.run / PARTS_FILE).write_text(json.dumps([*parts, part], indent=2) + "\n")


def _parts(run: Path) -> list[dict[str, Any]]:
    path = run / PARTS_FILE
    return json.loads(path.read_text()) if path.is_file() else []


def _measure(job: TrainingJob, score: Callable[[TrainingJob], dict[str, Any]]) -> None:
    parts = _parts(job.run)
    recipe = job.recipe
    settings = {
        "kind": "training",
        "table": job.table,
        "system": recipe.system,
        "variant": job.variant,
        "seed": recipe.seed,
        "steps": recipe.schedule.steps,
        "batch_size": recipe.data.batch_size,
        "mixtures": job.mixtures,
        "train_query": {"none": "none", "label": "label"}.get(recipe.query.kind, recipe.query.train),
        "encoder": job.facts,
        "quick": recipe.schedule.steps < job.budget_steps,
        "seconds": round(sum(part["seconds"] for part in parts), 1),
        "commits": list(dict.fromkeys(part["commit"] for part in parts)),
        **job.told,
    }
    path = write_result(job.name, settings, score(job) | {"validation_curve": validation_curve(job.run)})
    (job.run / DONE_FILE).write_text(json.dumps({"result": path and path.name}) + "\n")


def validation_curve(run: Path) -> dict[str, float]:
    """Return the mean SI-SDR gain (dB) or the loss of every validation of a run, by its step; empty without any."""
    with (run / "logs" / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    number = GAIN if any(row.get(GAIN) for row in rows) else LOSS
    return {row["step"]: float(f"{float(row[number]):.4g}") for row in rows if row.get(number)}


@contextmanager
def interrupted_after(seconds: float | None) -> Iterator[None]:
    """Stop what runs inside as Ctrl-C would, after some time.

    Raises:
        OutOfTime: The time was over; Ctrl-C itself stays KeyboardInterrupt.
    """
    over = threading.Event()

    def stop() -> None:
        over.set()
        os.kill(os.getpid(), signal.SIGINT)

    timer = None if seconds is None else threading.Timer(seconds, stop)
    # A shell has the processes that it starts in the background ignore this signal.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        if timer is not None:
            timer.daemon = True
            timer.start()
        yield
    except KeyboardInterrupt:
        if over.is_set():
            raise OutOfTime from None
        raise
    finally:
        if timer is not None:
            timer.cancel()
        signal.signal(signal.SIGINT, before)


def summaries(report: EvaluationReport) -> dict[str, Any]:
    """What a result keeps of an evaluation: summaries by method and by label, without the scores of every mixture."""
    whole = report.as_dict()
    kept = ("protocol", "scorer", "mixtures", "oracles", "notes", "summaries", "by_label")
    return {name: whole[name] for name in kept}


def arguments(
    description: str, names: Sequence[str], more: Callable[[argparse.ArgumentParser], None] | None = None
) -> argparse.Namespace:
    """The options all tables have in common, and those that `more` adds."""
    parser = argparse.ArgumentParser(description=description)
    if more is not None:
        more(parser)
    parser.add_argument("--systems", default=",".join(names), help=f"some of {','.join(names)}")
    parser.add_argument("--steps", type=int, help="another budget than the recipe's; fewer steps are a mere try")
    parser.add_argument("--seeds", help="with commas; the recipe's by default")
    parser.add_argument("--minutes", type=float, help="stop in order after so long; the same command goes on")
    parser.add_argument("--mixtures", type=int, help="test mixtures at most; all by default")
    parser.add_argument("--processes", type=int, default=available_cores(), help="for the scores")
    parser.add_argument("--folder", type=Path, default=DEFAULT_FOLDER, help="for corpora and unfinished runs")
    chosen = parser.parse_args()
    chosen.systems = chosen.systems.split(",")
    if unknown := sorted(set(chosen.systems) - set(names)):
        parser.error(f"there is no system {', '.join(unknown)} in this table; there are {', '.join(names)}")
    if chosen.steps is not None and chosen.steps < 1:
        parser.error("--steps must be at least 1")
    chosen.seeds = None if chosen.seeds is None else tuple(int(seed) for seed in chosen.seeds.split(","))
    chosen.until = None if chosen.minutes is None else time.monotonic() + 60 * chosen.minutes
    return chosen
