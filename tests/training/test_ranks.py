"""Several processes train as one: the same samples, the same gradients, and a run goes on at any number of them.

All runs are made by one program (`rank_program`), real processes over gloo; the tests look at what they left.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from tests.conftest import REPOSITORY
from tests.packed import make_packed
from tests.training.conftest import TINY
from vidaudio.stream.index import open_index

# States by Lightning's own ModelCheckpoint every 3 steps; nothing is validated, and so no other state written, until
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
# Three mixtures a step, one a rank at three ranks; of some, a clip has no label.
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
STOPPED = (*TINY, "data={batch_size: 4, workers: 0}", "schedule={steps: 6}", "log={to: none, every_steps: 1}")


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
    partly = make_packed(folder / "partly", encoder_fingerprint, clips_per_split=clips, unlabelled=(1, 4, 6))
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
    job("before validation", STOPPED, 2, term_after=4, term_ranks=[0])
    job("after validation", STOPPED, 2, run="before validation", resume="auto")
    job("too many", (*STOPPED, "data.batch_size=2"), 3)
    path = folder / "jobs.json"
    path.write_text(json.dumps(list(jobs.values())))
    done = subprocess.run(
        [sys.executable, "-m", "tests.training.rank_program", str(path)],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return Runs(folder, packed, dict(zip(jobs, json.loads(done.stdout.splitlines()[-1]), strict=True)), done.stderr)


def test_runs_ended_as_they_were_meant_to(runs: Runs):
    killed, stopped = {"begun", "by two", "half pair"}, {"one was told", "before validation"}
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


def _assert_same(one: dict, other: dict) -> None:
    for name, tensor in one["state_dict"].items():
        assert torch.equal(tensor, other["state_dict"][name]), name
    for number, moments in one["optimizer_states"][0]["state"].items():
        for name, value in moments.items():
            assert torch.equal(value, other["optimizer_states"][0]["state"][number][name])
    assert one["lr_schedulers"] == other["lr_schedulers"]
    kept, also = one["callbacks"]["Keeper"], other["callbacks"]["Keeper"]
    assert kept["best_loss"] == also["best_loss"]
    for mine, theirs in zip(kept["generators"], also["generators"], strict=True):
        assert torch.equal(mine["torch"], theirs["torch"])
        assert mine["numpy"] == theirs["numpy"]
        assert mine["python"] == theirs["python"]


@pytest.mark.parametrize(("one", "other"), [("1 ranks", "3 ranks"), ("1 parts", "3 parts")])
def test_gradients_are_those_of_one_process_and_one_part(runs: Runs, one: str, other: str):
    """With the regulariser of the noise heads, and mixtures left out, where ranks are compared."""
    for step in (0, 1):
        expected, found = runs.gradients(one, step), runs.gradients(other, step)
        assert any(gradient.abs().sum() > 0 for gradient in expected.values())
        for name, gradient in expected.items():
            torch.testing.assert_close(found[name], gradient, rtol=2e-4, atol=1e-7, msg=lambda m, n=name: f"{n}: {m}")


def test_a_rank_had_nothing_but_mixtures_without_a_label(runs: Runs):
    """Or the comparison above would not be about that."""
    labels = open_index(str(runs.folder / "partly"), "train").table["labels"].to_pylist()
    left_out = [
        [not all(labels[row] for row in mixture) for mixture in rows] for rows in runs.parts("3 ranks").values()
    ]
    assert any(any(mixtures) and not all(mixtures) for mixtures in left_out[:2])


def test_what_is_logged_is_of_all_ranks(runs: Runs):
    import csv

    def rows(name: str) -> list[dict]:
        with (runs.folder / name / "logs" / "metrics.csv").open() as file:
            return list(csv.DictReader(file))

    one, three = rows("1 ranks"), rows("3 ranks")
    assert len(one) == len(three) == 4
    names = ("train/loss", "train/noise_activation", "train/gradient_norm", "train/mixtures_without_label")
    names += ("validation/loss", "validation/noise_activation", "validation/sdr_improvement")
    for name in names:
        values = [[float(row[name]) for row in found if row[name]] for found in (one, three)]
        assert values[0] == pytest.approx(values[1], rel=1e-3, abs=2e-4), name
        assert values[0]


def test_a_signal_to_one_rank_stops_all_at_one_step_and_nothing_is_lost(runs: Runs):
    whole = runs.state("not stopped")
    assert whole["global_step"] == 6
    _assert_same(whole, runs.state("one was told"))
    assert runs.losses("one was told").keys() | runs.losses("after that").keys() == set(range(6))
    assert not runs.losses("one was told").keys() & runs.losses("after that").keys()
    # Stopped after step 4, whose validation had not yet been made: it is made first of all, and best is the same.
    _assert_same(whole, runs.state("before validation"))
    assert (runs.folder / "before validation" / "best.safetensors").is_file()


def test_fewer_mixtures_than_ranks_are_refused_in_one_sentence(runs: Runs):
    assert "a batch of 2 cannot be divided over 3 ranks" in runs.said
