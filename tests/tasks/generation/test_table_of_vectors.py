"""A generator whose conditions are a table's vectors: trained on labelled sounds without any encoder at hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from tests.tasks.conftest import TINY_GENERATOR
from vidaudio.errors import EncoderError, QueryError, RecipeError
from vidaudio.tasks.generation.generate import GenerateOptions, generate
from vidaudio.tasks.generation.task import GenerationTask
from vidaudio.tasks.registry import load_train_recipe, train

QUICK = GenerateOptions(steps=2)


def recipe(table: Path):
    return load_train_recipe("clip_tta", (*TINY_GENERATOR, "query.kind=vectors", f"query.vectors={table}"))


def test_conditions_are_the_tables_vectors_of_the_labels(table: Path, sounds_alone: Path, tmp_path: Path):
    task = GenerationTask.open(recipe(table), str(sounds_alone), recorded=None, encoder_weights=None)
    # A third of the sounds is of a label that the table lacks: they train without a condition.
    (warning,) = [said for said in task.prepare(tmp_path) if "train" in said]
    assert warning.startswith("3 of 9 clips")
    module = task.make_module()
    vectors, known = module.conditions(module.train_stream.batch(0), "train")
    with np.load(table) as file:
        of_labels = torch.from_numpy(np.stack([file["low"], file["high"]])).float()
    cosines = torch.cosine_similarity(vectors[known][:, None], of_labels[None], dim=-1)
    torch.testing.assert_close(cosines.amax(dim=1), torch.ones(int(known.sum())))
    assert 0 < known.sum() < len(known)


def test_it_is_asked_for_the_tables_names_alone(table: Path, sounds_alone: Path, tmp_path: Path):
    run = tmp_path / "run"
    train(recipe(table), str(sounds_alone), run, progress=False)
    heard = [
        soundfile.read(generate(name, tmp_path / name, run, options=QUICK).sounds[0].path)[0]
        for name in ("high", "low", "Unheard_sound")
    ]
    assert all(np.isfinite(sound).all() and sound.std() > 0 for sound in heard)
    assert (heard[0] != heard[1]).any()
    with pytest.raises(QueryError, match="knows only the 3 labels"):
        generate("violin", tmp_path / "out", run, options=QUICK)
    np.savez(tmp_path / "other.npz", low=np.zeros(12))
    other = GenerateOptions(steps=2, encoder_weights=str(tmp_path / "other.npz"))
    with pytest.raises(EncoderError, match="trained on other vectors"):
        generate("low", tmp_path / "out", run, options=other)
    table.unlink()
    with pytest.raises(EncoderError, match=r"no table of vectors .*vectors\.npz"):
        generate("low", tmp_path / "out", run, options=QUICK)


def test_recipes_that_do_not_fit_are_refused(table: Path):
    with pytest.raises(RecipeError, match=r"come from a table: --set query\.vectors"):
        load_train_recipe("clip_tta", ("query.kind=vectors",))
    with pytest.raises(RecipeError, match="a table's, of labels"):
        load_train_recipe("clipsonic_iq", ("query.kind=vectors", f"query.vectors={table}"))
