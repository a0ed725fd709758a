"""`separate`: any length, rate and number of channels, by words or pictures; bad input in one sentence."""

from __future__ import annotations

import json
import re
import struct
import zlib
from pathlib import Path

import ffmpeg
import numpy as np
import pytest
import soundfile
from PIL import Image

from vidaudio.cli import main
from vidaudio.errors import CheckpointError, EncoderError, MediaError, VidaudioError
from vidaudio.media.audio_files import read_sound
from vidaudio.media.ffmpeg import run_ffmpeg
from vidaudio.tasks.registry import load_train_recipe
from vidaudio.tasks.separation.query_factory import make_query_encoder
from vidaudio.tasks.separation.separate import SoundQuery, separate


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


def test_the_command_shows_a_bar_and_says_what_it_wrote(
    tmp_path: Path, trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """The bar on stderr has windows and time left; stdout has the result alone, which --json makes JSON."""
    mixture = _mixture(tmp_path / "mixture.wav", 4.0, 16_000, 2)
    command = ["vidaudio", "separate", str(mixture), "-q", "low", "-c", str(trained), "-o", str(tmp_path / "out.wav")]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit):
        main()
    said = capsys.readouterr()
    written = soundfile.read(tmp_path / "out.wav")[0]
    rms, peak = 20 * np.log10(np.sqrt(np.mean(written**2))), 20 * np.log10(np.abs(written).max())
    expected = (
        rf"{re.escape(str(tmp_path / 'out.wav'))}: 4\.00 s, 2 channels, 16000 Hz, (\S+) dBFS RMS, peak (\S+) dBFS\n"
    )
    found = re.fullmatch(expected, said.out)
    assert [float(found[1]), float(found[2])] == pytest.approx([rms, peak], abs=0.11)
    bars = re.findall(r"separating: +\d+%.* (\d+)/(\d+) \[.*<.*window", said.err)
    assert bars[-1] == ("16", "16")
    monkeypatch.setattr("sys.argv", [*command, "--json", "--quiet"])
    with pytest.raises(SystemExit):
        main()
    said = capsys.readouterr()
    assert said.err == ""
    described = json.loads(said.out)
    assert (described["seconds"], described["channels"], described["sample_rate"]) == (4.0, 2, 16_000)
    assert described["files"][0]["path"] == str(tmp_path / "out.wav")
    assert described["files"][0]["rms_dbfs"] == pytest.approx(rms, abs=0.02)


def test_silence_has_no_level(tmp_path: Path, trained: Path):
    soundfile.write(tmp_path / "silence.wav", np.zeros(4000), 16_000)
    done = separate(tmp_path / "silence.wav", tmp_path / "out.wav", trained, query="low")
    assert str(done).endswith("0.25 s, 1 channel, 16000 Hz, silence")
    assert done.as_dict()["files"][0]["rms_dbfs"] is None


def test_the_mask_is_shared_by_the_channels(tmp_path: Path, trained: Path):
    mixture = _mixture(tmp_path / "mixture.wav", 1.0, 16_000, 2)
    separate(mixture, tmp_path / "out.wav", trained, query="low")
    left, right = soundfile.read(tmp_path / "out.wav")[0].T
    assert np.abs(right - 2 * left).max() < 2e-4
    assert np.abs(left).max() > 0


def test_a_picture_is_a_query_and_differs_from_words(tmp_path: Path, trained: Path):
    mixture = _mixture(tmp_path / "mixture.wav", 1.0, 16_000, 1)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8)).save(tmp_path / "a.png")
    separate(mixture, tmp_path / "image.wav", trained, query=SoundQuery(images=[tmp_path / "a.png"]))
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
    bomb = _picture_of_absurd_size(tmp_path / "bomb.png")
    cases = [
        ("there is no sound file", {"mixture": tmp_path / "none.wav", "query": "low"}),
        ("is a folder; name a sound file", {"mixture": tmp_path, "query": "low"}),
        ("not a sound file", {"mixture": text, "query": "low"}),
        ("holds no sound", {"mixture": empty, "query": "low"}),
        ("in words .* or by a picture", {"mixture": mixture}),
        ("ask in one way", {"mixture": mixture, "query": SoundQuery(words=["low"], images=[text])}),
        ("the query is empty", {"mixture": mixture, "query": "  "}),
        ("there is no picture", {"mixture": mixture, "query": SoundQuery(images=[tmp_path / "none.png"])}),
        ("is not a picture", {"mixture": mixture, "query": SoundQuery(images=[text])}),
        ("is not a picture", {"mixture": mixture, "query": SoundQuery(images=[bomb])}),
    ]
    for message, arguments in cases:
        with pytest.raises(VidaudioError, match=message):
            separate(out=out, checkpoint=trained, **arguments)
    with pytest.raises(CheckpointError, match=r"is a state for `vidaudio train --resume`.* or its best\.safetensors"):
        separate(mixture, out, trained / "last.ckpt", query="low")
    with pytest.raises(MediaError, match=r"end it in \.wav"):
        separate(mixture, tmp_path / "out.doc", trained, query="low")
    with pytest.raises(MediaError, match="the mixture itself"):
        separate(mixture, mixture, trained, query="low")
    assert not out.exists()


@pytest.mark.parametrize("kind", ["wav", "flac", "mp3", "tagged.mp3", "mp4"])
def test_a_file_that_breaks_off_is_read_as_far_as_it_goes_and_that_is_said(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], kind: str
):
    whole, cut = tmp_path / f"whole.{kind}", tmp_path / f"cut.{kind}"
    sound = np.random.default_rng(0).normal(0, 0.1, 4 * 16_000)
    soundfile.write(tmp_path / "sound.wav", sound, 16_000)
    # Of an MP4 the table of samples comes first, so that it is not what is cut off.
    options = {
        "mp3": {"write_id3v2": 0},
        "tagged.mp3": {"metadata": f"title={'long ' * 400}"},
        "mp4": {"movflags": "faststart"},
    }
    run_ffmpeg(ffmpeg.output(ffmpeg.input(str(tmp_path / "sound.wav")), str(whole), **options.get(kind, {})))
    assert read_sound(whole).seconds == pytest.approx(4, abs=0.1)
    assert capfd.readouterr().err == ""
    cut.write_bytes(whole.read_bytes()[: int(0.6 * whole.stat().st_size)])
    heard = read_sound(cut).seconds
    assert 1.5 < heard < 3
    # Nothing else, not even what libraries would say of it.
    sentence = r".*cut\.\S+ breaks off after (\S+) s of the (\S+) s that it announces; .*\n"
    said = re.fullmatch(sentence, capfd.readouterr().err)
    assert (float(said[1]), float(said[2])) == (pytest.approx(heard, abs=0.01), pytest.approx(4, abs=0.1))


@pytest.mark.parametrize(("name", "options"), [("plain.mp3", {"write_xing": 0, "q:a": 4}), ("piped.wav", {})])
def test_of_a_length_that_a_file_does_not_state_nothing_is_missed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str, options: dict
):
    """An MP3 of uneven bitrate, whose length can only be guessed; a WAV that was written to a pipe."""
    loud_then_quiet = np.r_[np.random.default_rng(0).normal(0, 0.1, 3 * 16_000), np.zeros(3 * 16_000)]
    soundfile.write(tmp_path / "sound.wav", loud_then_quiet, 16_000)
    path = tmp_path / name
    run_ffmpeg(ffmpeg.output(ffmpeg.input(str(tmp_path / "sound.wav")), str(path), **options))
    if path.suffix == ".wav":
        written = bytearray(path.read_bytes())
        at = written.index(b"data") + 4
        written[4:8] = written[at : at + 4] = b"\xff" * 4
        path.write_bytes(written)
    assert read_sound(path).seconds == pytest.approx(6, abs=0.2)
    said = capfd.readouterr().err
    assert "does not state its length" in said if path.suffix == ".wav" else said == ""


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
    query = "low" if how == "words" else SoundQuery(images=[tmp_path / "a.png"])
    with pytest.raises(EncoderError, match=r"there is no file or folder .*nothere"):
        separate(mixture, tmp_path / "out.wav", trained, query=query, encoder_weights=str(tmp_path / "nothere"))
    # A file alone cannot stand for a folder, and would otherwise not be looked at.
    file = str(tiny_clip / "open_clip_model.safetensors")
    with pytest.raises(EncoderError, match="wants such a folder, not the file"):
        separate(mixture, tmp_path / "out.wav", trained, query=query, encoder_weights=file)
    assert not (tmp_path / "out.wav").exists()


def test_weights_that_nothing_reads_are_refused_or_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    recipe = load_train_recipe("labelsep")
    with pytest.raises(EncoderError, match="there is no file or folder /nothere"):
        make_query_encoder(recipe, encoder=None, labels=["low"], weights="/nothere")
    make_query_encoder(recipe, encoder=None, labels=["low"], weights=str(tmp_path))
    assert "labelsep needs no encoder to be asked: --encoder-weights" in capsys.readouterr().err


def test_sound_in_floats_beyond_full_scale_stays_and_elsewhere_is_cut_and_reported(
    tmp_path: Path, trained: Path, caplog: pytest.LogCaptureFixture
):
    quiet = _mixture(tmp_path / "quiet.wav", 1.0, 16_000, 1)
    tone = soundfile.read(quiet)[0]
    loud = tmp_path / "loud.wav"
    soundfile.write(loud, 40 * tone, 16_000, subtype="FLOAT")
    everything = SoundQuery(words=["low"])
    done = separate(loud, tmp_path / "out.wav", trained, query=everything)
    written = soundfile.read(done.path)[0]
    assert soundfile.info(done.path).subtype == "FLOAT"
    assert np.abs(written).max() > 1
    assert done.peak_dbfs[0] == pytest.approx(20 * np.log10(np.abs(written).max()), abs=0.01)
    assert not caplog.messages
    cut = separate(loud, tmp_path / "out.flac", trained, query=everything)
    assert any(re.search(r"samples are cut at full scale \(the peak is \+\d", line) for line in caplog.messages)
    assert cut.peak_dbfs[0] == pytest.approx(0, abs=0.01)
    np.testing.assert_allclose(soundfile.read(cut.path)[0], written.clip(-1, 1), atol=1e-4)
