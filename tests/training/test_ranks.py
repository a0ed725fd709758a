"""Several processes train as one: the same samples, the same gradients, and a run goes on at any number of them.

All runs are made by one program (`rank_program`), real processes over gloo; the tests look at what they left.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from tests.packed import make_packed
from tests.trained import TINY
from tests.training.ranks import run_rank_jobs
from vidaudio.stream.index import open_index

# States every 3 steps; nothing is validated, and so no other state written, until
# step 9.
STREAM = (
    *TINY,
    "data={batch_size: 6, accumulate: 2, workers: 2}",
    "schedule.steps=9",
    "validation.every_steps=9",
    "state={every_steps: 3, keep_last: 2}",
    "log.to=none",
    "log.every_steps=1",
)
# Three mixtures a step, one a rank at three ranks. A clip has no label in none of step 0, in all of step 1, in one of
# step 2.
UNLABELLED = (0, 4, 7)
GRADIENTS = (
    *TINY,
    "system=custom",
    "query={train: text, validation: text}",
    "model.noise={gamma: 0.1}",
    "data={batch_size: 3, workers: 0}",
    "schedule={steps: 3}",
    "validation.every_steps=3",
    "log={to: none, every_steps: 1}",
)
PARTS = (
    *TINY,
    "data={batch_size: 6, workers: 0}",
    "schedule={steps: 2}",
    "validation.every_steps=2",
    "log={to: none, every_steps: 1}",
)
STOPPED = (
    *TINY,
    "data={batch_size: 4, workers: 0}",
    "schedule={steps: 6}",
    "average={decay: 0.9}",
    "log={to: none, every_steps: 1}",
)


@dataclass(frozen=True)
class Runs:
    """The folder that all runs are in, and the exit codes of each job's ranks."""

    folder: Path
    data: Path
    codes: dict[str, list[int]]
    said: str

    def parts(self, name: str) -> dict[int, list]:
        """Of each stream step, the rows that all ranks together trained on, in order; the last time it was trained."""
        files = [path.read_text().splitlines() for path in sorted((self.folder / f"{name}.record").glob("*.jsonl"))]
        parts: dict[int, list] = {}
        for rank, lines in enumerate(files):
            seen = {}
            for line in map(json.loads, lines):
                seen[line["part"]] = line["rows"]
            for part, rows in seen.items():
                parts[part] = [*parts.get(part, []), *rows] if rank else rows
        return parts

    def losses(self, name: str, rank: int = 0) -> dict[int, str]:
        lines = (self.folder / f"{name}.record" / f"{rank}.jsonl").read_text().splitlines()
        return {line["part"]: line["loss"] for line in map(json.loads, lines)}

    def gradients(self, name: str, step: int) -> dict[str, torch.Tensor]:
        return torch.load(self.folder / f"{name}.gradients" / f"{step}.pt", weights_only=True)

    def state(self, run: str) -> dict:
        return torch.load(self.folder / run / "last.ckpt", weights_only=True)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, packed: Path, encoder_fingerprint: dict) -> Runs:
    folder = tmp_path_factory.mktemp("ranks")
    clips = {"train": 12, "val": 5}
    partly = make_packed(folder / "partly", encoder_fingerprint, clips_per_split=clips, unlabelled=UNLABELLED)
    jobs: dict[str, dict] = {}

    def job(name: str, settings: tuple[str, ...], ranks: int, run: str | None = None, **more: object) -> None:
        jobs[name] = {
            "settings": settings,
            "data": str(packed),
            "run": str(folder / (run or name)),
            "ranks": ranks,
            "record": str(folder / f"{name}.record"),
            **more,
        }

    job("whole", STREAM, 1)
    job("begun", STREAM, 1, kill_after=4)
    jobs["copy"] = {"copy": [str(folder / "begun"), str(folder / "again")]}
    job("again", STREAM, 1, resume=True)
    job("by two", STREAM, 2, run="begun", resume=True, kill_after=7)
    job("by three", STREAM, 3, run="begun", resume=True)
    job("pair", STREAM, 2)
    job("half pair", STREAM, 2, run="pair again", kill_after=5)
    job("pair again", STREAM, 2, resume=True)
    for ranks in (1, 3):
        job(
            f"{ranks} ranks",
            GRADIENTS,
            ranks,
            data=str(partly),
            freeze=True,
            gradients=str(folder / f"{ranks} ranks.gradients"),
        )
    for parts in (1, 3):
        job(
            f"{parts} parts",
            (*PARTS, f"data.accumulate={parts}"),
            1,
            freeze=True,
            gradients=str(folder / f"{parts} parts.gradients"),
        )
    job("not stopped", STOPPED, 2)
    job("one was told", STOPPED, 2, term_after=3, term_ranks=[1])
    job("after that", STOPPED, 2, run="one was told", resume=True)
    job("before validation", (*STOPPED, "data.workers=1"), 2, term_after=4, term_ranks=[0], signal="SIGUSR1")
    # Rank 0 has two batches of the validation, rank 1, which is told, has one.
    in_parts = (*STOPPED, "data.accumulate=2")
    again = {"run": "before validation", "resume": "auto"}
    job("in validation", in_parts, 2, **again, term_in_validation=True, term_ranks=[1])
    job("after validation", STOPPED, 2, **again)
    job("too many", (*STOPPED, "data.batch_size=2"), 3)
    codes, said = run_rank_jobs(list(jobs.values()), folder)
    return Runs(folder, packed, dict(zip(jobs, codes, strict=True)), said)


def test_runs_ended_as_they_were_meant_to(runs: Runs):
    killed, stopped = {"begun", "by two", "half pair"}, {"one was told", "before validation", "in validation"}
    for name, codes in runs.codes.items():
        expected = -9 if name in killed else 143 if name in stopped else 1 if name == "too many" else 0
        assert set(codes) <= {expected}, (name, runs.said)


def test_the_samples_are_those_of_the_uninterrupted_run_at_one_then_two_then_three_ranks(runs: Runs):
    ids = open_index(str(runs.data), "train").table["id"].to_pylist()
    whole = runs.parts("whole")
    assert sorted(whole) == list(range(18))
    first, second, third = (runs.parts(name) for name in ("begun", "by two", "by three"))
    # Killed after step 4, of which the state of step 3 stands, so that two ranks begin with part 6; and so on.
    assert (min(first), min(second), min(third)) == (0, 6, 12)
    assert max(third) == 17
    joined = {**first, **second, **third}
    named = {
        name: [[[ids[row] for row in rows] for rows in parts[part]] for part in sorted(parts)]
        for name, parts in (("whole", whole), ("joined", joined))
    }
    assert named["joined"] == named["whole"]
    assert all(len(rows) == 3 for rows in whole.values())


def test_losses_and_weights_are_the_same_to_the_last_bit_at_an_equal_number_of_ranks(runs: Runs):
    whole, again = runs.losses("whole"), runs.losses("again")
    assert sorted(again) == list(range(6, 18))
    assert again.items() <= whole.items()
    for rank in (0, 1):
        pair, resumed = runs.losses("pair", rank), runs.losses("pair again", rank)
        assert sorted(resumed) == list(range(6, 18))
        assert resumed.items() <= pair.items()
    for one, other in (("whole", "again"), ("pair", "pair again")):
        _assert_same(runs.state(one), runs.state(other))


def _assert_same(one: dict, other: dict, *, generators: bool = True) -> None:
    for name, tensor in one["weights"].items():
        assert torch.equal(tensor, other["weights"][name]), name
    for number, moments in one["optimisers"][0]["state"].items():
        for name, value in moments.items():
            assert torch.equal(value, other["optimisers"][0]["state"][number][name])
    for name, tensor in (one["average"] or {"weights": {}})["weights"].items():
        assert torch.equal(tensor, other["average"]["weights"][name]), name
    kept, also = one["run"], other["run"]
    assert kept["best_loss"] == also["best_loss"]
    for mine, theirs in zip(kept["generators"], also["generators"], strict=True) if generators else ():
        assert torch.equal(mine["torch"], theirs["torch"])
        assert mine["numpy"] == theirs["numpy"]
        assert mine["python"] == theirs["python"]


@pytest.mark.parametrize(("one", "other", "steps"), [("1 ranks", "3 ranks", (0, 2)), ("1 parts", "3 parts", (0, 1))])
def test_gradients_are_those_of_one_process_and_one_part(runs: Runs, one: str, other: str, steps: tuple[int, ...]):
    """With the regulariser of the noise heads, and mixtures left out, where ranks are compared."""
    for step in steps:
        expected, found = runs.gradients(one, step), runs.gradients(other, step)
        assert any(gradient.abs().sum() > 0 for gradient in expected.values())
        for name, gradient in expected.items():
            torch.testing.assert_close(found[name], gradient, rtol=2e-4, atol=1e-7, msg=lambda m, n=name: f"{n}: {m}")


def test_ranks_had_nothing_but_mixtures_without_a_label(runs: Runs):
    """Or the comparisons here would not be about that."""
    labels = open_index(str(runs.folder / "partly"), "train").table["labels"].to_pylist()
    left_out = [
        [not all(labels[row] for row in mixture) for mixture in rows] for rows in runs.parts("3 ranks").values()
    ]
    assert [sum(mixtures) for mixtures in left_out] == [0, 3, 1]


@pytest.mark.parametrize("name", ["1 ranks", "3 ranks"])
def test_a_step_that_gives_no_loss_anywhere_changes_nothing_and_has_no_means_to_log(runs: Runs, name: str):
    assert all(torch.count_nonzero(gradient) == 0 for gradient in runs.gradients(name, 1).values())
    rows = _metrics(runs, name)
    steps = {int(row["step"]): row for row in rows if row["train/learning_rate"]}
    assert [bool(steps[step]["train/loss"]) for step in (1, 2, 3)] == [True, False, True]
    assert [float(steps[step]["train/mixtures_without_label"]) for step in (1, 2, 3)] == [0, 3, 1]
    assert float(steps[2]["train/gradient_norm"]) == 0
    assert runs.losses(name)[1] == (0.0).hex()


def _metrics(runs: Runs, name: str) -> list[dict]:
    with (runs.folder / name / "logs" / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_what_is_logged_is_of_all_ranks(runs: Runs):
    one, three = _metrics(runs, "1 ranks"), _metrics(runs, "3 ranks")
    assert len(one) == len(three) == 4
    names = ("train/loss", "train/noise_activation", "train/gradient_norm", "train/mixtures_without_label")
    names += ("validation/loss", "validation/noise_activation", "validation/sdr_improvement")
    for name in names:
        values = [[float(row[name]) for row in found if row[name]] for found in (one, three)]
        assert values[0] == pytest.approx(values[1], rel=1e-3, abs=2e-4), name
        assert values[0]


def test_a_signal_to_one_rank_stops_all_at_one_step_and_nothing_is_lost(runs: Runs):
    whole = runs.state("not stopped")
    assert whole["steps_done"] == 6
    _assert_same(whole, runs.state("one was told"))
    assert runs.losses("one was told").keys() | runs.losses("after that").keys() == set(range(6))
    assert not runs.losses("one was told").keys() & runs.losses("after that").keys()
    # Stopped after step 4, whose validation had not yet been made, and once more in that validation: it is made first,
    # and best is the same. The loader that was stopped had drawn a seed for its processes, which they do not use.
    assert not list((runs.folder / "in validation.record").glob("*.judged"))
    # The other one follows the last step.
    assert len((runs.folder / "after validation.record" / "0.judged").read_text().splitlines()) == 2
    assert runs.losses("after validation").keys() == {4, 5}
    _assert_same(whole, runs.state("before validation"), generators=False)
    assert (runs.folder / "before validation" / "best.safetensors").is_file()


def test_all_ranks_validate_the_model_that_is_saved(runs: Runs):
    """Which with an average has statistics of BatchNorm of its own."""
    first, second = ((runs.folder / "not stopped.record" / f"{rank}.judged").read_text() for rank in (0, 1))
    assert first == second
    assert len(first.splitlines()) == 2


def test_fewer_mixtures_than_ranks_are_refused_in_one_sentence(runs: Runs):
    assert "a batch of 2 cannot be divided over 3 ranks" in runs.said
