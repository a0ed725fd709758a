"""Two ranks learn from mixtures of parts what one learns, the contrast with other mixtures' texts included.

All runs are made by `tests.training.rank_program`, real processes over gloo. The optimiser is plain gradient descent,
so that weights differ no more than gradients do. BatchNorm uses its initial statistics, or those of all ranks together.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from tests.packed import make_packed
from tests.tasks.separation.test_bimodal import CONDITIONAL, LABELS, PLAIN, TINY
from tests.training.ranks import run_rank_jobs
from vidaudio.stream.index import NO_VECTORS
from vidaudio.tasks.registry import load_train_recipe
from vidaudio.tasks.separation.task import SeparationTask

STEPS = 3
# Five mixtures a step: three on one rank and two on the other. The contrast's share of the gradient is as large as the
# others', so that its negatives decide what is learned.
SETTINGS = (
    *TINY,
    "data.batch_size=5",
    # Rounding grows less from step to step where masks begin alike.
    "model.initial_weights=clipsep",
    f"schedule={{steps: {STEPS}, warmup_steps: 1, decay_until_step: 100}}",
    "optimiser={kind: sgd, learning_rate: 0.002, momentum: 0, weight_decay: 0}",
    "objective.contrast=10000",
    "log={to: none, every_steps: 1}",
)
GATHERED = ("objective.gather_negatives=true",)
ALL_OPTIONS = (*GATHERED, "objective.both_directions=true", "objective.mask_same_labels=true")
# Gradients of single sounds are larger; with equal steps their rounding would grow more.
SINGLES = ("data.single_share=0.4", "optimiser.learning_rate=0.0005")
# Two mixtures a step, one a rank. Of step 0 both have all labels, of step 1 one has, of step 2 none has.
UNLABELLED = (0, 7, 18)
SKIPPED = ("data.batch_size=2", "query.unlabelled=skip")
SAME = {
    "sound to text": ("bimodal_weak", (*CONDITIONAL, *GATHERED)),
    "all options": ("bimodal_weak", (*CONDITIONAL, *ALL_OPTIONS)),
    "other U-Net": ("bimodal_weak", (*PLAIN, *ALL_OPTIONS)),
    "singles": ("bimodal_semi", (*CONDITIONAL, *ALL_OPTIONS, *SINGLES)),
    "left out": ("bimodal_weak", (*CONDITIONAL, *ALL_OPTIONS, *SKIPPED)),
    "synchronised": ("bimodal_weak", (*CONDITIONAL, *ALL_OPTIONS)),
}


@dataclass(frozen=True)
class Runs:
    """Folder of all runs; folder of the corpus without some labels."""

    folder: Path
    partly: Path

    def weights(self, name: str) -> dict[str, torch.Tensor]:
        return torch.load(self.folder / name / "last.ckpt", weights_only=True)["weights"]

    def logged(self, name: str) -> list[dict[str, str]]:
        with (self.folder / name / "logs" / "metrics.csv").open() as file:
            return [row for row in csv.DictReader(file) if row["train/learning_rate"]]

    def rows(self, name: str, rank: int) -> list[list[list[int]]]:
        """Return the rows of each mixture of each step that a rank trained on."""
        lines = (self.folder / f"{name}.record" / f"{rank}.jsonl").read_text().splitlines()
        return [json.loads(line)["rows"] for line in lines]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, tiny_clap: Path) -> Runs:
    folder = tmp_path_factory.mktemp("bimodal ranks")
    whole = make_packed(folder / "whole", NO_VECTORS, labels=LABELS, clips_per_split={"train": 60}, seconds=1.0)
    partly = make_packed(
        folder / "partly",
        NO_VECTORS,
        labels=LABELS,
        clips_per_split={"train": 24},
        seconds=1.0,
        unlabelled=UNLABELLED,
    )
    jobs = []

    def job(name: str, ranks: int, system: str, settings: tuple[str, ...], *, norm: str | None = "freeze") -> None:
        jobs.append(
            {
                "recipe": system,
                "settings": (*SETTINGS, f"query.clap.model={tiny_clap}", *settings),
                "data": str(partly if "query.unlabelled=skip" in settings else whole),
                "run": str(folder / name),
                "ranks": ranks,
                "record": str(folder / f"{name}.record"),
                **({} if norm is None else {norm: True}),
            }
        )

    for name, (system, settings) in SAME.items():
        for ranks in (1, 2):
            job(f"{name}, {ranks}", ranks, system, settings, norm="synchronise" if name == "synchronised" else "freeze")
    job("own negatives, 2", 2, "bimodal_weak", CONDITIONAL)
    job("own norms, 2", 2, *SAME["synchronised"], norm=None)
    codes, said = run_rank_jobs(jobs, folder)
    assert codes == [[0] * each["ranks"] for each in jobs], said
    return Runs(folder, partly)


@pytest.fixture(scope="module")
def initial(runs: Runs, tiny_clap: Path) -> dict[str, dict[str, torch.Tensor]]:
    """Return the initial parameters of the runs."""
    found = {}
    for name, (system, settings) in SAME.items():
        recipe = load_train_recipe(system, (*SETTINGS, f"query.clap.model={tiny_clap}", *settings))
        task = SeparationTask.open(recipe, str(runs.partly), recorded=None, encoder_weights=None)
        torch.manual_seed(recipe.seed)
        found[name] = dict(task.make_module().named_parameters())
    return found


def joined(tensors: Mapping[str, torch.Tensor], names: Iterable[str]) -> torch.Tensor:
    return torch.cat([tensors[name].detach().double().flatten() for name in names])


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    """Return how far a vector is from another, relative to its length."""
    return float((one - other).norm() / one.norm())


def learned(runs: Runs, name: str, initial: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return the change of all parameters in a run, as one vector."""
    return joined(runs.weights(name), initial) - joined(initial, initial)


@pytest.mark.parametrize("name", SAME)
def test_two_ranks_learn_what_one_learns(runs: Runs, initial: dict[str, dict[str, torch.Tensor]], name: str):
    one, two = (f"{name}, {ranks}" for ranks in (1, 2))
    saved = [joined(runs.weights(run), initial[name]) for run in (one, two)]
    assert distance(*saved) < 1e-6
    # Weights change little in a few steps; the change is the same, too.
    assert distance(*(learned(runs, run, initial[name]) for run in (one, two))) < 1e-4
    columns = ("train/loss", "train/reconstruction", "train/consistency", "train/contrast", "train/similarity")
    for row, other in zip(runs.logged(one), runs.logged(two), strict=True):
        for column in columns:
            assert [float(each[column] or "nan") for each in (row, other)] == pytest.approx(
                [float(row[column] or "nan")] * 2, rel=1e-4, nan_ok=True
            )


def test_what_is_compared_depends_on_the_other_ranks_mixtures(runs: Runs, initial: dict[str, dict[str, torch.Tensor]]):
    """Otherwise, ranks that see nothing of one another would be equal to one process as well."""
    start = initial["sound to text"]
    alone = learned(runs, "sound to text, 1", start)
    assert distance(alone, learned(runs, "own negatives, 2", start)) > 1e-2
    assert distance(alone, learned(runs, "all options, 1", start)) > 1e-2
    alone = learned(runs, "synchronised, 1", start)
    assert distance(alone, learned(runs, "own norms, 2", start)) > 1e-2


def test_statistics_of_batch_norm_are_those_of_all_ranks(runs: Runs):
    one, two = (runs.weights(f"synchronised, {ranks}") for ranks in (1, 2))
    statistics = [name for name in one if "running_" in name]
    # Of the two norms of each of three levels on both sides, without the one after the last convolution.
    assert len(statistics) == 2 * 12
    for name in statistics:
        assert float((one[name] - float(name.endswith("var"))).abs().max()) > 0, name
        torch.testing.assert_close(two[name], one[name], rtol=1e-5, atol=1e-6)


def test_ranks_had_different_numbers_of_sounds_and_a_rank_had_none(runs: Runs):
    sizes = [[len(mixtures) for mixtures in runs.rows("all options, 2", rank)] for rank in range(2)]
    assert sizes == [[3] * STEPS, [2] * STEPS]
    usable = [
        [sum(not set(mixture) & set(UNLABELLED) for mixture in mixtures) for mixtures in runs.rows("left out, 2", rank)]
        for rank in range(2)
    ]
    assert usable == [[1, 0, 0], [1, 1, 0]]
