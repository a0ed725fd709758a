"""Autoguidance by a weaker copy: what it changes, what the files say of it, and which copies are refused."""

from __future__ import annotations

import json

import pytest
import soundfile
import torch

from tests.packed import make_packed
from tests.tasks.conftest import TINY_GENERATOR
from vidaudio.errors import CheckpointError, UsageError
from vidaudio.generation import Guidance, SamplerConfig
from vidaudio.hashing import sha256_of
from vidaudio.tasks.generation.checkpoint import load_generator, load_weaker
from vidaudio.tasks.generation.generate import GenerateOptions, GenerationQuery, generate
from vidaudio.tasks.generation.sounds import SoundGenerator
from vidaudio.tasks.registry import load_train_recipe, train

SHORT = ("schedule.steps=2", "log.to=none")
QUICK = {"steps": 3, "gap": "none"}


def made(run, *settings, data):
    train(load_train_recipe("clipsonic_iq", (*TINY_GENERATOR, *SHORT, *settings)), str(data), run, progress=False)
    return run


@pytest.fixture(scope="module")
def smaller(packed, tmp_path_factory):
    return made(tmp_path_factory.mktemp("weaker") / "run", "model.unet.channels=8", data=packed)


def mels(strong, weaker, scale):
    generator = SoundGenerator(strong.model, strong.recipe, weaker=None if weaker is None else weaker.model)
    vectors = torch.randn(2, strong.model.config.condition_dimensions, generator=torch.Generator().manual_seed(0))
    return generator.mels(vectors, [3, 4], sampler=SamplerConfig(steps=4), guidance=Guidance(scale))


def test_a_weaker_copy_matters_where_there_is_guidance_and_it_differs(trained_generator, smaller):
    strong = load_generator(trained_generator)
    weaker, same = load_weaker(smaller, strong), load_weaker(trained_generator, strong)
    none = mels(strong, None, 1.0)
    assert torch.equal(mels(strong, weaker, 1.0), none)
    torch.testing.assert_close(mels(strong, same, 3.0), none, rtol=0, atol=1e-5)
    guided = mels(strong, weaker, 3.0)
    assert (guided - none).abs().max() > 0.01
    assert (guided - mels(strong, None, 3.0)).abs().max() > 0.01


def test_files_name_the_weaker_copy_and_the_settings_of_guidance(trained_generator, smaller, tmp_path):
    settings = {"guidance": 2.0, "guidance_interval": (0.2, 0.8), "guidance_rescale": 0.5, "weaker": smaller}
    done = generate("a tone", tmp_path / "out", trained_generator, options=GenerateOptions(**QUICK, **settings))
    with soundfile.SoundFile(done.sounds[0].path) as file:
        facts = json.loads(file.comment)
    assert facts["weaker_sha256"] == sha256_of(smaller / "best.safetensors")
    assert (facts["guidance"], facts["guidance_interval"], facts["guidance_rescale"]) == (2.0, [0.2, 0.8], 0.5)
    plain = generate("a tone", tmp_path / "plain", trained_generator, options=GenerateOptions(**QUICK))
    with soundfile.SoundFile(plain.sounds[0].path) as file:
        assert "weaker_sha256" not in json.loads(file.comment)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"guidance_interval": (0.8, 0.2)}, "rising"),
        ({"guidance_rescale": 2.0}, "between 0 and 1"),
    ],
)
def test_settings_of_guidance_out_of_range(settings, words, trained_generator, tmp_path):
    with pytest.raises(UsageError, match=words):
        generate("a tone", tmp_path / "out", trained_generator, options=GenerateOptions(**QUICK, **settings))


def test_words_to_move_away_from_and_a_weaker_copy_are_not_both(trained_generator, smaller, tmp_path):
    query, options = GenerationQuery("a tone", without="wind"), GenerateOptions(**QUICK, weaker=smaller)
    with pytest.raises(UsageError, match="--without and --weaker"):
        generate(query, tmp_path / "out", trained_generator, options=options)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (("model.mel.bands=32",), "model.mel"),
        (("model.process.steps=1000",), "model.process"),
        (("data.window_seconds=1.024",), "frames"),
    ],
)
def test_a_copy_that_generates_other_mels_is_refused(settings, named, trained_generator, packed, tmp_path):
    other = made(tmp_path / "other", *settings, data=packed)
    with pytest.raises(CheckpointError, match=f"they differ in {named};") as error:
        generate("a tone", tmp_path / "out", trained_generator, options=GenerateOptions(**QUICK, weaker=other))
    assert str(other / "best.safetensors") in str(error.value)
    assert str(trained_generator / "best.safetensors") in str(error.value)


def test_a_copy_with_conditions_of_another_encoder_is_refused(trained_generator, encoder_fingerprint, tmp_path):
    fingerprint = dict(encoder_fingerprint) | {"weights_sha256": "f" * 64}
    data = make_packed(tmp_path / "data", fingerprint, clips_per_split={"train": 8, "val": 4})
    other = made(tmp_path / "other", data=data)
    with pytest.raises(CheckpointError, match="they differ in encoder;"):
        load_weaker(other, load_generator(trained_generator))
