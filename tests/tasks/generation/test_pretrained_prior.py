"""Generators asked through priors: a published one, of its own encoder alone, and one fitted to the corpus."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import soundfile
import torch

from tests.small_prior import write_small_prior
from tests.tasks.conftest import TINY_GENERATOR
from vidaudio.encoders.load import load_encoder
from vidaudio.encoders.prompts import fill
from vidaudio.encoders.spec import EncoderSpec
from vidaudio.errors import GapError
from vidaudio.modality_gap import load_method
from vidaudio.tasks.generation.generate import GenerateOptions, generate
from vidaudio.tasks.queries.pretrained_prior import GUIDANCE, SAMPLING_STEPS, SEED, PretrainedPrior, is_prior_place
from vidaudio.tasks.registry import load_train_recipe, train

SENTENCES = fill(("a photo of {}", "a small {}"), "dog_barking")


@pytest.fixture(scope="module")
def folder(tiny_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_prior(tmp_path_factory.mktemp("priors") / "small", tiny_clip)


@pytest.fixture(scope="module")
def clip(tiny_clip: Path):
    return load_encoder(EncoderSpec(str(tiny_clip), None, "float32", 16))


@pytest.fixture(scope="module")
def prior(folder: Path, clip) -> PretrainedPrior:
    return PretrainedPrior(str(folder), clip.fingerprint)


def vector(clip, sentences: list[str]) -> torch.Tensor:
    return torch.from_numpy(clip.embed_texts(sentences).mean(axis=0))


def test_vectors_are_those_of_the_published_pipeline(folder: Path, clip, prior: PretrainedPrior):
    from diffusers import KandinskyV22PriorPipeline, PriorTransformer, UnCLIPScheduler
    from transformers import CLIPTextModelWithProjection, CLIPTokenizer, CLIPVisionConfig, CLIPVisionModelWithProjection

    unused = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=32,
        patch_size=16,
        projection_dim=32,
    )
    pipeline = KandinskyV22PriorPipeline(
        prior=PriorTransformer.from_pretrained(folder, subfolder="prior"),
        image_encoder=CLIPVisionModelWithProjection(unused),
        text_encoder=CLIPTextModelWithProjection.from_pretrained(folder, subfolder="text_encoder"),
        tokenizer=CLIPTokenizer.from_pretrained(folder, subfolder="tokenizer"),
        scheduler=UnCLIPScheduler.from_pretrained(folder, subfolder="prior_scheduler"),
        image_processor=None,
    )
    pipeline.set_progress_bar_config(disable=True)
    expected = [
        pipeline(
            sentence,
            num_inference_steps=SAMPLING_STEPS,
            guidance_scale=GUIDANCE,
            generator=torch.Generator().manual_seed(SEED),
        ).image_embeds[0]
        for sentence in SENTENCES
    ]
    found = prior.map_words(SENTENCES, vector(clip, SENTENCES))
    torch.testing.assert_close(found, torch.stack(expected).mean(dim=0), atol=1e-5, rtol=1e-5)
    assert float(found.norm()) > 1


def test_a_sentence_has_its_vector_whatever_was_asked_before(clip, prior: PretrainedPrior):
    first = prior.map_words(SENTENCES[:1], vector(clip, SENTENCES[:1]))
    other = prior.map_words(["rain"], vector(clip, ["rain"]))
    assert torch.equal(prior.map_words(SENTENCES[:1], vector(clip, SENTENCES[:1])), first)
    assert not torch.equal(first, other)


def test_words_are_generated_through_a_prior(trained_generator: Path, folder: Path, tmp_path: Path):
    plain = generate("dog", tmp_path / "plain", trained_generator, options=GenerateOptions(steps=3, gap="none"))
    done = generate("dog", tmp_path / "prior", trained_generator, options=GenerateOptions(steps=3, gap=str(folder)))
    sounds = [soundfile.read(one.sounds[0].path)[0] for one in (plain, done)]
    assert (sounds[0] != sounds[1]).any()
    with soundfile.SoundFile(done.sounds[0].path) as file:
        assert json.loads(file.comment)["gap"] == "pretrained prior small"


def test_a_prior_of_another_encoder_is_refused_with_both_names(tiny_clip: Path, tmp_path: Path, clip):
    other = write_small_prior(tmp_path / "other", tiny_clip, own_clip=False)
    prior = PretrainedPrior(str(other), clip.fingerprint)
    with pytest.raises(GapError, match=rf"prior {other} belongs to another encoder than the system's, {tiny_clip}:"):
        prior.map_words(SENTENCES, vector(clip, SENTENCES))
    wide = write_small_prior(tmp_path / "wide", tiny_clip, dimensions=48, own_clip=False)
    with pytest.raises(GapError, match=rf"prior {wide} draws vectors of 48 dimensions, .*{tiny_clip}, have 32"):
        PretrainedPrior(str(wide), clip.fingerprint)


def test_a_folder_without_a_part_is_one_sentence(folder: Path, tmp_path: Path, clip):
    partly = shutil.copytree(folder, tmp_path / "partly")
    shutil.rmtree(partly / "tokenizer")
    with pytest.raises(GapError, match=r"partly is no published prior: tokenizer is missing"):
        PretrainedPrior(str(partly), clip.fingerprint)
    with pytest.raises(GapError, match=r"no published prior: model_index.json, prior, text_encoder, tokenizer is miss"):
        PretrainedPrior(str(tmp_path), clip.fingerprint)
    broken = shutil.copytree(folder, tmp_path / "broken")
    (broken / "prior" / "diffusion_pytorch_model.safetensors").write_bytes(b"nothing")
    with pytest.raises(GapError, match=r"prior .*broken cannot be loaded \(.*--gap /path/to/folder"):
        PretrainedPrior(str(broken), clip.fingerprint)


def test_a_folder_is_loaded_without_a_connection(folder: Path, clip, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_, **__):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)
    PretrainedPrior(str(folder), clip.fingerprint)


def test_a_hub_that_is_out_of_reach_is_one_sentence(clip, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("vidaudio.encoders.library_settings._answers", lambda _: False)
    with pytest.raises(GapError, match=r"prior hf-hub:nobody/nothing cannot be loaded .*--gap /path/to/folder"):
        PretrainedPrior("hf-hub:nobody/nothing", clip.fingerprint)


def test_names_of_methods_are_no_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ridge").mkdir()
    (tmp_path / "karlo").mkdir()
    assert [is_prior_place(name) for name in ("ridge", "none", "karlo", "hf-hub:a/b", "nothing")] == [
        *(False, False, True, True, False)
    ]


def test_a_generator_fits_a_prior_to_its_corpus_and_is_asked_through_it(packed: Path, tmp_path: Path):
    settings = ("log.to=none", "query.gap={ask: prior, options: {prior: {steps: 100, width: 32}}}")
    run = tmp_path / "run"
    train(load_train_recipe("clipsonic_iq", (*TINY_GENERATOR, *settings)), str(packed), run, progress=False)
    method = load_method(run / "gap" / "prior.safetensors")
    assert (method.name, method.options["steps"], method.options["width"]) == ("prior", 100, 32)
    asked = {}
    for gap in (None, str(run / "gap" / "prior.safetensors"), "none"):
        done = generate("high", tmp_path / f"{gap is None}", run, options=GenerateOptions(steps=2, gap=gap))
        asked[gap] = soundfile.read(done.sounds[0].path)[0]
    first, by_file, plain = asked.values()
    assert (first == by_file).all()
    assert (first != plain).any()
