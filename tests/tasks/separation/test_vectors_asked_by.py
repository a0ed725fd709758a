"""Which of a pack's vectors a system is asked by: those named, or the first; a pack that lacks them is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.further_vectors import PICTURES, SOUND, TEXT, own_encoder
from tests.media_world import pack_here
from vidaudio.corpus.corpus import Corpus
from vidaudio.errors import CorpusError
from vidaudio.stream.index import open_index
from vidaudio.stream.reader import SampleReader
from vidaudio.tasks.registry import train
from vidaudio.tasks.separation.checkpoint import load_checkpoint
from vidaudio.tasks.separation.data import streams
from vidaudio.tasks.separation.evaluate import EvaluateRequest, TestMaterial, evaluate
from vidaudio.tasks.separation.recipe import SeparationRecipe


@pytest.fixture
def recipe(tiny_recipe: SeparationRecipe) -> SeparationRecipe:
    schedule = tiny_recipe.schedule.model_copy(update={"steps": 2})
    # The pack has too few clips for mixtures of another split.
    validation = tiny_recipe.validation.model_copy(update={"split": "none"})
    return tiny_recipe.model_copy(update={"schedule": schedule, "validation": validation})


def asking(recipe: SeparationRecipe, name: str | None, **query: str) -> SeparationRecipe:
    return recipe.model_copy(
        update={
            "data": recipe.data.model_copy(update={"vectors": name}),
            "query": recipe.query.model_copy(update=query),
        }
    )


def by_pictures(run: Path, data: str) -> EvaluateRequest:
    material = TestMaterial(data, split="train")
    return EvaluateRequest(run, material, methods=("image",), allow_leaks=True, progress=False)


def test_a_system_is_trained_and_evaluated_on_the_vectors_that_are_named(
    recipe: SeparationRecipe, packed_with_further: str, further_corpus: Corpus, tmp_path: Path
):
    block = further_corpus.pack.model_copy(
        update={"name": "only", "vectors": (PICTURES,), "audio": "pcm16", "max_segment_seconds": 8.0}
    )
    only = pack_here(further_corpus, block)
    train(asking(recipe, PICTURES), packed_with_further, tmp_path / "named", progress=False)
    loaded = load_checkpoint(tmp_path / "named")
    assert loaded.encoder == open_index(only).encoder
    assert loaded.model.query.linear.in_features == 16
    scores = [evaluate(by_pictures(tmp_path / "named", data)).sdr for data in (packed_with_further, only)]
    assert scores[0] == scores[1]
    train(asking(recipe, None), packed_with_further, tmp_path / "first", progress=False)
    own = load_checkpoint(tmp_path / "first")
    assert own.encoder == open_index(packed_with_further).vectors_of(own_encoder(further_corpus)).fingerprint
    with pytest.raises(CorpusError, match=r"holds vectors of made-of-frames \(16 dimensions.*was trained with"):
        evaluate(by_pictures(tmp_path / "first", only))


def test_a_pack_without_vectors_of_pictures_is_refused_and_those_it_has_are_named(
    recipe: SeparationRecipe, further_corpus: Corpus, packed_with_further: str, tmp_path: Path
):
    without = pack_here(further_corpus, further_corpus.pack.model_copy(update={"name": "no", "vectors": (SOUND, TEXT)}))
    with pytest.raises(CorpusError, match=rf"not by those of {SOUND} \(sound\); .* {SOUND} \(sound\), {TEXT} \(text\)"):
        train(asking(recipe, None), without, tmp_path / "a", progress=False)
    with pytest.raises(
        CorpusError, match=rf"not by those of {SOUND} \(sound\).*--set data\.vectors={own_encoder(further_corpus)}"
    ):
        train(asking(recipe, SOUND), packed_with_further, tmp_path / "b", progress=False)
    with pytest.raises(CorpusError, match=rf"no vectors of 'clap'; it holds those of .*{PICTURES} \(frames\)"):
        train(asking(recipe, "clap"), packed_with_further, tmp_path / "c", progress=False)
    assert not any((tmp_path / name).exists() for name in "abc")


def test_a_system_that_needs_none_reads_none(recipe: SeparationRecipe, further_corpus: Corpus, monkeypatch):
    without = pack_here(further_corpus, further_corpus.pack.model_copy(update={"name": "no", "vectors": (SOUND, TEXT)}))
    label = asking(recipe, None, kind="label", train="text", validation="text").model_copy(
        update={"system": "labelsep"}
    )
    stream, _ = streams(label, without)
    monkeypatch.setattr(SampleReader, "vectors", None)
    assert next(iter(stream))["vectors"] == {}
