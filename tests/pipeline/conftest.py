"""A site on loopback, for the tests of fetching, and one process that Dask workers are forked from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.media.site.server import LoopbackSite
from tests.media.site.small_video import small_video


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
