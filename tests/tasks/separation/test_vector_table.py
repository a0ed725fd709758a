"""Systems asked by a table of vectors, on packs without pictures: trained, saved, asked and refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from tests.packed import make_packed
from tests.trained import TINY
from vidaudio.errors import CorpusError, EncoderError, QueryError, RecipeError
from vidaudio.stream.index import NO_VECTORS, open_index
from vidaudio.tasks.queries.text_queries import text_table
from vidaudio.tasks.queries.vector_table import TableQueries, read_vector_table, table_hash
from vidaudio.tasks.registry import load_train_recipe, train
from vidaudio.tasks.separation.checkpoint import load_checkpoint
from vidaudio.tasks.separation.evaluate import EvaluateRequest, TestMaterial, evaluate
from vidaudio.tasks.separation.separate import separate

SHORT = ("data={batch_size: 2, workers: 0}", "schedule={steps: 3, warmup_steps: 1, decay_until_step: 3}")


def test_a_system_learns_from_a_table_and_is_asked_for_its_names(table: Path, sounds_alone: Path, tmp_path: Path):
    settings = (*TINY, *SHORT, "query.kind=vectors", f"query.vectors={table}")
    recipe = load_train_recipe("clipsep_text", settings)
    train(recipe, str(sounds_alone), tmp_path / "run", progress=False)
    checkpoint = load_checkpoint(tmp_path / "run")
    assert checkpoint.encoder["weights_sha256"] == table_hash(read_vector_table(table))
    assert checkpoint.model.config.query_dimensions == 12
    report = evaluate(EvaluateRequest(tmp_path / "run", str(sounds_alone), progress=False))
    assert report.methods == ("mixture", "text", "wrong_text")
    # A third of the clips is of a label that the table lacks.
    assert 0 < len(report.sdr["text"]) < len(report.sdr["mixture"])
    soundfile.write(tmp_path / "mixture.wav", 0.2 * np.sin(np.arange(16_000) / 7), 16_000)
    separate(tmp_path / "mixture.wav", tmp_path / "a.wav", tmp_path / "run", query="Unheard_sound")
    with pytest.raises(QueryError, match="knows only the 3 labels"):
        separate(tmp_path / "mixture.wav", tmp_path / "b.wav", tmp_path / "run", query="violin")
    np.savez(tmp_path / "other.npz", low=np.zeros(12))
    other = str(tmp_path / "other.npz")
    with pytest.raises(EncoderError, match="trained on other vectors"):
        separate(tmp_path / "mixture.wav", tmp_path / "c.wav", tmp_path / "run", query="low", encoder_weights=other)


@pytest.mark.parametrize("system", ["labelsep", "pit"])
def test_systems_without_an_encoder_train_on_sounds_alone(system: str, sounds_alone: Path, tmp_path: Path):
    recipe = load_train_recipe(system, (*TINY, *SHORT))
    assert train(recipe, str(sounds_alone), tmp_path / "run", progress=False).step == 3
    assert (
        evaluate(
            EvaluateRequest(tmp_path / "run", TestMaterial(str(sounds_alone), mixtures=2), progress=False)
        ).mixtures
        == 2
    )


def test_a_system_of_pictures_says_that_there_are_none(sounds_alone: Path, tmp_path: Path):
    with pytest.raises(CorpusError, match=r"sounds without pictures.*query\.vectors"):
        train(load_train_recipe("clipsep", (*TINY, *SHORT)), str(sounds_alone), tmp_path / "run", progress=False)
    with pytest.raises(RecipeError, match=r"come from a table: --set query\.vectors"):
        load_train_recipe("clipsep_text", ("query.kind=vectors",))


def test_vectors_are_the_tables_own(table: Path):
    queries = TableQueries(table)
    with np.load(table) as file:
        assert torch.equal(queries.encode_text("high"), torch.from_numpy(file["high"].astype(np.float32)))
    assert queries.modalities == {"text"}


def test_labels_are_found_in_a_table_whatever_their_capitals_and_underscores(tmp_path: Path):
    """In training as in evaluation, which asks in words."""
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "vectors.npz", **{name: rng.normal(size=12) for name in ("Low", "unheard sound")})
    data = make_packed(
        tmp_path / "sounds", NO_VECTORS, labels=("low", "unheard_sound", "high"), clips_per_split={"train": 6}
    )
    maker = TableQueries(tmp_path / "vectors.npz")
    table = text_table([open_index(str(data), "train")], maker)
    assert table.missing == 2
    found, known = table.look_up(torch.zeros(3, dtype=torch.int64), torch.arange(3))
    assert known.tolist() == [True, True, False]
    assert torch.equal(found[0], maker.encode_text("Low"))
    assert torch.equal(found[1], maker.encode_text("unheard sound"))


def test_what_is_no_table_is_one_sentence(tmp_path: Path):
    with pytest.raises(EncoderError, match="there is no table"):
        read_vector_table(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("words")
    with pytest.raises(EncoderError, match="is no table of vectors"):
        read_vector_table(tmp_path / "text.npz")
    for number, content in enumerate(
        ({"a": np.zeros(3), "b": np.zeros(4)}, {"a": np.zeros((2, 2))}, {"a": np.array([np.nan])}, {})
    ):
        np.savez(tmp_path / f"{number}.npz", **content)
        with pytest.raises(EncoderError, match="finite vectors of one length"):
            read_vector_table(tmp_path / f"{number}.npz")
    np.savez(tmp_path / "objects.npz", a=np.array([{}], dtype=object))
    with pytest.raises(EncoderError, match="is no table of vectors"):
        read_vector_table(tmp_path / "objects.npz")
