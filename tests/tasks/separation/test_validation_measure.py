"""What validation measures: one loss over a whole run, and gains that a change of level alone does not bring."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch

from tests.trained import TINY
from vidaudio.errors import CheckpointError
from vidaudio.tasks.registry import load_train_recipe, train


def _rows(run: Path, column: str = "validation/loss") -> list[dict[str, str]]:
    with (run / "logs" / "metrics.csv").open() as file:
        return [row for row in csv.DictReader(file) if row[column]]


def test_the_validation_loss_means_the_same_before_and_after_the_noise_heads_begin(tmp_path: Path, packed: Path):
    """With frozen weights it does not move where the noise heads begin."""
    settings = ("optimiser.learning_rate=1e-12", "model.noise={start_step: 4}", "validation.every_steps=2")
    recipe = load_train_recipe("clipsep_nit", (*TINY, *settings))
    train(recipe, str(packed), tmp_path / "run", progress=False)
    rows = _rows(tmp_path / "run")
    assert [int(row["step"]) for row in rows] == [2, 4, 6, 8]
    assert all(float(row["validation/noise_penalty"]) > 0 for row in rows)
    # BatchNorm's statistics go on moving a little.
    losses = [float(row["validation/loss"]) for row in rows]
    assert losses == pytest.approx([losses[0]] * 4, rel=0.02)


def test_a_state_from_before_a_setting_existed_can_be_resumed(tmp_path: Path, packed: Path):
    recipe = load_train_recipe("clipsep_nit", (*TINY, "schedule.steps=4"))
    train(recipe, str(packed), tmp_path / "run", progress=False)
    state = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)
    del state["run"]["recipe"]["model"]["noise"]["query_margin"]
    torch.save(state, tmp_path / "run" / "last.ckpt")
    more = load_train_recipe("clipsep_nit", (*TINY, "schedule.steps=6"))
    assert train(more, str(packed), tmp_path / "run", resume=True, progress=False).step == 6


def test_a_run_with_noise_heads_is_extended_once_they_have_begun(tmp_path: Path, packed: Path):
    """The default of the first step with noise heads follows from the number of steps."""
    recipe = load_train_recipe("clipsep_nit", (*TINY, "schedule.steps=5"))
    train(recipe, str(packed), tmp_path / "run", progress=False)
    longer = load_train_recipe("clipsep_nit", (*TINY, "schedule.steps=20"))
    assert recipe.model.noise != longer.model.noise
    assert train(longer, str(packed), tmp_path / "run", resume=True, progress=False).step == 20
    never = load_train_recipe("clipsep_nit", (*TINY, "schedule.steps=30", "model.noise.start_step=25"))
    with pytest.raises(CheckpointError, match=r"to go on as before, --set model\.noise\.start_step=4"):
        train(never, str(packed), tmp_path / "run", resume=True, progress=False)
