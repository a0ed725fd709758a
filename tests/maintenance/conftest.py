"""A copy of the built corpus, to be damaged."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from vidaudio.corpus.corpus import Corpus


@pytest.fixture
def copied(built_corpus: Corpus, tmp_path: Path) -> Path:
    return shutil.copytree(built_corpus.url, tmp_path / "corpus", ignore=shutil.ignore_patterns("runs", "other"))
