"""A real browser for the pages that people open."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Sounds start from a key as well as from a click; root, as in a container, has no sandbox.
OPTIONS = ["--autoplay-policy=no-user-gesture-required", "--no-sandbox", "--mute-audio"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium: the one that VIDAUDIO_TEST_BROWSER names, or one on PATH."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = os.environ.get("VIDAUDIO_TEST_BROWSER") or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"no browser: install one of {', '.join(NAMES)}, or name one in VIDAUDIO_TEST_BROWSER")
    with playwright.sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=found, args=OPTIONS)
        yield launched
        launched.close()
