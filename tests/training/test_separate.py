"""`separate`: any length, rate and number of channels, by words or pictures; bad input in one sentence."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from vidaudio.errors import EncoderError, MediaError, VidaudioError
from vidaudio.training.queries import query_maker
from vidaudio.training.recipe import load_train_recipe
from vidaudio.training.separate import separate


def _mixture(path: Path, seconds: float, rate: int, channels: int) -> Path:
    times = np.arange(int(seconds * rate)) / rate
    tone = 0.2 * np.sin(2 * np.pi * 440 * times)
    soundfile.write(path, np.stack([tone * (n + 1) / channels for n in range(channels)], axis=1), rate)
    return path


@pytest.mark.parametrize(
    ("seconds", "rate", "channels"), [(0.01, 16_000, 1), (1.7, 44_100, 2), (3.0, 8_000, 1), (0.9, 11_025, 6)]
)
def test_the_result_has_the_mixtures_length_rate_and_channels(
    tmp_path: Path, trained: Path, seconds: float, rate: int, channels: int
):
    mixture = _mixture(tmp_path / "mixture.wav", seconds, rate, channels)
    done = separate(mixture, tmp_path / "out" / "result.flac", trained, query="low")
    result = soundfile.info(done.path)
    assert (result.frames, result.samplerate, result.channels) == (int(seconds * rate), rate, channels)


def test_the_mask_is_shared_by_the_channels(tmp_path: Path, trained: Path):
    mixture = _mixture(tmp_path / "mixture.wav", 1.0, 16_000, 2)
    separate(mixture, tmp_path / "out.wav", trained, query="low")
    left, right = soundfile.read(tmp_path / "out.wav")[0].T
    assert np.abs(right - 2 * left).max() < 2e-4
    assert np.abs(left).max() > 0


def test_a_picture_is_a_query_and_differs_from_words(tmp_path: Path, trained: Path):
    mixture = _mixture(tmp_path / "mixture.wav", 1.0, 16_000, 1)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8)).save(tmp_path / "a.png")
    separate(mixture, tmp_path / "image.wav", trained, images=[tmp_path / "a.png"])
    separate(mixture, tmp_path / "words.wav", trained, query="low")
    a, b = soundfile.read(tmp_path / "image.wav")[0], soundfile.read(tmp_path / "words.wav")[0]
    assert not np.array_equal(a, b)


def test_bad_input_is_named(tmp_path: Path, trained: Path):
    mixture = _mixture(tmp_path / "mixture.wav", 0.5, 16_000, 1)
    text = tmp_path / "text.wav"
    text.write_text("no sound")
    empty = tmp_path / "empty.wav"
    soundfile.write(empty, np.zeros((0, 1)), 16_000)
    out = tmp_path / "out.wav"
    cases = [
        ("there is no sound file", {"mixture": tmp_path / "none.wav", "query": "low"}),
        ("not a sound file", {"mixture": text, "query": "low"}),
        ("holds no sound", {"mixture": empty, "query": "low"}),
        ("in words .* or by a picture", {"mixture": mixture}),
        ("ask in one way", {"mixture": mixture, "query": "low", "images": [text]}),
        ("the query is empty", {"mixture": mixture, "query": "  "}),
        ("there is no picture", {"mixture": mixture, "images": [tmp_path / "none.png"]}),
        ("is not a picture", {"mixture": mixture, "images": [text]}),
        ("is not a picture", {"mixture": mixture, "images": [_picture_of_absurd_size(tmp_path / "bomb.png")]}),
    ]
    for message, arguments in cases:
        with pytest.raises(VidaudioError, match=message):
            separate(out=out, checkpoint=trained, **arguments)
    with pytest.raises(MediaError, match=r"end it in \.wav"):
        separate(mixture, tmp_path / "out.doc", trained, query="low")
    with pytest.raises(MediaError, match="the mixture itself"):
        separate(mixture, mixture, trained, query="low")
    assert not out.exists()


def _picture_of_absurd_size(path: Path) -> Path:
    """A few bytes that promise 40,000 x 40,000 pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header)))
    return path


def test_values_that_are_not_numbers_are_refused(tmp_path: Path, trained: Path):
    path = tmp_path / "nan.wav"
    soundfile.write(path, np.array([0.0, np.nan, 0.1]), 16_000, subtype="FLOAT")
    with pytest.raises(MediaError, match="not numbers"):
        separate(path, tmp_path / "out.wav", trained, query="low")


def test_another_encoder_than_the_one_trained_with_is_refused(tmp_path: Path, trained: Path, tiny_clip: Path):
    import shutil

    import torch
    from safetensors.torch import load_file, save_file

    other = tmp_path / "other"
    shutil.copytree(tiny_clip, other)
    weights = load_file(other / "open_clip_model.safetensors")
    weights["visual.proj"] = weights["visual.proj"] + torch.ones_like(weights["visual.proj"])
    save_file(weights, other / "open_clip_model.safetensors")
    mixture = _mixture(tmp_path / "mixture.wav", 0.5, 16_000, 1)
    with pytest.raises(EncoderError, match="do not mix"):
        separate(mixture, tmp_path / "out.wav", trained, query="low", encoder_weights=str(other))


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_an_mp3_can_be_written_as_anything(tmp_path: Path, trained: Path, suffix: str):
    times = np.arange(22_050) / 44_100
    soundfile.write(tmp_path / "mixture.mp3", 0.2 * np.sin(2 * np.pi * 440 * times), 44_100)
    out = tmp_path / "out" / f"result.{suffix}"
    separate(tmp_path / "mixture.mp3", out, trained, query="low")
    assert soundfile.info(out).samplerate == 44_100
    assert [path.name for path in out.parent.iterdir()] == [out.name]


@pytest.mark.parametrize("how", ["words", "picture"])
def test_weights_that_are_not_there_are_refused_though_the_recorded_ones_are(
    tmp_path: Path, trained: Path, tiny_clip: Path, how: str
):
    mixture = _mixture(tmp_path / "mixture.wav", 0.5, 16_000, 1)
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    asked = {"query": "low"} if how == "words" else {"images": [tmp_path / "a.png"]}
    with pytest.raises(EncoderError, match=r"there is no file or folder .*nothere"):
        separate(mixture, tmp_path / "out.wav", trained, encoder_weights=str(tmp_path / "nothere"), **asked)
    # A file alone cannot stand for a folder, and would otherwise not be looked at.
    file = str(tiny_clip / "open_clip_model.safetensors")
    with pytest.raises(EncoderError, match="wants such a folder, not the file"):
        separate(mixture, tmp_path / "out.wav", trained, encoder_weights=file, **asked)
    assert not (tmp_path / "out.wav").exists()


def test_weights_that_nothing_reads_are_refused_or_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    recipe = load_train_recipe("labelsep")
    with pytest.raises(EncoderError, match="there is no file or folder /nothere"):
        query_maker(recipe, encoder=None, labels=["low"], weights="/nothere")
    query_maker(recipe, encoder=None, labels=["low"], weights=str(tmp_path))
    assert "labelsep needs no encoder to be asked: --encoder-weights" in capsys.readouterr().err
