"""The report of a corpus in a real browser: it plays, filters and answers to keys, and reaches nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.report.report_world import SCRIPT, copy_of, hostile_lists, hostile_pages
from vidaudio.corpus.corpus import open_corpus
from vidaudio.report.corpus import CorpusReport, report

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

Opener = Callable[..., "Page"]


@pytest.fixture
def made(scored_report: CorpusReport) -> CorpusReport:
    return scored_report


@pytest.fixture
def opened(browser: Browser) -> Iterator[Opener]:
    """Open pages from disk; afterwards nothing may have been requested, blocked or complained about."""
    told: list[str] = []
    contexts = []

    def open_page(path: Path, **options: object) -> Page:
        context = browser.new_context(**options)
        context.set_default_timeout(20_000)
        contexts.append(context)
        page = context.new_page()
        address = path.resolve().as_uri()
        own = (address, "data:", "blob:")
        page.on("request", lambda asked: None if asked.url.startswith(own) else told.append(asked.url))
        page.on("pageerror", lambda error: told.append(str(error)))
        # What the policy blocks is written to the console.
        page.on("console", lambda message: told.append(message.text))
        page.on("dialog", lambda dialog: told.append(dialog.message))
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert told == []


def wait_until(page: Page, expression: str) -> None:
    """Wait until an expression is true; Playwright's own function evaluates a text, which the page's policy forbids."""
    for _ in range(400):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    raise AssertionError(expression)


def shown_clips(page: Page) -> int:
    return page.locator("#clips .clip:visible").count()


def test_a_sound_plays_and_stops_the_one_before(made: CorpusReport, opened: Opener):
    page = opened(made.page)
    state = "number => { const a = document.querySelectorAll('audio')[number]; return [a.currentTime, a.paused] }"
    page.evaluate("document.querySelectorAll('audio')[0].play()")
    wait_until(page, "document.querySelectorAll('audio')[0].currentTime > 0.2")
    duration = page.evaluate("document.querySelectorAll('audio')[0].duration")
    assert duration == pytest.approx(4.0, abs=0.2)
    page.evaluate("document.querySelectorAll('audio')[1].play()")
    wait_until(page, "document.querySelectorAll('audio')[1].currentTime > 0.1")
    assert page.evaluate(state, 0)[1] is True
    assert page.evaluate(state, 1)[1] is False


def test_every_picture_is_drawn(made: CorpusReport, opened: Opener):
    page = opened(made.page)
    decoded = "i => { i.loading = 'eager'; return i.decode().then(() => i.naturalWidth) }"
    widths = page.evaluate(f"Promise.all([...document.images].map({decoded}))")
    assert len(widths) == 3 * page.locator("article").count()
    assert min(widths) >= 64


def test_clips_are_filtered_by_label_and_by_text(made: CorpusReport, opened: Opener):
    page = opened(made.page)
    everything = shown_clips(page)
    assert everything == sum(made.shown.values())
    label = page.locator("#filter-label option").nth(1).get_attribute("value")
    of_label = made.facts.groups["label"].largest(100)
    page.locator("#filter-label").select_option(label)
    assert shown_clips(page) == next(total.sums[0] for total in of_label if total.name == label)
    assert (
        page.get_by_role("status").filter(has_text="clips").inner_text() == f"{shown_clips(page)} of {everything} clips"
    )
    page.locator("#filter-text").fill("TRAIN 000")
    visible = page.locator("#clips .clip:visible").all_text_contents()
    assert 0 < len(visible) < everything
    assert all("train" in text and "000" in text for text in visible)
    page.locator("#filter-text").fill("no such words")
    assert shown_clips(page) == 0
    page.get_by_role("button", name="Show all").click()
    wait_until(page, f"document.querySelectorAll('#clips .clip:not([hidden])').length === {everything}")


def test_everything_is_reached_by_keys(made: CorpusReport, opened: Opener):
    page = opened(made.page)
    page.keyboard.press("Tab")
    focused = page.locator(":focus")
    assert focused.inner_text() == "Skip to the report"
    assert focused.bounding_box()["x"] >= 0
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.locator("#filter-label").focus()
    page.keyboard.press("ArrowDown")
    assert shown_clips(page) < sum(made.shown.values())
    page.locator("#points").focus()
    told = page.locator("#map-told")
    seen = {told.inner_text()}
    for key in ("ArrowRight", "ArrowLeft", "ArrowDown", "ArrowUp", "ArrowRight"):
        page.keyboard.press(key)
        seen.add(told.inner_text())
    assert len(seen) > 1
    assert all(re.fullmatch(r"\w+: [\w ]+", text) for text in seen)
    legend = page.locator("#legend button").first
    legend.focus()
    page.keyboard.press("Enter")
    assert legend.get_attribute("aria-pressed") == "true"
    assert (
        page.locator("#points .faded").count()
        == page.locator("#points circle").count() - page.locator("#points .c0").count()
    )
    page.keyboard.press("Enter")
    assert page.locator("#points .faded").count() == 0


def test_pointing_at_the_map_names_the_clip(made: CorpusReport, opened: Opener):
    page = opened(made.page)
    circle = page.locator("#points circle").nth(3)
    circle.scroll_into_view_if_needed()
    box = circle.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert circle.get_attribute("class").endswith("chosen")
    assert page.locator("#map-told").inner_text().startswith(circle.get_attribute("data-id"))


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (390, "dark"), (1280, "dark")])
def test_it_fits_a_phone_and_a_dark_room(made: CorpusReport, opened: Opener, width: int, scheme: str):
    page = opened(made.page, viewport={"width": width, "height": 800}, color_scheme=scheme)
    assert page.evaluate("document.scrollingElement.scrollWidth") == width
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    brightest = max(map(int, re.findall(r"\d+", ground)))
    assert brightest < 64 if scheme == "dark" else brightest > 192


def test_hostile_texts_do_nothing(scored_corpus: str, tmp_path: Path, opened: Opener, monkeypatch: pytest.MonkeyPatch):
    copy = copy_of(scored_corpus, tmp_path)
    hostile_pages(copy, open_corpus(str(copy)).shards)
    hostile_lists(monkeypatch)
    made = report(str(copy), tmp_path / "r.html", clips=6, progress=False)
    page = opened(made.page)
    page.wait_for_timeout(300)
    assert page.evaluate("window.got ?? null") is None
    assert page.locator("[onerror], [onload]").count() == 0
    assert page.locator(".title", has_text="</script>").count() > 0
    label = page.locator("#filter-label option", has_text="</script>").first.get_attribute("value")
    assert label.startswith(SCRIPT[:40])
    page.locator("#filter-label").select_option(label)
    assert 0 < shown_clips(page) < sum(made.shown.values())
    page.locator("#points").focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("window.got ?? null") is None


def test_the_page_may_reach_nothing_even_if_it_tried(made: CorpusReport, browser: Browser):
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(made.page.resolve().as_uri())
        assert page.evaluate("fetch('http://127.0.0.1:9/').then(() => 'reached', () => 'refused')") == "refused"
        image = "new Promise((y, n) => Object.assign(new Image(), {onload: y, onerror: n, src: 'http://127.0.0.1:9/'}))"
        assert page.evaluate(f"{image}.then(() => 'reached', () => 'refused')") == "refused"
        script = (
            "() => { const s = document.createElement('script'); s.textContent = 'window.got = 1';"
            " document.body.append(s); return window.got ?? null }"
        )
        assert page.evaluate(script) is None


def test_without_scripts_everything_but_the_filter_is_there(made: CorpusReport, opened: Opener):
    page = opened(made.page, java_script_enabled=False)
    assert page.locator("article").count() == sum(made.shown.values()) + 2 * len(made.duplicates.shown)
    assert page.locator("#measures figure").count() == len(made.facts.histograms)
