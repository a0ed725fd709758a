"""The benchmark of loss bands: its runs are what their names say, stop at their warning, and are not made twice."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import common, loss_bands
from benchmarks.loss_bands import RUNS, SEEDS, Run, recipe_of, task_of, train_run
from tests.tasks.conftest import TINY_GENERATOR

# 30 steps are 5 % of 600.
SETTINGS = [
    *TINY_GENERATOR,
    "schedule={steps: 600, decay_until_step: 600}",
    "log.every_steps=2",
    "band={number: train/error, values: 5, points: [[20, 0.1, 0.5], [30, 0.08, 0.4]]}",
]


def test_there_are_three_healthy_runs_and_seven_mistakes():
    healthy = [run for run in RUNS.values() if not run.mistake]
    assert healthy == [Run(seed) for seed in SEEDS]
    assert len(RUNS) - len(healthy) == 7
    recipes = [recipe_of(run, SETTINGS) for run in healthy]
    assert [(recipe.seed, recipe.schedule.steps) for recipe in recipes] == [(0, 30), (1, 30), (2, 30)]
    rate = recipes[0].optimiser.learning_rate
    assert recipe_of(RUNS["high_rate"], SETTINGS).optimiser.learning_rate == pytest.approx(100 * rate)


def test_mistakes_reach_what_is_trained_on(packed):
    recipe = recipe_of(Run(), SETTINGS)
    modules = {}
    for name in ("healthy_0", "silent", "raw_mels"):
        task = task_of(RUNS[name]).open(recipe, str(packed), recorded=None, encoder_weights=None)
        modules[name] = task.make_module()
    batch = {"audio": torch.randint(-9000, 9000, (3, recipe.samples), dtype=torch.int16)}
    healthy, silent, raw = (module.mels(batch) for module in modules.values())
    front_end = modules["healthy_0"].front_end
    assert healthy.abs().max() <= 1
    # Only the floor inside the root keeps silence from the mel's own floor.
    torch.testing.assert_close(silent, front_end(torch.zeros(3, recipe.samples)))
    torch.testing.assert_close(raw, front_end.log_mel(batch["audio"].float() / 2**15))


def test_runs_stop_at_their_warning_and_healthy_ones_at_the_end(packed, tmp_path):
    rows = {}
    for name in ("healthy_0", "low_rate"):
        run = RUNS[name]
        rows[name] = train_run(run, recipe_of(run, SETTINGS), packed, tmp_path / name)
    assert (rows["healthy_0"]["warned"], rows["healthy_0"]["steps"]) == (None, 30)
    assert (rows["low_rate"]["warned"]["side"], rows["low_rate"]["steps"]) == ("above", 20)
    assert list(rows["low_rate"]["means"]) == [str(step) for step in range(2, 21, 2)]


def test_the_command_writes_what_it_measured_and_goes_on(packed, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(common, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(loss_bands, "RUNS", {name: RUNS[name] for name in ("healthy_1", "high_rate")})
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    command = ["loss_bands", "--data", str(packed), "--folder", str(tmp_path / "runs"), *settings]
    monkeypatch.setattr(sys, "argv", command)
    loss_bands.main()
    (written,) = (tmp_path / "results").glob("loss_bands-*.json")
    results = json.loads(written.read_text())["results"]
    assert (results["healthy_warned"], results["sabotaged_warned"]) == (0, 1)
    assert "warned at step 20: above" in capsys.readouterr().out
    monkeypatch.setattr(loss_bands, "train_run", None)
    loss_bands.main()
    assert json.loads(written.read_text())["results"] == results
    monkeypatch.setattr(sys, "argv", [*command, "--runs", "rate_x1"])
    with pytest.raises(SystemExit):
        loss_bands.main()
    assert "there is no run rate_x1; there are healthy_1, high_rate" in capsys.readouterr().err


def test_a_recipe_without_a_band_has_nothing_to_measure(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["loss_bands", "--set", "band=null", "--folder", str(tmp_path)])
    with pytest.raises(SystemExit):
        loss_bands.main()
    assert "has no band; set one with --set band=..." in capsys.readouterr().err
