"""Sounds of a corpus, decoded within bounds: a small FLAC file may hold more than a machine's memory."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from vidaudio.media import flac
from vidaudio.media.flac import BadSound, decode_sound, write_wav

RATE = 16_000
VALUES = np.arange(-1500, 1500, dtype=np.int16)


def encoded(kind: str) -> bytes:
    sink = io.BytesIO()
    soundfile.write(sink, VALUES, RATE, format=kind, subtype="PCM_16")
    return sink.getvalue()


def test_a_wav_file_has_the_bytes_that_libsndfile_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flac, "BLOCK_SAMPLES", 700)
    out = io.BytesIO()
    write_wav(encoded("FLAC"), len(VALUES), out)
    assert out.getvalue() == encoded("WAV")


def test_a_sound_of_more_samples_than_may_be_read_at_once_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flac, "MAX_SAMPLES", 2000)
    data = encoded("FLAC")
    with pytest.raises(BadSound, match="3,000 samples are more than the 2,000"):
        decode_sound(data)
    with pytest.raises(BadSound, match="more than the 2,000"):
        write_wav(data, len(VALUES), io.BytesIO())
    # A window of it is no more than it was.
    values, rate = decode_sound(data, first=1000, count=2000)
    assert (values.tolist(), rate) == (VALUES[1000:].tolist(), RATE)


def test_what_is_cut_is_said_and_a_full_disk_stays_an_error_of_the_disk() -> None:
    with pytest.raises(BadSound, match="decode"):
        write_wav(encoded("WAV")[:-100], len(VALUES), io.BytesIO())
    with pytest.raises(OSError, match="No space"), Path("/dev/full").open("wb", buffering=0) as full:
        write_wav(encoded("FLAC"), len(VALUES), full)
