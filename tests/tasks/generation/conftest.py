"""A small generator, trained until it knows which tone belongs to which vector."""

from __future__ import annotations

from pathlib import Path

import ffmpeg
import pytest

from tests.tasks.conftest import TINY_GENERATOR
from vidaudio.media.ffmpeg import run_ffmpeg
from vidaudio.tasks.registry import load_train_recipe, train

LEARNS = ("schedule.steps=120", "validation.every_steps=120", "average.decay=0.9")


@pytest.fixture(scope="session")
def trained_generator(tmp_path_factory: pytest.TempPathFactory, packed: Path) -> Path:
    run = tmp_path_factory.mktemp("generators") / "run"
    train(load_train_recipe("clipsonic_iq", (*TINY_GENERATOR, *LEARNS)), str(packed), run, progress=False)
    return run


@pytest.fixture(scope="session")
def small_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a video of 2 s with a silent soundtrack."""
    video = tmp_path_factory.mktemp("videos") / "clip.mp4"
    picture, silence = (ffmpeg.input(source, f="lavfi", t=2) for source in ("testsrc=size=64x64:rate=10", "anullsrc"))
    run_ffmpeg(ffmpeg.output(picture, silence, str(video), vcodec="libx264", pix_fmt="yuv420p", acodec="aac"))
    return video
