"""What goes into an encoder: the spec says it, the fingerprint repeats it, and one function loads what is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vidaudio.encoders.base import Encoder
from vidaudio.encoders.image import PictureEncoder
from vidaudio.encoders.load import load_encoder
from vidaudio.encoders.naming import description_bytes
from vidaudio.encoders.spec import EncoderSpec
from vidaudio.errors import EncoderError
from vidaudio.stream.index_checks import BadIndex, check_fingerprint

SOUND = EncoderSpec("hf-hub:some/Clap.Large", None, "float32", 4, input="sound", sample_rate=48_000)


class OfSound(Encoder):
    dimensions = 6

    @property
    def fingerprint(self) -> dict[str, Any]:
        return super().fingerprint | {"window_seconds": 10.0, "hop_seconds": 5.0}


def test_pictures_are_what_goes_in_where_nothing_is_said(tiny_clip: Path):
    encoder = load_encoder(EncoderSpec(str(tiny_clip), None, "float32", 2))
    assert isinstance(encoder, PictureEncoder)
    assert encoder.input == "frames"
    assert not {"input", "sample_rate"} & set(json.loads(description_bytes(encoder.fingerprint)))


def test_an_encoder_of_sound_says_so_in_its_fingerprint():
    encoder = OfSound(SOUND, "ab" * 32)
    assert (encoder.name, encoder.input) == ("clap-float32-abababab", "sound")
    assert encoder.fingerprint == {
        "architecture": "hf-hub:some/Clap.Large",
        "pretrained": None,
        "weights_sha256": "ab" * 32,
        "dimensions": 6,
        "precision": "float32",
        "batch_size": 4,
        "input": "sound",
        "sample_rate": 48_000,
        "window_seconds": 10.0,
        "hop_seconds": 5.0,
    }
    assert check_fingerprint(encoder.fingerprint) is not None
    for key in ("sample_rate", "window_seconds", "hop_seconds"):
        with pytest.raises(BadIndex, match=f"of sound has the {key} None"):
            check_fingerprint({name: value for name, value in encoder.fingerprint.items() if name != key})


@pytest.mark.parametrize("kind", ["sound", "text"])
def test_an_encoder_of_a_kind_that_is_not_known_is_refused(kind: str):
    spec = SOUND if kind == "sound" else EncoderSpec("some-bert", None, "float32", 4, input="text")
    with pytest.raises(EncoderError, match=rf"no encoder of {kind} is known, only of frames"):
        load_encoder(spec)


@pytest.mark.parametrize(("kind", "rate"), [("sound", None), ("frames", 16_000), ("text", 16_000)])
def test_only_encoders_of_sound_have_a_sample_rate(kind: str, rate: int | None):
    with pytest.raises(EncoderError, match="an encoder of sound has a sample rate, and no other"):
        EncoderSpec("x", None, "float32", input=kind, sample_rate=rate).resolved()
