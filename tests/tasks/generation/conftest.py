"""A small generator, trained until it knows which tone belongs to which vector."""

from __future__ import annotations

from pathlib import Path

import pytest

from vidaudio.tasks.registry import load_train_recipe, train

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
LEARNS = ("schedule.steps=120", "validation.every_steps=120", "average.decay=0.9")


@pytest.fixture(scope="session")
def trained_generator(tmp_path_factory: pytest.TempPathFactory, packed: Path) -> Path:
    run = tmp_path_factory.mktemp("generators") / "run"
    train(load_train_recipe("clipsonic_iq", (*TINY_GENERATOR, *LEARNS)), str(packed), run, progress=False)
    return run
