"""A packed corpus of tones and a small model trained on it for a moment."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from vidaudio.tasks.separation.recipe import SeparationRecipe

# Half a second of sound, 32 x 32 pictures, a U-Net that a step of takes milliseconds.
TINY = (
    "model.front_end={hop: 256, window_samples: 8191, log_rows: 32, frames: 32}",
    "model.unet={levels: 3, width: 4}",
    "model.channels=8",
    "data={batch_size: 4, workers: 0}",
    "schedule={steps: 8, warmup_steps: 2, decay_until_step: 8}",
    "validation={every_steps: 4}",
    "precision=float32",
)


@pytest.fixture(scope="session")
def tiny_recipe() -> SeparationRecipe:
    from vidaudio.tasks.registry import load_train_recipe

    return load_train_recipe("clipsep", TINY)


@pytest.fixture(scope="session")
def encoder_fingerprint(tiny_clip: Path) -> dict:
    from vidaudio.encoders.load import load_encoder
    from vidaudio.encoders.spec import EncoderSpec

    return load_encoder(EncoderSpec(str(tiny_clip), None, "float32", 8)).fingerprint


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory, encoder_fingerprint: dict) -> Path:
    from tests.packed import make_packed

    folder = tmp_path_factory.mktemp("packed")
    return make_packed(folder, encoder_fingerprint, clips_per_split={"train": 12, "val": 6, "test": 6})


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, packed: Path, tiny_recipe: SeparationRecipe) -> Path:
    from vidaudio.tasks.registry import train

    run = tmp_path_factory.mktemp("runs") / "run"
    train(tiny_recipe, str(packed), run, progress=False)
    return run
