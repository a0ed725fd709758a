"""Training: what a run leaves, resuming, and what it refuses."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest
import torch

from tests.packed import make_packed
from vidaudio.errors import CheckpointError, CorpusError, RecipeError
from vidaudio.stream.loader import MixtureStream
from vidaudio.tasks.registry import train
from vidaudio.tasks.separation.checkpoint import load_checkpoint
from vidaudio.tasks.separation.recipe import SeparationRecipe
from vidaudio.training.checkpoint import read_checkpoint


def _with(recipe: SeparationRecipe, **blocks: dict) -> SeparationRecipe:
    return recipe.model_copy(update={k: getattr(recipe, k).model_copy(update=v) for k, v in blocks.items()})


def _losses(run: Path) -> dict[int, str]:
    with (run / "logs" / "metrics.csv").open() as file:
        return {int(row["step"]): row["train/loss"] for row in csv.DictReader(file) if row["train/loss"]}


def test_a_run_leaves_weights_state_recipe_and_logs(trained: Path, tiny_recipe: SeparationRecipe):
    checkpoint = load_checkpoint(trained)
    assert checkpoint.recipe == tiny_recipe
    assert checkpoint.step in (4, 8)
    assert (trained / "last.ckpt").is_file()
    assert (trained / "recipe.yaml").is_file()
    assert (trained / "logs" / "metrics.csv").is_file()
    assert any((trained / "tensorboard").iterdir())


def test_weights_move_away_from_their_initialisation(trained: Path, tiny_recipe: SeparationRecipe):
    from vidaudio.tasks.separation.checkpoint import build_model

    torch.manual_seed(tiny_recipe.seed)
    checkpoint = load_checkpoint(trained)
    fresh = build_model(tiny_recipe, checkpoint.model.config.query_dimensions).state_dict()
    moved = [n for n, t in checkpoint.model.state_dict().items() if not torch.equal(t, fresh[n])]
    assert len(moved) == len(fresh)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(
    tmp_path: Path, packed: Path, tiny_recipe: SeparationRecipe, workers: int
):
    recipe = _with(tiny_recipe, data={"workers": workers})
    train(recipe, str(packed), tmp_path / "whole", progress=False)
    # The schedule is part of the recipe, so the first half stops early by its number of steps alone.
    half = _with(recipe, schedule={"steps": 5})
    train(half, str(packed), tmp_path / "halves", progress=False)
    train(recipe, str(packed), tmp_path / "halves", resume=True, progress=False)
    whole = torch.load(tmp_path / "whole" / "last.ckpt", weights_only=True)
    halves = torch.load(tmp_path / "halves" / "last.ckpt", weights_only=True)
    assert whole["steps_done"] == halves["steps_done"] == 8
    for name, tensor in whole["weights"].items():
        assert torch.equal(tensor, halves["weights"][name]), name


def test_the_resumed_stream_begins_where_the_optimiser_stopped(
    tmp_path: Path, packed: Path, tiny_recipe: SeparationRecipe, monkeypatch: pytest.MonkeyPatch
):
    seen: list[int] = []
    original = MixtureStream.batch

    def spy(self, step):
        if self.config.shuffle:
            seen.append(step)
        return original(self, step)

    monkeypatch.setattr(MixtureStream, "batch", spy)
    run = tmp_path / "run"
    train(_with(tiny_recipe, schedule={"steps": 5}), str(packed), run, progress=False)
    first = list(seen)
    seen.clear()
    train(tiny_recipe, str(packed), run, resume=True, progress=False)
    assert first[:5] == [0, 1, 2, 3, 4]
    assert seen[:3] == [5, 6, 7]


def test_a_run_is_not_overwritten(trained: Path, packed: Path, tiny_recipe: SeparationRecipe):
    before = (trained / "best.safetensors").read_bytes()
    with pytest.raises(CheckpointError, match="add --resume"):
        train(tiny_recipe, str(packed), trained, progress=False)
    assert (trained / "best.safetensors").read_bytes() == before


def test_resuming_nothing_is_refused(tmp_path: Path, packed: Path, tiny_recipe: SeparationRecipe):
    with pytest.raises(CheckpointError, match="nothing to resume"):
        train(tiny_recipe, str(packed), tmp_path / "none", resume=True, progress=False)


def test_resuming_with_another_size_or_encoder_is_refused(
    trained: Path, packed: Path, tmp_path: Path, tiny_recipe: SeparationRecipe, encoder_fingerprint: dict
):
    larger = tiny_recipe.model_copy(update={"model": tiny_recipe.model.model_copy(update={"channels": 16})})
    with pytest.raises(CheckpointError, match="other model sizes"):
        train(larger, str(packed), trained, resume=True, progress=False)
    other = {**encoder_fingerprint, "weights_sha256": "0" * 64}
    elsewhere = make_packed(tmp_path / "other", other, clips_per_split={"train": 6})
    with pytest.raises(CheckpointError, match="another encoder"):
        train(tiny_recipe, str(elsewhere), trained, resume=True, progress=False)


def test_a_corpus_of_another_sample_rate_is_refused(packed: Path, tmp_path: Path, tiny_recipe: SeparationRecipe):
    front_end = tiny_recipe.model.front_end.model_copy(update={"sample_rate": 22_050})
    recipe = tiny_recipe.model_copy(update={"model": tiny_recipe.model.model_copy(update={"front_end": front_end})})
    with pytest.raises(CorpusError, match="16000 Hz"):
        train(recipe, str(packed), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_text_queries_train_and_need_labels(
    packed: Path, tmp_path: Path, tiny_recipe: SeparationRecipe, encoder_fingerprint: dict
):
    recipe = _with(tiny_recipe, query={"train": "text", "validation": "text"}, schedule={"steps": 2})
    recipe = recipe.model_copy(update={"system": "clipsep_text"})
    assert train(recipe, str(packed), tmp_path / "text", progress=False).step == 2
    bare = make_packed(tmp_path / "bare", encoder_fingerprint, clips_per_split={"train": 6}, labelled=False)
    with pytest.raises(CorpusError, match="need a label"):
        train(recipe, str(bare), tmp_path / "none", progress=False)


def test_a_corpus_without_a_validation_split_is_said_and_leaves_the_last_weights(
    tmp_path: Path, tiny_recipe: SeparationRecipe, encoder_fingerprint: dict, capsys: pytest.CaptureFixture[str]
):
    data = make_packed(tmp_path / "data", encoder_fingerprint, clips_per_split={"train": 6})
    for steps, resume in ((1, False), (3, True)):
        recipe = _with(tiny_recipe, schedule={"steps": steps})
        done = train(recipe, str(data), tmp_path / "run", resume=resume, progress=False)
        assert math.isnan(done.best_loss)
        said = capsys.readouterr().err
        assert f"{data} has no split 'val' (validation.split), only train: nothing is validated" in said
        assert ("schedule.warmup_steps=2 is longer than the run" in said) == (steps == 1)
        assert read_checkpoint(tmp_path / "run")[1]["step"] == steps


def test_resuming_keeps_what_was_logged_and_a_finished_run_says_so(
    tmp_path: Path, packed: Path, tiny_recipe: SeparationRecipe
):
    run = tmp_path / "run"
    train(_with(tiny_recipe, schedule={"steps": 4}), str(packed), run, progress=False)
    before = _losses(run)
    train(tiny_recipe, str(packed), run, resume=True, progress=False)
    assert before.items() < _losses(run).items()
    after = (run / "logs" / "metrics.csv").read_text()
    with pytest.raises(CheckpointError, match="has made all its 8 steps"):
        train(tiny_recipe, str(packed), run, resume=True, progress=False)
    assert (run / "logs" / "metrics.csv").read_text() == after


def test_damage_found_by_a_loader_process_is_one_sentence(
    tmp_path: Path, tiny_recipe: SeparationRecipe, encoder_fingerprint: dict
):
    data = make_packed(tmp_path / "data", encoder_fingerprint, clips_per_split={"train": 6})
    with (data / "train-000000.tar").open("r+b") as tar:
        tar.truncate(2000)
    with pytest.raises(CorpusError) as found:
        train(_with(tiny_recipe, data={"workers": 1}), str(data), tmp_path / "run", progress=False)
    assert "Traceback" not in str(found.value)
    assert "train-000000.tar" in str(found.value)


def test_gains_out_of_order_are_refused():
    from vidaudio.tasks.registry import load_train_recipe

    with pytest.raises(RecipeError, match="lower gain comes first"):
        load_train_recipe("clipsep", ["data.gain_range=[2, 1]"])
