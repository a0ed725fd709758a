"""A run that was stopped before its first validation is evaluated, asked and gone on from by its newest state."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from typer.testing import CliRunner

from tests.packed import make_packed
from tests.trained import TINY
from vidaudio.cli.app import app
from vidaudio.errors import CorpusError, UsageError
from vidaudio.output_folder import output_folder
from vidaudio.tasks.registry import load_train_recipe, train
from vidaudio.tasks.separation.checkpoint import load_checkpoint
from vidaudio.tasks.separation.evaluate import EvaluateRequest, TestMaterial, evaluate
from vidaudio.tasks.separation.separate import separate

runner = CliRunner()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, packed: Path) -> Path:
    """Two steps, a validation and an average at the end: best weights and state are of the same step."""
    run = tmp_path_factory.mktemp("whole") / "run"
    settings = ("schedule.steps=2", "validation.every_steps=2", "average={decay: 0.5}", "state.every_steps=1")
    train(load_train_recipe("clipsep", (*TINY, *settings)), str(packed), run, progress=False)
    return run


@pytest.fixture
def stopped(whole: Path, tmp_path: Path) -> Path:
    """As a run is that was stopped before its first validation."""
    run = Path(shutil.copytree(whole, tmp_path / "stopped"))
    (run / "best.safetensors").unlink()
    return run


def test_the_states_weights_are_those_that_would_have_been_best(stopped: Path, whole: Path, capsys):
    best, state = load_checkpoint(whole), load_checkpoint(stopped)
    assert "holds no best.safetensors: its state last.ckpt after 2 steps is used" in capsys.readouterr().err
    assert (state.recipe, state.encoder, state.labels, state.step) == (best.recipe, best.encoder, best.labels, 2)
    assert np.array_equal(state.training_sources, best.training_sources)
    for name, tensor in best.model.state_dict().items():
        assert torch.equal(tensor, state.model.state_dict()[name]), name


def test_it_can_be_evaluated_asked_and_begun_with(stopped: Path, packed: Path, tmp_path: Path):
    report = evaluate(EvaluateRequest(stopped, TestMaterial(str(packed), mixtures=2), scorer="batched", progress=False))
    assert report.about.step == 2
    soundfile.write(tmp_path / "mixture.wav", np.random.default_rng(0).normal(0, 0.1, 8000), 16_000)
    assert separate(tmp_path / "mixture.wav", tmp_path / "out.wav", stopped, query="low").path.is_file()
    recipe = load_train_recipe("clipsep", (*TINY, "schedule.steps=1", f"init_from={stopped}"))
    assert train(recipe, str(packed), tmp_path / "next", progress=False).step == 1
    # Trained on what it would be tested with: known of a state as well.
    with pytest.raises(UsageError, match="was trained on what it is to be tested with"):
        evaluate(EvaluateRequest(stopped, TestMaterial(str(packed), split="train"), progress=False))


def test_of_several_states_the_newest_is_taken_and_a_damaged_one_is_passed_over(
    stopped: Path, capsys: pytest.CaptureFixture
):
    (stopped / "last.ckpt").unlink()
    assert load_checkpoint(stopped).path.name == "step-00000002.ckpt"
    (stopped / "states" / "step-00000002.ckpt").write_bytes(b"half")
    assert load_checkpoint(stopped).path.name == "step-00000001.ckpt"
    assert "step-00000002.ckpt is not a state" in capsys.readouterr().err


@pytest.mark.parametrize("data", ["nothing", "one clip"])
def test_a_refused_evaluation_leaves_no_folder(trained: Path, tmp_path: Path, encoder_fingerprint: dict, data: str):
    corpus = tmp_path / "nothing"
    if data == "one clip":
        corpus = make_packed(tmp_path / "one", encoder_fingerprint, clips_per_split={"train": 4, "test": 1})
    (tmp_path / "kept").mkdir()
    for folder in (tmp_path / "new" / "deep", tmp_path / "kept"):
        done = runner.invoke(app, ["evaluate", str(trained), "-d", str(corpus), "-o", str(folder)])
        assert isinstance(done.exception, CorpusError)
        if data == "one clip":
            assert "no mixture can be made of 1 usable clip" in str(done.exception)
            assert "--set 'split_fractions={" in str(done.exception)
    assert not (tmp_path / "new").exists()
    assert (tmp_path / "kept").is_dir()


def test_an_output_folder_with_something_in_it_stays(tmp_path: Path):
    with pytest.raises(ZeroDivisionError), output_folder(tmp_path / "a" / "b") as folder:
        assert 1 / (folder / "result").write_text("") == 0
    assert (tmp_path / "a" / "b" / "result").is_file()
    with output_folder(tmp_path / "c"):
        pass
    assert (tmp_path / "c").is_dir()
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError), output_folder(tmp_path / "file" / "under"):
        pass
