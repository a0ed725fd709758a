"""A site on loopback, for the tests of fetching."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.media.site.server import LoopbackSite


@pytest.fixture
def site(tmp_path: Path) -> Iterator[LoopbackSite]:
    """A site that serves what looks like a video, and videos that tests add."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "a.mp4").write_bytes(b"\0\0\0\x20ftypisom" + b"\0" * 5_000)
    with LoopbackSite(folder) as site:
        yield site
