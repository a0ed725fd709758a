"""The folder of a demo: one of another version is refused before anything is rendered or built."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.packed import make_packed
from vidaudio.demo import train_clip
from vidaudio.demo.run import run_demo
from vidaudio.encoders.load import load_encoder
from vidaudio.encoders.spec import EncoderSpec
from vidaudio.errors import UsageError


def test_a_demo_of_another_encoder_is_refused_before_it_costs_anything(tmp_path: Path):
    fingerprint = load_encoder(EncoderSpec(str(train_clip.FOLDER), None, "float32", 8)).fingerprint
    earlier = {**fingerprint, "weights_sha256": "0" * 64}
    make_packed(tmp_path / "corpus" / "training" / "default", earlier, clips_per_split={"train": 2})
    with pytest.raises(UsageError, match=r"holds a demo of another version.*--output"):
        run_demo(tmp_path, size="small")
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]
