"""Separation with a generator: parts that sum to the mixture, its form, and checkpoints of the other family."""

import json
import sys

import numpy as np
import pytest
import soundfile
import torch

from vidaudio.cli import main
from vidaudio.errors import CheckpointError, QueryError, UsageError
from vidaudio.separation import Request
from vidaudio.tasks.generation.checkpoint import load_generator
from vidaudio.tasks.generation.separate import (
    GeneratorSeparationOptions,
    GeneratorSeparator,
    separate_with_generator,
)
from vidaudio.tasks.generation.sounds import SoundGenerator
from vidaudio.tasks.registry import separation_method
from vidaudio.tasks.separation.separate import SoundQuery

QUICK = {"steps": 3, "gap": "none"}


def mixture_of(path, seconds: float, rate: int, channels: int):
    samples = round(seconds * rate)
    times = np.arange(samples) / rate
    tone = 0.2 * np.sin(2 * np.pi * 250 * times) + 0.2 * np.sin(2 * np.pi * 2250 * times)
    soundfile.write(path, np.stack([tone / (number + 1) for number in range(channels)], 1), rate, subtype="FLOAT")
    return path


@pytest.mark.parametrize(
    ("seconds", "rate", "channels"), [(0.01, 16_000, 1), (1.7, 44_100, 2), (0.512, 16_000, 1), (1.0, 8_000, 3)]
)
def test_the_result_has_the_mixture_s_form(seconds, rate, channels, trained_generator, tmp_path):
    mixture = mixture_of(tmp_path / "mixture.wav", seconds, rate, channels)
    options = GeneratorSeparationOptions(**QUICK)
    done = separate_with_generator(
        mixture, tmp_path / "out" / "low.wav", trained_generator, query="low", options=options
    )
    found = soundfile.info(done.path)
    assert (found.frames, found.samplerate, found.channels) == (round(seconds * rate), rate, channels)
    assert np.isfinite(soundfile.read(done.path)[0]).all()


def test_what_is_asked_for_and_the_rest_sum_to_the_mixture(trained_generator, tmp_path):
    mixture = mixture_of(tmp_path / "mixture.wav", 1.7, 16_000, 2)
    options = GeneratorSeparationOptions(**QUICK)
    sounds = []
    for name, query in (("target", SoundQuery(words=["low"])), ("rest", SoundQuery(without=["low"]))):
        out = tmp_path / f"{name}.wav"
        separate_with_generator(mixture, out, trained_generator, query=query, options=options)
        sounds.append(soundfile.read(out)[0])
    whole = soundfile.read(mixture)[0]
    np.testing.assert_allclose(sum(sounds), whole, atol=1e-5)
    assert all(np.std(sound) > 1e-3 * np.std(whole) for sound in sounds)


def separator_of(run, **options) -> tuple[GeneratorSeparator, torch.Tensor]:
    """Return a separator, and the vectors of the three tones that the generator knows: 250, 750 and 2,250 Hz."""
    loaded = load_generator(run)
    dimensions = loaded.model.config.condition_dimensions
    vectors = [np.random.default_rng(100 + kind).normal(0, 1, dimensions) for kind in range(3)]
    separator = GeneratorSeparator(
        SoundGenerator(loaded.model, loaded.recipe), GeneratorSeparationOptions(**{**QUICK, **options})
    )
    return separator, torch.from_numpy(np.stack(vectors)).float()


def test_of_two_tones_the_one_that_is_asked_for_stays(trained_generator):
    # The generator was trained for a moment: guidance makes up for some of that.
    separator, vectors = separator_of(trained_generator, steps=12, guidance=3.0)
    times = torch.arange(24_000) / 16_000
    tones = [0.2 * torch.sin(2 * torch.pi * hertz * times) for hertz in (250, 2250)]

    def level(sound: torch.Tensor, tone: torch.Tensor) -> float:
        """Return how loud a tone is in a sound, in decibels of the tone itself."""
        return 20 * float(torch.log10((sound @ tone).abs() / (tone @ tone)))

    for asked, other, vector in ((*tones, vectors[:1]), (*tones[::-1], vectors[2:])):
        found = separator.separate(sum(tones)[None], Request(vector, vectors[:0]))[0]
        assert abs(level(found, asked)) < 2
        assert level(found, other) < -10


def test_requests_combine_masks(trained_generator):
    separator, vectors = separator_of(trained_generator)
    sound = 0.2 * torch.randn(1, 20_000, generator=torch.Generator().manual_seed(0))
    none = vectors[:0]

    def level(request: Request) -> float:
        return float(separator.separate(sound, request).std())

    one, both = level(Request(vectors[:1], none)), level(Request(vectors[:2], none))
    assert both >= one - 1e-6
    assert level(Request(vectors[:1], vectors[1:2])) <= one + 1e-6


def test_progress_counts_every_step(trained_generator):
    separator, vectors = separator_of(trained_generator, steps=4)
    seen = []
    separator.separate(
        torch.rand(1, 20_000) - 0.5,
        Request(vectors[:1], vectors[1:2]),
        vectors[2],
        progress=lambda done, total: seen.append((done, total)),
    )
    # Windows of 16 frames in 40: four; one inversion and two prompts.
    assert seen == [(done, 4 * 4 * 3) for done in range(4 * 4 * 3 + 1)]


def test_masks_may_be_binary_and_sounds_rendered(trained_generator, tmp_path):
    mixture = mixture_of(tmp_path / "mixture.wav", 1.0, 16_000, 2)
    found = {}
    for name, settings in {
        "soft": {},
        "binary": {"threshold": 0.5},
        "rendered": {"render": True},
        "described": {"mixture": "noise"},
        "guided": {"guidance": 3.0},
    }.items():
        options = GeneratorSeparationOptions(**QUICK, **settings)
        out = tmp_path / f"{name}.wav"
        separate_with_generator(mixture, out, trained_generator, query="low", options=options)
        found[name] = soundfile.read(out)[0]
    for name in ("binary", "rendered", "described", "guided"):
        assert not np.allclose(found[name], found["soft"], atol=1e-5), name
    # A rendered sound is one sound; a masked one keeps the image of the stereo mixture.
    np.testing.assert_allclose(found["rendered"][:, 0], found["rendered"][:, 1])
    np.testing.assert_allclose(found["soft"][:, 0], 2 * found["soft"][:, 1], atol=1e-5)


def test_the_method_is_the_checkpoint_s(trained, trained_generator):
    assert separation_method(trained) == "separator"
    assert separation_method(trained_generator) == "generator"
    assert separation_method(trained_generator / "best.safetensors", "generator") == "generator"
    with pytest.raises(CheckpointError, match=r"is a separator \(clipsep\): leave --method out, or say --method sep"):
        separation_method(trained, "generator")
    with pytest.raises(CheckpointError, match=r"is a generator \(clipsonic_iq\): leave --method out"):
        separation_method(trained_generator, "separator")
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        separation_method("missing.safetensors")


def test_a_run_without_best_weights_has_a_method_too(trained_generator, tmp_path):
    (tmp_path / "last.ckpt").symlink_to(trained_generator / "last.ckpt")
    assert separation_method(tmp_path) == "generator"


@pytest.mark.parametrize(
    ("run", "arguments", "words"),
    [
        ("trained", ["--steps", "3"], "--steps is for generators"),
        ("trained", ["--render"], "--render is for generators"),
        ("trained", ["--method", "generator"], "is a separator"),
        ("trained_generator", ["--method", "separator"], "is a generator"),
        ("trained_generator", ["--method", "masks"], "there is no method 'masks'; there are separator, generator"),
        ("trained_generator", ["--steps", "9999"], "between 1 and 4,000"),
        ("trained_generator", ["--guidance", "-1"], "between 0 and 100"),
        ("trained_generator", ["--render", "--threshold", "0.5"], "no mask"),
    ],
)
def test_the_command_refuses_what_does_not_fit(run, arguments, words, request, tmp_path, monkeypatch, capsys):
    mixture = mixture_of(tmp_path / "mixture.wav", 0.5, 16_000, 1)
    command = ["vidaudio", "separate", str(mixture), "-q", "low", "-c", str(request.getfixturevalue(run))]
    monkeypatch.setattr(sys, "argv", [*command, "-o", str(tmp_path / "out.wav"), "--gap", "none", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert words in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out.wav").exists()


def test_the_command_separates_with_a_generator(trained_generator, tmp_path, monkeypatch, capsys):
    mixture = mixture_of(tmp_path / "mixture.wav", 0.5, 16_000, 1)
    command = ["vidaudio", "separate", str(mixture), "-q", "low", "-c", str(trained_generator)]
    command += ["-o", str(tmp_path / "out.wav"), "--gap", "none", "--steps", "2", "--mixture", "two tones", "--json"]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert json.loads(capsys.readouterr().out)["files"][0]["path"] == str(tmp_path / "out.wav")


def test_wishes_that_cannot_be_met(trained, trained_generator, tmp_path):
    mixture = mixture_of(tmp_path / "mixture.wav", 0.5, 16_000, 1)
    options = GeneratorSeparationOptions(**QUICK)
    out = tmp_path / "out.wav"
    with pytest.raises(CheckpointError, match="generation"):
        separate_with_generator(mixture, out, trained, query="low", options=options)
    with pytest.raises(QueryError, match="say what to separate"):
        separate_with_generator(mixture, out, trained_generator, query=SoundQuery(), options=options)
    with pytest.raises(UsageError, match="none to render"):
        separate_with_generator(
            mixture,
            out,
            trained_generator,
            query=SoundQuery(without=["low"]),
            options=GeneratorSeparationOptions(render=True, **QUICK),
        )
    with pytest.raises(UsageError, match="0 rounds"):
        GeneratorSeparationOptions(rounds=0)
