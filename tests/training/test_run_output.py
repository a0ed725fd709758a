"""What a training shows while it runs and prints when it is done."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from tests.trained import TINY
from vidaudio.cli.app import app
from vidaudio.training.progress import ProgressBar


def test_the_bar_shows_the_loss_from_the_first_step(capfd: pytest.CaptureFixture):
    bar = ProgressBar(100, 0)
    bar.update(1, torch.tensor(0.625), {})
    assert "loss=0.625" in bar._bar.postfix
    bar.close()
    assert "1/100" in capfd.readouterr().err


@pytest.mark.parametrize("split", ["val", "none"])
def test_as_json_the_answer_is_json_and_all_else_is_on_stderr(split: str, packed: Path, tmp_path: Path):
    settings = (*TINY, "log.to=none", "schedule={steps: 2, warmup_steps: 5}", f"validation.split={split}")
    command = ["train", "clipsep", "-d", str(packed), "-o", str(tmp_path / "run"), "--json"]
    done = CliRunner().invoke(app, [*command, *(part for setting in settings for part in ("--set", setting))])
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    assert answer["folder"] == str(tmp_path / "run")
    assert (answer["step"], answer["mixtures"]) == (2, 8)
    # No number is no JSON.
    assert (answer["best_loss"] is None, "NaN" in done.stdout) == (split == "none", False)
    assert "training:" in done.stderr
