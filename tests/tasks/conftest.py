"""Every system at its smallest: recipes of milliseconds a step, and corpora that have what they need."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.packed import make_packed
from tests.trained import TINY
from vidaudio.stream.index import NO_VECTORS
from vidaudio.tasks.registry import load_train_recipe, train

ASKED_IN_WORDS = ("clipsep", "clipsep_nit", "clipsep_text", "clipsep_hybrid", "labelsep", "bertsep")
ASKED_BY_PICTURES = ("clipsep", "clipsep_nit", "clipsep_text", "clipsep_hybrid", "sop", "sop_frames", "sop_original")
SYSTEMS = (*ASKED_IN_WORDS, "sop", "sop_frames", "sop_original", "pit")
GENERATORS = ("clipsonic_iq", "clipsonic_iq_modern", "clip_tta", "clap_tta")
VOCODERS = ("bigvgan",)
FROM_MIXTURES = ("bimodal_weak", "bimodal_semi", "bimodal_supervised", "bimodal_mixsep", "mixit", "mixit_ranked")
# An eighth of a second of sound, in few linear frequencies, and a few labels of which two may be the same.
TINY_PARTS = (
    "model.front_end={n_fft: 126, hop: 63, window_samples: 2015, frames: 32}",
    "model.unet={levels: 3, width: 8, max_multiplier: 2}",
    "model.channels=4",
    "data={window_seconds: null, different_labels: false}",
    "query.clap.tokens=8",
    "schedule.kind=linear",
    "validation={every_steps: 2}",
    "precision=float32",
)
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
# A vocoder of the tiny generator's mel, in two stages.
TINY_VOCODER = (
    "model.mel={n_fft: 2048, hop: 512, bands: 16}",
    "model.generator={channels: 16, rates: [32, 16], block_kernels: [3], block_dilations: [[1]]}",
    "model.discriminator={periods: [2, 3], period_scale: 0.03125, resolutions: [[256, 64, 256]]}",
    "model.discriminator.resolution_scale=0.125",
    "data={window_seconds: 0.512, segment_samples: 4096, batch_size: 4, workers: 0}",
    "schedule={kind: linear, steps: 6, warmup_steps: 1, decay_until_step: 6}",
    "validation={every_steps: 3, shown: 1}",
    "optimiser.learning_rate=1e-3",
    "precision=float32",
)
SHORT = ("data={batch_size: 2, workers: 0}", "schedule={steps: 3, warmup_steps: 1, decay_until_step: 3}")


def train_vocoder(data: Path, run: Path, *settings: str, resume: bool = False):
    recipe = load_train_recipe("bigvgan", (*TINY_VOCODER, "log.to=none", *settings))
    return train(recipe, str(data), run, resume=resume, progress=False)


@pytest.fixture(scope="session")
def trained_vocoder(tmp_path_factory: pytest.TempPathFactory, packed: Path) -> Path:
    run = tmp_path_factory.mktemp("vocoders") / "run"
    train_vocoder(packed, run)
    return run


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory, encoder_fingerprint: dict, resnet_weights: Path) -> dict:
    from vidaudio.encoders.load import load_encoder
    from vidaudio.encoders.spec import EncoderSpec

    folder = tmp_path_factory.mktemp("corpora")
    clips = {"train": 12, "val": 3, "test": 3}
    resnet = load_encoder(EncoderSpec("resnet18-dilated-64", str(resnet_weights), "float32", 4)).fingerprint
    return {
        "clip": make_packed(folder / "clip", encoder_fingerprint, clips_per_split=clips, picture_size=32),
        "resnet": make_packed(folder / "resnet", resnet, clips_per_split=clips),
    }


@pytest.fixture(scope="module")
def recipes(tiny_bert: Path, tiny_clap: Path, resnet_weights: Path) -> dict[str, Any]:
    weights = f"query.pictures.weights={resnet_weights}"
    frozen = ("query={kind: pictures, pictures: {trained: false}}", weights)
    # The recipe of Zhao et al. has its own rate and spacing; the tiny corpus has CLIPSep's.
    as_here = ("model.front_end={sample_rate: 16000, n_fft: 1024}", "data.frame_spacing_seconds=1", weights)
    further = {"bertsep": (f"query.bert.model={tiny_bert}",), "sop_frames": frozen, "sop_original": as_here}
    tiny = dict.fromkeys(GENERATORS, TINY_GENERATOR) | dict.fromkeys(VOCODERS, TINY_VOCODER)
    tiny["clap_tta"] = (*TINY_GENERATOR, f"query.clap.model={tiny_clap}")
    for name in FROM_MIXTURES:
        network = "null" if name.startswith("mixit") else "{levels: 1, heads: 2, mlp_ratio: 1}"
        share = ("data.single_share=0.4",) if name == "bimodal_semi" else ()
        tiny[name] = (*TINY_PARTS, f"query.clap.model={tiny_clap}", f"model.condition={network}", *share)
    return {
        name: load_train_recipe("sop" if name == "sop_frames" else name, (*TINY, *SHORT, *further.get(name, ())))
        for name in SYSTEMS
    } | {name: load_train_recipe(name, (*settings, *SHORT)) for name, settings in tiny.items()}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A table of vectors of labels, of which one is no clip's."""
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "vectors.npz", **{name: rng.normal(size=12) for name in ("low", "high", "unheard sound")})
    return tmp_path / "vectors.npz"


@pytest.fixture
def sounds_alone(tmp_path: Path) -> Path:
    """A packed corpus without vectors."""
    return make_packed(tmp_path / "sounds", NO_VECTORS, clips_per_split={"train": 9, "val": 6, "test": 6})
