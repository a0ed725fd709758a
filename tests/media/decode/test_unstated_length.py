"""Recordings whose header was never finished, and files written to pipes: read to their end, sample by sample."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import ffmpeg
import numpy as np
import pytest
import soundfile

from vidaudio.errors import MediaError
from vidaudio.media.audio_files import read_sound
from vidaudio.media.decode.unstated_length import completed_header, read_sound_file
from vidaudio.media.ffmpeg import run_ffmpeg
from vidaudio.report.listening.sounds import read_sound as read_for_listening

RATE, FRAMES = 16_000, 24_001
ZERO, ALL = b"\0", b"\xff"


def _after(data: bytes, name: bytes, skip: int = 4) -> int:
    return data.index(name) + skip


def _wav(data: bytearray, fill: bytes, *, riff: bool = True) -> None:
    at = _after(bytes(data), b"data")
    data[at : at + 4] = 4 * fill
    if riff:
        data[4:8] = 4 * fill


def _data_alone(data: bytearray, fill: bytes) -> None:
    _wav(data, fill, riff=False)


def _rf64(data: bytearray, fill: bytes) -> None:
    at = _after(bytes(data), b"ds64", 8)
    data[at : at + 24] = 24 * fill


def _au(data: bytearray, fill: bytes) -> None:
    data[8:12] = 4 * fill


KINDS: list[tuple[str, str, Callable[[bytearray, bytes], None]]] = [
    ("WAV", "PCM_16", _wav),
    ("WAV", "PCM_24", _wav),
    ("WAV", "FLOAT", _data_alone),
    ("WAVEX", "PCM_16", _wav),
    ("RF64", "PCM_16", _rf64),
    ("AU", "PCM_16", _au),
]


@pytest.fixture
def sound() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, (FRAMES, 2)).clip(-1, 1)


@pytest.mark.parametrize("fill", [ZERO, ALL], ids=["zero", "all ones"])
@pytest.mark.parametrize(("kind", "subtype", "unfinish"), KINDS, ids=[f"{k}-{s}" for k, s, _ in KINDS])
def test_a_header_that_was_never_finished(tmp_path: Path, sound, capfd, kind, subtype, unfinish, fill):
    path = tmp_path / "recording.wav"
    soundfile.write(path, sound, RATE, format=kind, subtype=subtype)
    whole = soundfile.read(path, dtype="float32")[0]
    data = bytearray(path.read_bytes())
    unfinish(data, fill)
    path.write_bytes(data)
    found = read_sound_file(path)
    assert np.array_equal(found.samples[:FRAMES], whole)
    # libsndfile's chunks after the samples cannot be told from sound, and are a few samples at most.
    assert len(found.samples) - FRAMES < 20
    assert (found.sample_rate, found.subtype, found.length_stated) == (RATE, subtype, False)
    assert read_sound(path).samples.shape == found.samples.T.shape
    assert "recording.wav does not state its length" in capfd.readouterr().err
    assert len(read_for_listening(path).samples) == len(found.samples)
    # Killed while it wrote: the end is no whole frame.
    path.write_bytes(bytes(data)[:-4001])
    assert 0 < FRAMES - read_sound(path).samples.shape[1] < 2000


@pytest.mark.parametrize("kind", ["WAV", "WAVEX", "RF64", "AU", "FLAC", "OGG", "AIFF"])
def test_a_finished_header_is_left_as_it_is(tmp_path: Path, sound, capfd, kind):
    path = tmp_path / "sound"
    soundfile.write(path, sound, RATE, format=kind)
    assert completed_header(path) is None
    assert read_sound_file(path).length_stated
    assert read_sound(path).samples.shape == (2, FRAMES)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "chunk", [b"", b"LIST" + struct.pack("<I", 4) + b"INFO", b"note" + struct.pack("<I", 3) + b"abc\0"]
)
def test_a_wav_without_sound_holds_none_whatever_follows_its_empty_data(tmp_path: Path, chunk: bytes):
    path = tmp_path / "empty.wav"
    soundfile.write(path, np.zeros((0, 1)), RATE)
    header = path.read_bytes()
    path.write_bytes(header[: header.index(b"data") + 8] + chunk)
    assert completed_header(path) is None
    with pytest.raises(MediaError, match="holds no sound"):
        read_sound(path)


def test_a_flac_written_to_a_pipe(tmp_path: Path, sound):
    """libsndfile opens it, says that it has 2^63 - 1 samples, and cannot read one."""
    path = tmp_path / "piped.flac"
    soundfile.write(path, sound, RATE)
    data = bytearray(path.read_bytes())
    data[21:26] = bytes([data[21] & 0xF0, 0, 0, 0, 0])
    path.write_bytes(data)
    assert read_sound(path).samples.shape == (2, FRAMES)
    with pytest.raises(MediaError, match=r"cannot be read as a sound: .* does not state its length"):
        read_for_listening(path)


@pytest.mark.parametrize(
    "name", ["2024-01-01T12:30:00.mp4", "a:b.mp4", "http:x.mp4", "pipe:1.mp4", "-.mp4", "a#b?c%20d.mp4", "x\ny.mp4"]
)
def test_files_may_have_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sound, name: str):
    from vidaudio.media.soundtrack import replace_soundtrack, video_pictures

    monkeypatch.chdir(tmp_path)
    soundfile.write(tmp_path / "plain.wav", sound, RATE)
    picture = ffmpeg.input("color=c=red:s=64x64:d=2:r=5", f="lavfi")
    heard = ffmpeg.input("plain.wav")
    run_ffmpeg(ffmpeg.output(picture, heard, "plain.mp4", vcodec="mpeg4", acodec="aac"))
    Path("plain.mp4").rename(tmp_path / name)
    # Named as it stands in the folder, without anything before it.
    assert read_sound(Path(name)).seconds == pytest.approx(FRAMES / RATE, abs=0.2)
    assert len(video_pictures(name, 32)) == 2
    replace_soundtrack(name, Path("plain.wav"), Path("new:" + name), ".mp4")
    assert read_sound("new:" + name).seconds == pytest.approx(FRAMES / RATE, abs=0.2)
    Path("plain.wav").rename(tmp_path / (name + ".wav"))
    assert read_sound(name + ".wav").samples.shape == (2, FRAMES)
