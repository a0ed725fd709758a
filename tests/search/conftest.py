"""A small demo world with a scorer that was trained for a few steps, and scored; and a real browser."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.report.conftest import browser  # noqa: F401 - a fixture
from vidaudio import vector_index
from vidaudio.config.corpus import RunSettings
from vidaudio.corpus.columns import SCORE
from vidaudio.corpus.corpus import Corpus, open_corpus
from vidaudio.demo.corpus import build_world
from vidaudio.pipeline.stages.score import score_shard
from vidaudio.pipeline.stages.scorer_files import prepare_scores
from vidaudio.tasks.correspondence.fit import fit_scorer
from vidaudio.tasks.correspondence.training import FitSettings


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """The world's corpus. Tests leave it as it is."""
    folder = tmp_path_factory.mktemp("searched")
    settings = ("shard_clips=16",)
    build_world(folder, videos_per_kind={"train": 3, "val": 1, "test": 1}, flawed_per_flaw=0, settings=settings)
    corpus = open_corpus(str(folder / "corpus-clip"))
    fit_scorer(corpus.url, settings=FitSettings(steps=4, batch_size=8), progress=False)
    prepare_scores(corpus, "default")
    for shard in range(corpus.shards):
        score_shard(corpus, shard, SCORE.model_folder("default"), RunSettings())
    return corpus


@pytest.fixture
def copied(world: Corpus, tmp_path: Path) -> Corpus:
    """A copy of the corpus, for tests that change it."""
    return open_corpus(str(shutil.copytree(world.url, tmp_path / "corpus", ignore=shutil.ignore_patterns("runs"))))


@pytest.fixture
def indexed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a corpus of more than ten clips have an index."""
    monkeypatch.setattr(vector_index, "EXACT_VECTORS", 10)
