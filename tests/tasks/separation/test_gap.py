"""Systems that are trained with, and asked through, methods against the modality gap."""

from __future__ import annotations

from pathlib import Path

import pytest
import soundfile
import torch
from safetensors.torch import load_file

from tests.trained import TINY
from vidaudio.errors import EncoderError, GapError, QueryError, RecipeError
from vidaudio.modality_gap import TRAINING_METHODS, fit_method, load_method
from vidaudio.stream.index import open_index
from vidaudio.tasks.queries.encoders import CorpusQueries
from vidaudio.tasks.queries.gap import SOUND_NAMES, gap_sample, method_file, trained_gap
from vidaudio.tasks.queries.query_gap import perturbed
from vidaudio.tasks.registry import load_train_recipe, train
from vidaudio.tasks.separation.checkpoint import load_checkpoint
from vidaudio.tasks.separation.evaluate import EvaluateRequest, TestMaterial, evaluate
from vidaudio.tasks.separation.separate import separate

FEW_STEPS = ("schedule={steps: 4, warmup_steps: 1, decay_until_step: 4}", "validation={every_steps: 2}")


def recipe(*settings: str, system: str = "clipsep"):
    return load_train_recipe(system, (*TINY, *FEW_STEPS, *settings))


def queries_of(packed: Path) -> CorpusQueries:
    return CorpusQueries(open_index(str(packed), "train").encoder, recipe().query)


@pytest.fixture(scope="module")
def shifted(packed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that is asked through a mean shift."""
    run = tmp_path_factory.mktemp("runs") / "shifted"
    train(recipe("query.gap.ask=mean_shift"), str(packed), run, progress=False)
    return run


def test_pictures_and_texts_are_those_that_queries_are_made_of(packed: Path):
    index, queries = open_index(str(packed), "train"), queries_of(packed)
    sample = gap_sample([index], queries)
    assert sample.text_labels == ("high", "low", "middle")
    assert sample.image_labels[:3] == ("low", "middle", "high")
    assert sample.data.image_rows.tolist() == list(range(len(index)))
    assert [sample.text_labels[row] for row in sample.data.text_rows] == list(sample.image_labels)
    torch.testing.assert_close(sample.data.texts[1], queries.encode_text("low"))


def test_without_labels_names_of_sounds_stand_for_texts(tmp_path: Path, encoder_fingerprint: dict):
    from tests.packed import make_packed

    folder = make_packed(tmp_path / "p", encoder_fingerprint, clips_per_split={"train": 4}, labelled=False)
    sample = gap_sample([open_index(str(folder), "train")], queries_of(folder))
    assert sample.text_labels == SOUND_NAMES
    assert len(sample.data.image_rows) == 0


def test_a_text_is_asked_through_the_recipes_method(packed: Path, shifted: Path):
    loaded = load_checkpoint(shifted)
    gap = trained_gap(loaded)
    queries = queries_of(packed)
    plain = queries.encode_text("low")
    queries.gap = gap
    sample = gap_sample([open_index(str(packed), "train")], queries)
    shift = sample.data.images.mean(dim=0) - sample.data.texts.mean(dim=0)
    torch.testing.assert_close(queries.encode_text("low"), plain + shift, atol=1e-4, rtol=1e-4)


def test_an_encoder_that_cannot_be_loaded_is_named_with_the_way_to_train_without_it(
    tmp_path: Path, encoder_fingerprint: dict
):
    from tests.packed import make_packed

    lost = {**encoder_fingerprint, "architecture": str(tmp_path / "lost")}
    folder = make_packed(tmp_path / "p", lost, clips_per_split={"train": 6, "val": 4})
    with pytest.raises(EncoderError, match=r"leave that out with --set query\.gap\.ask=none"):
        train(recipe("query.gap.ask=retrieval"), str(folder), tmp_path / "run", progress=False)
    train(recipe(), str(folder), tmp_path / "run", progress=False)


def test_separation_differs_by_the_method_and_none_takes_the_text_as_it_is(packed: Path, shifted: Path, tmp_path: Path):
    tone = torch.randn(16_000, generator=torch.Generator().manual_seed(0)).numpy() / 10
    soundfile.write(tmp_path / "m.wav", tone, 16_000)
    heard = {}
    for gap in (None, "mean_shift", "none", str(method_file(shifted, "mean_shift"))):
        separate(tmp_path / "m.wav", tmp_path / "o.wav", shifted, query="low", gap=gap)
        heard[gap] = soundfile.read(tmp_path / "o.wav")[0]
    assert (heard[None] == heard["mean_shift"]).all()
    assert (heard[None] == heard[str(method_file(shifted, "mean_shift"))]).all()
    assert (heard[None] != heard["none"]).any()


def test_an_evaluation_names_the_method(packed: Path, shifted: Path):
    material = TestMaterial(str(packed), different_labels=True, mixtures=2)
    report = evaluate(EvaluateRequest(shifted, material, methods=("text", "image"), progress=False))
    assert report.about.gap == {"ask": "mean_shift"}
    assert "queries in words went through mean_shift" in str(report)
    plain = evaluate(EvaluateRequest(shifted, material, methods=("text", "image"), gap="none", progress=False))
    assert (plain.sdr["image"], plain.about.gap) == (report.sdr["image"], {})
    assert plain.sdr["text"] != report.sdr["text"]


@pytest.mark.parametrize("name", TRAINING_METHODS)
def test_training_with_a_method_resumes_exactly(packed: Path, tmp_path: Path, name: str):
    settings = (f"query.gap.train={name}",)
    train(recipe(*settings), str(packed), tmp_path / "whole", progress=False)
    train(recipe(*settings, "schedule.steps=2"), str(packed), tmp_path / "parts", progress=False)
    train(recipe(*settings), str(packed), tmp_path / "parts", resume=True, progress=False)
    whole, parts = (torch.load(tmp_path / run / "last.ckpt", weights_only=False) for run in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    plain = tmp_path / "plain"
    train(recipe(), str(packed), plain, progress=False)
    runs = {run: load_file(tmp_path / run / "best.safetensors") for run in ("whole", "parts", "plain")}
    assert all(torch.equal(tensor, runs["parts"][key]) for key, tensor in runs["whole"].items())
    assert any(not torch.equal(tensor, runs["plain"][key]) for key, tensor in runs["whole"].items())


def test_changes_of_a_mixture_depend_on_its_position_alone():
    method = fit_method("noise", _data())
    queries = torch.zeros(4, 2, 8)
    whole = perturbed(method, queries, None, seed=3, positions=range(8, 12))
    parts = [perturbed(method, queries[:2], None, seed=3, positions=range(first, first + 2)) for first in (8, 10)]
    assert torch.equal(whole, torch.cat(parts))
    assert not torch.equal(whole[0], whole[1])
    assert not torch.equal(whole, perturbed(method, queries, None, seed=4, positions=range(8, 12)))


def test_centred_noise_is_also_removed_from_the_query_in_words(packed: Path, tmp_path: Path):
    train(recipe("query.gap.train=centred_noise"), str(packed), tmp_path / "run", progress=False)
    loaded = load_checkpoint(tmp_path / "run")
    queries = queries_of(packed)
    raw = queries.encode_text("low")
    queries.gap = trained_gap(loaded)
    method = load_method(method_file(tmp_path / "run", "centred_noise"))
    torch.testing.assert_close(queries.encode_text("low"), method.map_texts(raw[None])[0])
    method_file(tmp_path / "run", "centred_noise").unlink()
    with pytest.raises(GapError, match=r"trained with centred_noise .*; copy the folder gap of the run"):
        trained_gap(loaded)


def test_what_cannot_be_asked_through_a_method_says_so(packed: Path, shifted: Path, tmp_path: Path):
    with pytest.raises(RecipeError, match=r"query.gap.ask is bridge, and this system is not trained with CLIP's"):
        recipe("query.gap.ask=bridge", system="labelsep")
    with pytest.raises(RecipeError, match=r"query.gap.options.dropout has rate, not rat"):
        recipe("query.gap={train: dropout, options: {dropout: {rat: 0.5}}}")
    with pytest.raises(RecipeError, match=r"there is no gap method 'magic'"):
        recipe("query.gap.options={magic: {}}")
    train(recipe(system="labelsep"), str(packed), tmp_path / "labels", progress=False)
    with pytest.raises(QueryError, match="no gap to close"):
        trained_gap(load_checkpoint(tmp_path / "labels"), "mean_shift")
    loaded = load_checkpoint(shifted)
    with pytest.raises(GapError, match=r"no gap method and no file 'nothing.safetensors'"):
        trained_gap(loaded, "nothing.safetensors")
    with pytest.raises(QueryError, match="dropout changes queries in training; --gap takes mean_shift"):
        trained_gap(loaded, "dropout")
    with pytest.raises(GapError, match="holds no fitted bridge: fit it with vidaudio gap"):
        trained_gap(loaded, "bridge")


def test_a_method_of_another_encoder_is_refused(shifted: Path, tmp_path: Path):
    from vidaudio.modality_gap import save_method

    save_method(fit_method("mean_shift", _data()), tmp_path / "other.safetensors")
    with pytest.raises(GapError, match="fitted to another encoder"):
        trained_gap(load_checkpoint(shifted), str(tmp_path / "other.safetensors"))


def test_the_recipe_of_a_run_keeps_the_method(shifted: Path):
    import yaml

    kept = yaml.safe_load((shifted / "recipe.yaml").read_text())
    assert kept["query"]["gap"]["ask"] == "mean_shift"


def _data():
    from vidaudio.modality_gap import GapData

    generator = torch.Generator().manual_seed(0)
    return GapData.unpaired(
        torch.randn(20, 8, generator=generator), torch.randn(20, 8, generator=generator), "another encoder"
    )
