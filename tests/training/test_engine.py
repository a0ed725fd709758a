"""The engine knows no family: a toy one with two optimisers is registered, trained, killed and resumed."""

from __future__ import annotations

import csv
import itertools
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.conftest import REPOSITORY
from tests.training import toy_family
from vidaudio.config.recipes import override
from vidaudio.errors import CheckpointError, RecipeError
from vidaudio.stream.loader import MixtureStream
from vidaudio.tasks import registry
from vidaudio.tasks.separation.checkpoint import load_checkpoint
from vidaudio.training.checkpoint import read_checkpoint
from vidaudio.training.schedule import rate_factor

SETTINGS = (
    "average={decay: 0.9}",
    "schedule={warmup_steps: 2, decay_until_step: 12}",
    "validation={every_steps: 4}",
    "state={every_steps: 1, keep_last: 100}",
    "log={to: none, every_steps: 1}",
    "data={batch_size: 4, workers: 0, accumulate: 2}",
)


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.TASKS, "toy", "tests.training.toy_family:ToyTask")


def _settings(steps: int) -> tuple[str, ...]:
    return (*SETTINGS, f"schedule.steps={steps}")


def _epoch(data: Path) -> int:
    recipe = _recipe(*_settings(1))
    parts = MixtureStream(str(data), toy_family.ToyTask(recipe, str(data)).train_stream.config).batches_per_epoch
    return -(-parts // recipe.data.accumulate)


def _recipe(*settings: str) -> toy_family.ToyRecipe:
    return registry.check_train_recipe(override({"system": "toy"}, settings), "the toy")


def _start(data: Path, run: Path, *settings: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "tests.training.toy_family", str(data), str(run), "auto", *settings]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)


def _assert_equal(one: object, other: object) -> None:
    assert type(one) is type(other)
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for name in one:
            _assert_equal(one[name], other[name])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for mine, theirs in zip(one, other, strict=True):
            _assert_equal(mine, theirs)
    else:
        assert one == other or (one != one and other != other)


def test_a_family_with_two_optimisers_is_killed_and_resumed_to_the_last_bit(packed: Path, tmp_path: Path):
    steps = max(12, _epoch(packed))
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    process = _start(packed, whole, *_settings(steps))
    assert process.communicate(timeout=300)[0].startswith(f"{steps} -")
    # Killed after a step that is no validation's and at which only one of the optimisers has made its step.
    process = _start(packed, killed, *_settings(steps))
    deadline = time.monotonic() + 120
    while not (killed / "states" / "step-00000005.ckpt").is_file() and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    (killed / "last.ckpt").unlink(missing_ok=True)
    for path in (killed / "states").glob("*.ckpt"):
        if path.name > "step-00000005.ckpt":
            path.unlink()
    process = _start(packed, killed, *_settings(steps))
    assert process.communicate(timeout=300)[0].startswith(f"{steps} -")
    one, other = (torch.load(run / "last.ckpt", weights_only=True) for run in (whole, killed))
    _assert_equal(one, other)
    assert one["steps_done"] == steps
    moments = one["optimisers"][1]["state"].values()
    assert all(int(each["step"]) == steps for each in moments)
    best = read_checkpoint(whole)
    assert read_checkpoint(killed)[1] == best[1]
    assert best[1]["width"] == 8
    # The highest, not the lowest, is the best.
    with (whole / "logs" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    judged = {int(row["step"]): float(row["validation/closeness"]) for row in rows if row["validation/closeness"]}
    assert max(judged, key=judged.get) == best[1]["step"]
    assert {"train/learning_rate/critic", "train/gradient_norm/model", "speed/sounds_per_second"} <= set(rows[0])


def test_optimisers_step_at_their_own_rates_with_rates_of_their_own(packed: Path, tmp_path: Path):
    recipe = _recipe(*_settings(7))
    registry.train(recipe, str(packed), tmp_path / "run", progress=False)
    states = [torch.load(tmp_path / "run" / "states" / f"step-{n:08d}.ckpt", weights_only=True) for n in range(1, 8)]
    critics = [state["weights"]["critic.weight"] for state in states]
    changed = [not torch.equal(before, after) for before, after in itertools.pairwise(critics)]
    # Steps 0, 3 and 6 of the run are the critic's.
    assert changed == [False, False, True, False, False, True]
    rates = [state["optimisers"][0]["param_groups"][0]["lr"] for state in states]
    assert rates == pytest.approx([0.005] * 3 + [0.01] * 3 + [rates[-1]])
    # Its third step has the rate of the third step of a schedule.
    assert rates[-1] == pytest.approx(0.01 * rate_factor(2, recipe.schedule))


def test_two_ranks_make_the_steps_of_one(packed: Path, tmp_path: Path):
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    settings = (*SETTINGS, "schedule.steps=5", "data.accumulate=1")
    command = [sys.executable, "-m", "tests.training.toy_family", str(packed), str(tmp_path / "run"), "no", *settings]
    processes = []
    for rank in range(2):
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
        place |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": 1, "PYTHONPATH": REPOSITORY}
        environment = {**os.environ, **{name: str(value) for name, value in place.items()}}
        processes.append(subprocess.Popen(command, env=environment, cwd=REPOSITORY))
    assert [process.wait(timeout=240) for process in processes] == [0, 0]
    state = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)
    assert state["steps_done"] == 5
    assert len(state["run"]["generators"]) == 2
    assert all(torch.isfinite(tensor).all() for tensor in state["weights"].values())


def test_a_resumed_run_refuses_another_width_and_a_recipe_another_system(packed: Path, tmp_path: Path):
    registry.train(_recipe(*_settings(2)), str(packed), tmp_path / "run", progress=False)
    with pytest.raises(CheckpointError, match=r"other model sizes .*\(width\)"):
        registry.train(_recipe(*_settings(4), "width=9"), str(packed), tmp_path / "run", resume=True, progress=False)
    with pytest.raises(RecipeError, match=r"the toy: system wants 'clipsep', .* or 'toy', not 'tyo'"):
        registry.check_train_recipe({"system": "tyo"}, "the toy")
    with pytest.raises(CheckpointError, match=r"is of system 'toy'.*a model for separation is wanted: .*clipsep"):
        load_checkpoint(tmp_path / "run")


def test_a_result_is_plain_json(packed: Path, tmp_path: Path):
    done = registry.train(
        _recipe(*_settings(3), "validation.split=none"), str(packed), tmp_path / "run", progress=False
    )
    assert json.loads(json.dumps(done.as_dict()))["step"] == 3
    assert (done.examples, math.isfinite(done.best_loss), done.gains()) == (12, True, "")


def test_the_last_step_is_validated_whatever_the_interval(packed: Path, tmp_path: Path):
    found = registry.train(_recipe(*_settings(6)), str(packed), tmp_path / "run", progress=False)
    with (tmp_path / "run" / "logs" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows if row["validation/closeness"]] == [4, 6]
    assert "validation/closeness" in found.numbers
    with pytest.raises(CheckpointError, match="has made all its 6 steps"):
        registry.train(_recipe(*_settings(6)), str(packed), tmp_path / "run", resume=True, progress=False)
