"""A site on loopback, for the tests of fetching."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.media.site.server import LoopbackSite
from tests.media.site.small_video import small_video


@pytest.fixture
def site(tmp_path: Path) -> Iterator[LoopbackSite]:
    """A site that serves a video, and videos that tests add."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "a.mp4").write_bytes(small_video())
    with LoopbackSite(folder) as site:
        yield site
