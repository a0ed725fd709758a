"""Runs of both kinds of families with a loss band: healthy ones are silent, and what a warning leaves behind."""

from __future__ import annotations

import csv
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.packed import make_packed
from tests.tasks.conftest import TINY_GENERATOR
from tests.trained import TINY
from vidaudio.tasks.registry import load_train_recipe, train
from vidaudio.training.loss_band import INSIDE

WATCHED = ("validation.split=none", "log={to: none, every_steps: 2}", "state={every_steps: 2, keep_last: 100}")
# Means of five on seeds 0 to 2: 0.19 to 0.22 at step 20, 0.12 to 0.15 at step 40; of a run that does not learn: 1.
GENERATOR = (
    *TINY_GENERATOR,
    *WATCHED,
    "schedule={steps: 40, decay_until_step: 40}",
    "band={values: 5, points: [[20, 0.1, 0.5], [40, 0.05, 0.35]]}",
)
# Seeds 0 and 1: 0.06 to 0.1 throughout.
SEPARATOR = (
    *TINY,
    *WATCHED,
    "schedule={steps: 20, warmup_steps: 2, decay_until_step: 20}",
    "band={values: 5, points: [[10, 0.03, 0.2], [20, 0.03, 0.2]]}",
)


def _run(system: str, data: Path, run: Path, *settings: str, resume: bool = False):
    return train(load_train_recipe(system, settings), str(data), run, resume=resume, progress=False)


def _warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.message for each in caplog.records if each.levelno == logging.WARNING and "healthy" in each.message]


def _inside(run: Path) -> dict[int, str]:
    with (run / "logs" / "metrics.csv").open(newline="") as file:
        return {int(row["step"]): row[INSIDE] for row in csv.DictReader(file)}


@pytest.mark.parametrize(("system", "settings", "first"), [("clipsonic_iq", GENERATOR, 20), ("clipsep", SEPARATOR, 10)])
def test_a_healthy_run_is_not_warned_of(system, settings, first, packed, tmp_path, caplog):
    done = _run(system, packed, tmp_path / "run", *settings)
    assert _warnings(caplog) == []
    assert (done.band_exits, done.exits(), done.as_dict()["band_exits"]) == ((), "", [])
    inside = _inside(tmp_path / "run")
    assert list(inside) == list(range(2, done.step + 1, 2))
    assert all(value == ("1.0" if step >= first else "") for step, value in inside.items())


@pytest.mark.parametrize("rate", ["3e-6", "0.3"])
def test_a_generator_with_a_wrong_rate_is_warned_of_once_and_goes_on(rate, packed, tmp_path, caplog):
    done = _run("clipsonic_iq", packed, tmp_path / "run", *GENERATOR, f"optimiser.learning_rate={rate}")
    (warning,) = _warnings(caplog)
    assert warning.startswith("step 20: train/loss is ")
    assert "above the 0.1 to 0.5 of healthy runs of this recipe" in warning
    assert done.step == 40
    assert done.exits() == "the loss left its band at step 20 (above)"
    (left,) = json.loads(json.dumps(done.as_dict()))["band_exits"]
    assert (left["step"], left["side"], left["low"], left["high"]) == (20, "above", 0.1, 0.5)
    assert left["mean"] > 0.5
    assert all(value == ("0.0" if step >= 20 else "") for step, value in _inside(tmp_path / "run").items())


def test_a_separator_that_hears_nothing_is_warned_of(encoder_fingerprint, tmp_path, caplog):
    clips = {"train": 12, "val": 6}
    data = make_packed(tmp_path / "silent", encoder_fingerprint, clips_per_split=clips, silent=True)
    done = _run("clipsep", data, tmp_path / "run", *SEPARATOR)
    assert [left.side for left in done.band_exits] == ["below"]
    assert "the sounds are silent" in _warnings(caplog)[0]


def test_a_resumed_run_does_not_warn_again(packed, tmp_path, caplog):
    wrong = (*GENERATOR, "optimiser.learning_rate=3e-6")
    whole = _run("clipsonic_iq", packed, tmp_path / "whole", *wrong)
    caplog.clear()
    stopped = _run("clipsonic_iq", packed, tmp_path / "run", *wrong, "schedule.steps=24")
    assert len(_warnings(caplog)) == 1
    done = _run("clipsonic_iq", packed, tmp_path / "run", *wrong, resume=True)
    assert len(_warnings(caplog)) == 1
    assert stopped.band_exits == done.band_exits == whole.band_exits
    assert _inside(tmp_path / "run") == _inside(tmp_path / "whole")
    # Nothing is left to do, and the result still says it.
    assert _run("clipsonic_iq", packed, tmp_path / "run", *wrong, resume="auto").band_exits == done.band_exits


def test_states_without_a_band_are_resumed_with_one(packed, tmp_path, caplog):
    without = (*GENERATOR, "band=null", "optimiser.learning_rate=3e-6")
    assert _run("clipsonic_iq", packed, tmp_path / "run", *without, "schedule.steps=20").band_exits == ()
    with_band = (*GENERATOR, "optimiser.learning_rate=3e-6")
    done = _run("clipsonic_iq", packed, tmp_path / "run", *with_band, resume=True)
    # Five values are logged until then.
    assert [left.step for left in done.band_exits] == [30]
    assert len(_warnings(caplog)) == 1


def test_only_one_of_two_ranks_warns(packed, tmp_path):
    settings = [part for setting in (*GENERATOR, "optimiser.learning_rate=3e-6") for part in ("--set", setting)]
    command = [sys.executable, "-m", "vidaudio", "train", "clipsonic_iq", "--data", str(packed), "--quiet"]
    command += ["-o", str(tmp_path / "run"), "--devices", "2", *settings]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("of healthy runs of this recipe") == 1
    assert "the loss left its band at step 20 (above)" in done.stdout
