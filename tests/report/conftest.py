"""A real browser for the pages that people open."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from vidaudio.report.corpus import CorpusReport

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


@pytest.fixture(scope="session")
def scored_corpus(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small demo world that is built, and scored by a scorer of a few steps; tests copy it before they change it."""
    from vidaudio.demo.corpus import build_world
    from vidaudio.pipeline.score import score
    from vidaudio.tasks.correspondence.fit import fit_scorer
    from vidaudio.tasks.correspondence.training import FitSettings

    folder = tmp_path_factory.mktemp("reported")
    build_world(folder, videos_per_kind={"train": 3, "val": 1, "test": 1}, flawed_per_flaw=1)
    url = str(folder / "corpus-clip")
    fit_scorer(url, settings=FitSettings(steps=4, batch_size=16), progress=False)
    score(url, progress=False)
    return url


@pytest.fixture(scope="session")
def scored_report(scored_corpus: str, tmp_path_factory: pytest.TempPathFactory) -> CorpusReport:
    """The report of that corpus, with all clips and with metadata."""
    from vidaudio.report.corpus import report

    folder = tmp_path_factory.mktemp("report")
    return report(scored_corpus, folder / "report.html", croissant=folder / "croissant.json", progress=False)
