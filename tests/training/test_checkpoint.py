"""Checkpoints say what they are, and what is not one of ours is refused in one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from vidaudio.errors import CheckpointError
from vidaudio.tasks.separation.checkpoint import load_checkpoint


def _rewritten(trained: Path, target: Path, **changes) -> Path:
    source = trained / "best.safetensors"
    with safe_open(source, framework="pt") as opened:
        described = json.loads(opened.metadata()["vidaudio"])
    save_file(load_file(source), target, metadata={"vidaudio": json.dumps({**described, **changes})})
    return target


def test_a_folder_and_its_file_load_the_same_model(trained: Path):
    by_folder, by_file = load_checkpoint(trained), load_checkpoint(trained / "best.safetensors")
    assert by_folder.encoder == by_file.encoder
    assert not by_folder.model.training
    for name, tensor in by_folder.model.state_dict().items():
        assert torch.equal(tensor, by_file.model.state_dict()[name])


def test_what_is_not_there_or_not_ours_is_refused(tmp_path: Path):
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        load_checkpoint(tmp_path / "none.safetensors")
    with pytest.raises(CheckpointError, match=r"holds neither best\.safetensors nor a state"):
        load_checkpoint(tmp_path)
    text = tmp_path / "text.safetensors"
    text.write_text("not weights")
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        load_checkpoint(text)
    foreign = tmp_path / "foreign.safetensors"
    save_file({"weight": torch.zeros(2)}, foreign)
    with pytest.raises(CheckpointError, match="not written by vidaudio"):
        load_checkpoint(foreign)


def test_a_checkpoint_of_another_system_is_refused(trained: Path, tmp_path: Path):
    with pytest.raises(CheckpointError, match="system 'clipsonic'"):
        load_checkpoint(_rewritten(trained, tmp_path / "other.safetensors", system="clipsonic"))


def test_weights_that_do_not_fit_their_description_are_refused(trained: Path, tmp_path: Path):
    with pytest.raises(CheckpointError, match="do not fit"):
        load_checkpoint(_rewritten(trained, tmp_path / "odd.safetensors", query_dimensions=7))


def test_a_pickle_is_not_executed(tmp_path: Path):
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "exploded",))

    torch.save({"x": Bomb()}, tmp_path / "bomb.safetensors")
    with pytest.raises(CheckpointError):
        load_checkpoint(tmp_path / "bomb.safetensors")
    assert not (tmp_path / "exploded").exists()
