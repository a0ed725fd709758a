"""A small generator, trained until it knows which tone belongs to which vector."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tasks.conftest import TINY_GENERATOR
from vidaudio.tasks.registry import load_train_recipe, train

LEARNS = ("schedule.steps=120", "validation.every_steps=120", "average.decay=0.9")


@pytest.fixture(scope="session")
def trained_generator(tmp_path_factory: pytest.TempPathFactory, packed: Path) -> Path:
    run = tmp_path_factory.mktemp("generators") / "run"
    train(load_train_recipe("clipsonic_iq", (*TINY_GENERATOR, *LEARNS)), str(packed), run, progress=False)
    return run
