"""A site on loopback, a small scored corpus, and one process that Dask workers are forked from."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.media.site.server import LoopbackSite
from tests.media.site.small_video import small_video

if TYPE_CHECKING:
    from vidaudio.corpus.corpus import Corpus


@pytest.fixture(scope="session", autouse=True)
def forked_workers(fork_server: None) -> None:
    """Use the fork server in every test here."""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[LoopbackSite]:
    """A site that serves a video, and videos that tests add."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "a.mp4").write_bytes(small_video())
    with LoopbackSite(folder) as site:
        yield site


@pytest.fixture(scope="session")
def fitted(tmp_path_factory: pytest.TempPathFactory, forked_workers: None) -> Corpus:
    """A small demo world with a scorer, scored. Tests leave it as it is."""
    from tests.pipeline.scored import build_scored

    return build_scored(tmp_path_factory.mktemp("scored"))


@pytest.fixture
def copied(fitted: Corpus, tmp_path: Path) -> Corpus:
    """A copy of that corpus, without the records of its runs."""
    from vidaudio.corpus.corpus import open_corpus

    return open_corpus(str(shutil.copytree(fitted.url, tmp_path / "corpus", ignore=shutil.ignore_patterns("runs"))))
