"""File names that are not UTF-8: sounds and videos are read and written, and what cannot be is named in a sentence."""

from __future__ import annotations

import io
import os
from pathlib import Path

import ffmpeg
import numpy as np
import pytest
import soundfile

from vidaudio.corpus.corpus import open_corpus
from vidaudio.errors import CheckpointError, CorpusError
from vidaudio.media.audio_files import check_output, read_sound, write_result
from vidaudio.media.ffmpeg import run_ffmpeg
from vidaudio.media.soundtrack import video_pictures
from vidaudio.packs.audio_only import pack_sounds
from vidaudio.training.checkpoint import read_checkpoint

ODD = os.fsdecode(b"\xe9")
TONE = np.sin(np.arange(8_000) / 9) / 4


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg"])
def test_sounds_are_read_and_written(kind: str, tmp_path: Path):
    data = io.BytesIO()
    soundfile.write(data, TONE, 8_000, format=kind.upper())
    path, out = tmp_path / f"{ODD}x.{kind}", tmp_path / f"o{ODD}.{kind}"
    path.write_bytes(data.getvalue())
    sound = read_sound(path)
    check_output(out, path)
    write_result(out, sound, path)
    plain = tmp_path / f"plain.{kind}"
    write_result(plain, sound, path)
    assert (len(sound.samples[0]), sound.sample_rate) == (8_000, 8_000)
    assert np.array_equal(read_sound(out).samples, read_sound(plain).samples)


def test_videos_are_read_and_written(tmp_path: Path):
    plain, odd = tmp_path / "plain.mp4", tmp_path / f"{ODD}v.mp4"
    picture = ffmpeg.input("testsrc=size=64x64:rate=5:duration=2", format="lavfi")
    tone = ffmpeg.input("sine=frequency=440:sample_rate=16000:duration=2", format="lavfi")
    run_ffmpeg(ffmpeg.output(picture, tone, str(plain), vcodec="mpeg4", acodec="aac"))
    odd.write_bytes(plain.read_bytes())
    sound = read_sound(odd)
    assert np.array_equal(sound.samples, read_sound(plain).samples)
    out = tmp_path / f"o{ODD}.mp4"
    check_output(out, odd)
    write_result(out, sound, odd)
    assert read_sound(out).seconds == pytest.approx(2, abs=0.2)
    assert len(video_pictures(out, 32)) == 2
    left = sorted(os.listdir(os.fsencode(tmp_path)))
    assert left == sorted([b"plain.mp4", b"\xe9v.mp4", b"o\xe9.mp4"])


def test_what_other_libraries_cannot_open_is_named(tmp_path: Path):
    run = tmp_path / f"run{ODD}"
    run.mkdir()
    (run / "best.safetensors").write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"run\\xe9/best.safetensors is not UTF-8.*rename it"):
        read_checkpoint(run)
    with pytest.raises(CorpusError, match=r"run\\xe9 is not UTF-8.*rename it"):
        open_corpus(str(run))
    with pytest.raises(CorpusError, match=r"run\\xe9 is not UTF-8.*rename it"):
        pack_sounds(tmp_path / "m.parquet", run)
