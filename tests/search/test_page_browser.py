"""The page of a search in a real browser: it shows pictures, plays sounds and asks for nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from vidaudio.clip_search.search import search
from vidaudio.corpus.corpus import Corpus

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.mark.parametrize("options", [{}, {"viewport": {"width": 320, "height": 600}, "color_scheme": "dark"}])
def test_a_page_works_from_disk(world: Corpus, browser: Browser, tmp_path: Path, options: dict):
    path = tmp_path / "page.html"
    report = search(world.url, 'a <b>"bouncing"</b> ball', count=3, page=path, progress=False)
    context = browser.new_context(**options)
    page = context.new_page()
    requests: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(path.as_uri())

    assert '<b>"bouncing"</b>' in page.locator("h1").inner_text()
    assert page.locator("article").count() == 3
    assert page.locator("article").first.inner_text().count(report.hits[0].id)
    images = page.locator("img")
    assert images.count() == 12
    assert all(images.nth(n).evaluate("image => image.naturalWidth") > 0 for n in range(12))
    for number in range(3):
        audio = page.locator("audio").nth(number)
        assert audio.evaluate("async audio => { await audio.play(); return audio.duration }") > 1
        audio.evaluate("audio => audio.pause()")
    # Nothing is wider than the screen.
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert {url for url in requests if not url.startswith("data:")} == {path.as_uri()}
    assert complaints == []
    context.close()
