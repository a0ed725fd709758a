"""Leaks: what a checkpoint remembers of its training, through fine-tuning too, and what evaluation makes of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.packed import make_packed
from tests.tasks.separation.test_evaluation_protocols import name_sources
from vidaudio.errors import UsageError
from vidaudio.stream.index import open_index
from vidaudio.tasks.registry import train
from vidaudio.tasks.separation.checkpoint import load_checkpoint
from vidaudio.tasks.separation.evaluate import EvaluateRequest, TestMaterial, evaluate
from vidaudio.tasks.separation.recipe import SeparationRecipe
from vidaudio.training.checkpoint import BEST_FILE, SOURCES_TENSOR
from vidaudio.training.provenance import hash_sources, source_hash, sources_of


def test_a_checkpoint_knows_the_sources_of_its_training_split_and_no_others(trained: Path, packed: Path):
    known = load_checkpoint(trained).training_sources
    assert known.dtype == np.int64
    assert known.tolist() == sorted(known.tolist())
    assert np.array_equal(known, sources_of(open_index(str(packed), "train")))
    assert not np.isin(sources_of(open_index(str(packed), "test")), known).any()


def test_hashes_are_the_same_everywhere():
    # printf youtube:e2rM750cFGc | sha256sum, its first 16 digits
    assert source_hash("youtube:e2rM750cFGc") % 2**64 == 0x9D07CCFEAB61EF5B
    assert hash_sources(["b", "a", "b"]).tolist() == sorted([source_hash("a"), source_hash("b")])


def test_test_clips_of_trained_sources_are_refused_or_said(
    trained: Path, packed: Path, encoder_fingerprint: dict, tmp_path: Path
):
    with pytest.raises(UsageError, match=r"12 of the 12 test sources were trained on: test:train000, .*--allow-leaks"):
        evaluate(EvaluateRequest(trained, TestMaterial(str(packed), split="train"), progress=False))
    report = evaluate(
        EvaluateRequest(
            trained,
            TestMaterial(str(packed), split="train", mixtures=1),
            allow_leaks=True,
            scorer="batched",
            progress=False,
        )
    )
    assert any(note.startswith("LEAKS: ") for note in report.about.notes)
    # One leaked video among others is enough.
    mixed = make_packed(tmp_path / "mixed", encoder_fingerprint, clips_per_split={"test": 5})
    name_sources(mixed, lambda key: "test:train003" if key == "test002" else f"new:{key}")
    with pytest.raises(UsageError, match="1 of the 5 test sources were trained on: test:train003"):
        evaluate(EvaluateRequest(trained, str(mixed), progress=False))


def test_fine_tuning_remembers_what_the_first_run_saw(
    trained: Path, encoder_fingerprint: dict, tiny_recipe: SeparationRecipe, tmp_path: Path
):
    data = make_packed(tmp_path / "other", encoder_fingerprint, clips_per_split={"train": 4, "val": 3, "test": 4})
    name_sources(data, lambda key: f"second:{key}")
    schedule = tiny_recipe.schedule.model_copy(update={"steps": 1})
    recipe = tiny_recipe.model_copy(update={"init_from": str(trained), "schedule": schedule})
    train(recipe, str(data), tmp_path / "tuned", progress=False)
    known = load_checkpoint(tmp_path / "tuned").training_sources
    assert np.isin(load_checkpoint(trained).training_sources, known).all()
    assert np.isin(hash_sources([f"second:train{n:03d}" for n in range(4)]), known).all()


def test_a_checkpoint_that_does_not_say_is_evaluated_with_a_note(trained: Path, packed: Path, tmp_path: Path):
    tensors = load_file(trained / BEST_FILE)
    del tensors[SOURCES_TENSOR]
    with safe_open(trained / BEST_FILE, framework="pt") as opened:
        save_file(tensors, tmp_path / "old.safetensors", metadata=opened.metadata())
    report = evaluate(
        EvaluateRequest(
            tmp_path / "old.safetensors", TestMaterial(str(packed), mixtures=1), scorer="batched", progress=False
        )
    )
    assert "not checked: the checkpoint does not say which sources it was trained on" in str(report)
