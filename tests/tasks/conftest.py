"""Every system at its smallest: recipes of milliseconds a step, and corpora that have what they need."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.packed import make_packed
from tests.trained import TINY
from vidaudio.tasks.registry import load_train_recipe

ASKED_IN_WORDS = ("clipsep", "clipsep_nit", "clipsep_text", "clipsep_hybrid", "labelsep", "bertsep")
ASKED_BY_PICTURES = ("clipsep", "clipsep_nit", "clipsep_text", "clipsep_hybrid", "sop", "sop_frames", "sop_original")
SYSTEMS = (*ASKED_IN_WORDS, "sop", "sop_frames", "sop_original", "pit")
GENERATORS = ("clipsonic_iq", "clipsonic_iq_modern", "clip_tta")
# Half a second of sound as 16 bands and 16 frames.
TINY_GENERATOR = (
    "model.mel={n_fft: 2048, hop: 512, bands: 16}",
    "model.unet={channels: 16, multipliers: [1, 2], blocks: 1, attention: [2], heads: 2}",
    "data={window_seconds: 0.512, batch_size: 8, workers: 0}",
    "schedule={steps: 8, warmup_steps: 1, decay_until_step: 8}",
    "validation={every_steps: 4, shown: 1}",
    "average={decay: 0.9}",
    "optimiser.learning_rate=3e-3",
    "precision=float32",
)
SHORT = ("data={batch_size: 2, workers: 0}", "schedule={steps: 3, warmup_steps: 1, decay_until_step: 3}")


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory, encoder_fingerprint: dict, resnet_weights: Path) -> dict:
    from vidaudio.encoders.load import load_encoder
    from vidaudio.encoders.spec import EncoderSpec

    folder = tmp_path_factory.mktemp("corpora")
    clips = {"train": 6, "val": 3, "test": 3}
    resnet = load_encoder(EncoderSpec("resnet18-dilated-64", str(resnet_weights), "float32", 4)).fingerprint
    return {
        "clip": make_packed(folder / "clip", encoder_fingerprint, clips_per_split=clips, picture_size=32),
        "resnet": make_packed(folder / "resnet", resnet, clips_per_split=clips),
    }


@pytest.fixture(scope="module")
def recipes(tiny_bert: Path, resnet_weights: Path) -> dict[str, Any]:
    weights = f"query.pictures.weights={resnet_weights}"
    frozen = ("query={kind: pictures, pictures: {trained: false}}", weights)
    # The recipe of Zhao et al. has its own rate and spacing; the tiny corpus has CLIPSep's.
    as_here = ("model.front_end={sample_rate: 16000, n_fft: 1024}", "data.frame_spacing_seconds=1", weights)
    further = {"bertsep": (f"query.bert.model={tiny_bert}",), "sop_frames": frozen, "sop_original": as_here}
    return {
        name: load_train_recipe("sop" if name == "sop_frames" else name, (*TINY, *SHORT, *further.get(name, ())))
        for name in SYSTEMS
    } | {name: load_train_recipe(name, (*TINY_GENERATOR, *SHORT)) for name in GENERATORS}
