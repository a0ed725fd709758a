"""The listening test in a real browser: what is clicked is what the tally counts."""

from __future__ import annotations

import itertools
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from tests.report.listening_world import make_systems, tone, write_items
from vidaudio.report.listening import Key, Kind, make_page, read_items, tally

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SECONDS = 0.25
HOSTILE = "</script><script>alert('x')</script>"
WHICH_ROWS = [
    {"item": "duo", "target": "violin", "other": HOSTILE},
    {"item": "street", "target": "dog <b>barking</b>", "other": "rain & wind"},
]
# What the listener of the first test says of each system's sounds, by item.
SAID = {
    ("near", "duo"): "correct",
    ("near", "street"): "both",
    ("far", "duo"): "wrong",
    ("far", "street"): "none",
}


@dataclass
class Visit:
    """One listener's page, with all that the browser asked for and complained about."""

    page: Page
    address: str
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def open(self) -> None:
        self.page.goto(self.address)

    def begin(self, participant: str) -> None:
        self.page.get_by_label("Your name").fill(participant)
        self.page.get_by_role("button", name="Begin").click()

    def trial(self) -> str:
        return self.page.evaluate("trialName()")

    def hear(self) -> None:
        """Play to the end, with the key."""
        self.page.keyboard.press("p")
        self.page.locator("#play-label", has_text="Play again").wait_for()

    def save(self, folder: Path) -> Path:
        with self.page.expect_download() as started:
            self.page.get_by_role("button", name="Save my answers").click()
        saved = folder / started.value.suggested_filename
        started.value.save_as(saved)
        return saved


Visitor = Callable[..., Visit]


@pytest.fixture
def visitor(browser: Browser) -> Iterator[Visitor]:
    """Open pages, each in a fresh browser profile; afterwards nothing may have been fetched or complained about."""
    visits: list[Visit] = []

    def visit(path: Path, **options: object) -> Visit:
        context = browser.new_context(**options)
        context.set_default_timeout(10_000)
        made = Visit(context.new_page(), path.resolve().as_uri())
        made.page.on("request", lambda request: made.requests.append(request.url))
        made.page.on("pageerror", lambda error: made.complaints.append(str(error)))
        made.page.on("console", lambda message: made.complaints.append(message.text))
        visits.append(made)
        made.open()
        return made

    yield visit
    for made in visits:
        asked = {url for url in made.requests if not url.startswith("blob:")}
        made.page.context.close()
        assert asked == {made.address}
        assert made.complaints == []


@pytest.fixture(scope="module")
def which(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Key]:
    folder = tmp_path_factory.mktemp("which")
    systems = make_systems(folder, ["near", "far"], ["duo", "street"], seconds=SECONDS)
    items = read_items(write_items(folder / "items.csv", WHICH_ROWS))
    made = make_page(systems, folder / "page.html", items=items, seed=3)
    return made.page, Key.model_validate_json(made.key.read_bytes())


def key_of(page: Path) -> Path:
    return page.with_suffix(".key.json")


def test_a_listener_goes_through_it_and_the_tally_counts_what_was_clicked(
    which: tuple[Path, Key], visitor: Visitor, tmp_path: Path
):
    path, key = which
    visit = visitor(path)
    page = visit.page
    page.on("dialog", lambda dialog: visit.complaints.append(dialog.message))
    visit.begin("Zoë <i>")
    done: list[str] = []
    shown: set[str] = set()
    for number in range(4):
        assert page.locator("#progress-text").inner_text() == f"{number + 1} of 4"
        name = visit.trial()
        asked = key.trials[name]
        said = SAID[asked.system, asked.item]
        other = "second" if asked.target == "first" else "first"
        choice = {"correct": asked.target, "wrong": other}.get(said, said)
        place = ("first", "second", "both", "none").index(choice)
        shown.update(page.locator("label:has(input[type=radio])").all_inner_texts())

        if number % 2:
            page.keyboard.press(str(place + 1))
        else:
            page.get_by_role("radio").nth(place).check()
        assert page.get_by_role("radio").nth(place).is_checked()
        assert page.get_by_role("button", name=re.compile("Next|Finish")).is_disabled()
        assert page.locator("#hint").inner_text() == "Listen to the end first."
        visit.hear()
        assert page.evaluate("audio.duration") == pytest.approx(SECONDS, abs=0.01)
        done.append(name)

        if number == 1:
            page.reload()
            assert "Welcome back, Zoë <i>" in page.get_by_role("status").inner_text()
            assert visit.trial() == name
            assert page.get_by_role("radio").nth(place).is_checked()
        if number % 2:
            page.keyboard.press("Enter")
        else:
            page.get_by_role("button", name="Next").click()

    assert len(set(done)) == 4
    assert any(f"Only {HOSTILE}" in text for text in shown)
    assert any("Only dog <b>barking</b>" in text for text in shown)
    saved = visit.save(tmp_path)
    assert re.fullmatch(r"answers-[0-9a-f]{8}-Zoë_i_-[0-9a-f]{8}\.json", saved.name)
    written = json.loads(saved.read_text())
    assert written["order"] == done
    assert written["finished"] is not None
    assert page.locator("#answers-text").input_value() == saved.read_text()
    summed = tally([saved], key_of(path))
    assert summed.notes == []
    assert {(s.system, s.measure): s.mean for s in summed.scores if s.mean} == {
        (system, said): 0.5 for (system, _), said in SAID.items()
    }


def test_ratings_by_keys_alone_on_a_dark_phone(visitor: Visitor, tmp_path: Path):
    systems = make_systems(tmp_path, ["one", "two"], ["sea"], seconds=SECONDS)
    Image.new("RGB", (64, 48), "teal").save(tmp_path / "sea.png")
    rows = [{"item": "sea", "text": "sea waves", "image": "sea.png"}]
    made = make_page(
        systems, tmp_path / "p.html", kind=Kind.MOS, items=read_items(write_items(tmp_path / "i.csv", rows))
    )
    key = Key.model_validate_json(made.key.read_bytes())
    phone = {"width": 360, "height": 640}
    visit = visitor(made.page, viewport=phone, is_mobile=True, has_touch=True, color_scheme="dark")
    page = visit.page
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    ratings = {"one": (2, 5), "two": (4, 1)}
    for _ in range(2):
        assert page.locator("#prompt").inner_text().strip('“”"') == "sea waves"
        assert (
            page.evaluate("document.getElementById('picture').decode().then(() => document.images[0].naturalWidth)")
            == 64
        )
        assert page.evaluate("document.scrollingElement.scrollWidth") == phone["width"]
        for digit in ratings[key.trials[visit.trial()].system]:
            page.keyboard.press(str(digit))
        visit.hear()
        page.keyboard.press("Enter")
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert max(map(int, re.findall(r"\d+", light))) < 64
    summed = tally([visit.save(tmp_path)], made.key)
    assert {(s.system, s.measure): s.mean for s in summed.scores} == {
        (system, measure): rating
        for system, both in ratings.items()
        for measure, rating in zip(("fidelity", "relevance"), both, strict=True)
    }


def test_who_stops_on_the_way_saves_what_there_is_and_can_go_back(
    which: tuple[Path, Key], visitor: Visitor, tmp_path: Path
):
    path, _ = which
    visit = visitor(path)
    visit.begin("short")
    first = visit.trial()
    visit.page.keyboard.press("3")
    visit.hear()
    visit.page.keyboard.press("Enter")
    visit.page.keyboard.press("b")
    assert visit.trial() == first
    visit.page.keyboard.press("4")
    visit.page.get_by_role("button", name="Stop here").click()
    saved = json.loads(visit.save(tmp_path).read_text())
    assert saved["finished"] is None
    assert [(a["trial"], a["values"], a["plays"]) for a in saved["answers"]] == [(first, {"which": "none"}, 1)]
    visit.page.get_by_role("button", name="Go on listening").click()
    assert visit.trial() == first
    assert "1 of 4 sounds" in tally(sorted(tmp_path.glob("answers-*.json")), key_of(path)).notes[0]


def test_every_listener_has_an_order_of_their_own_and_items_come_in_rounds(visitor: Visitor, tmp_path: Path):
    names = [f"n{number}" for number in range(6)]
    systems = make_systems(tmp_path, ["a", "b", "c"], names, seconds=0.01)
    made = make_page(systems, tmp_path / "page.html", kind=Kind.MOS)
    trials = Key.model_validate_json(made.key.read_bytes()).trials
    visit = visitor(made.page)
    orders = [
        visit.page.evaluate("name => listeningOrder(study, name)", name) for name in ("Ann", "Ann", "Bob", "Cleo")
    ]
    assert orders[0] == orders[1]
    assert len({tuple(order) for order in orders}) == 3
    for order in orders:
        assert sorted(order) == sorted(trials)
        items = [trials[name].item for name in order]
        assert [sorted(items[start : start + 6]) for start in (0, 6, 12)] == [names] * 3
    many = visit.page.evaluate("names => names.map((name) => listeningOrder(study, name))", [*map(str, range(99))])
    for order in many:
        assert all(trials[one].item != trials[following].item for one, following in itertools.pairwise(order))
    assert {trials[order[0]].system for order in many} == set(systems)
    assert {trials[order[0]].item for order in many} == set(names)


def test_the_next_listener_starts_afresh(which: tuple[Path, Key], visitor: Visitor):
    visit = visitor(which[0])
    visit.page.on("dialog", lambda dialog: dialog.accept())
    visit.begin("first")
    visit.page.keyboard.press("1")
    visit.hear()
    visit.page.get_by_role("button", name="Next").click()
    visit.page.get_by_role("button", name="Stop here").click()
    visit.page.get_by_role("button", name="Another listener").click()
    assert visit.page.get_by_label("Your name").input_value().startswith("listener-")
    visit.page.reload()
    visit.begin("second")
    assert visit.page.evaluate("[state.participant, state.place, state.order.filter(isDone).length]") == [
        "second",
        0,
        0,
    ]


def test_a_browser_that_keeps_nothing_says_so_and_still_saves(
    which: tuple[Path, Key], visitor: Visitor, tmp_path: Path
):
    visit = visitor(which[0])
    refuse = "Object.defineProperty(window, 'localStorage', {get() { throw new Error('not here') }})"
    visit.page.add_init_script(refuse)
    visit.open()
    assert "do not close the page" in visit.page.get_by_role("status").inner_text()
    visit.begin("private")
    visit.page.keyboard.press("1")
    visit.hear()
    visit.page.get_by_role("button", name="Stop here").click()
    assert len(json.loads(visit.save(tmp_path).read_text())["answers"]) == 1


def test_the_page_may_reach_nothing_even_if_it_tried(which: tuple[Path, Key], browser: Browser):
    reached = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server, browser.new_context() as context:
        port = server.getsockname()[1]
        threading.Thread(target=lambda: (server.accept(), reached.set()), daemon=True).start()
        page = context.new_page()
        page.goto(which[0].resolve().as_uri())
        address = f"http://127.0.0.1:{port}/"
        for attempt in (
            f"fetch('{address}')",
            f"new Promise((yes, no) => Object.assign(new Image(), {{onload: yes, onerror: no, src: '{address}'}}))",
            f"new Promise((yes, no) => Object.assign(new Audio('{address}'), {{onplay: yes, onerror: no}}).load())",
        ):
            assert page.evaluate(f"{attempt}.then(() => 'reached', () => 'refused')") == "refused"
        assert (
            page.evaluate(
                "() => { const s = document.createElement('script'); s.textContent = 'window.got = 1';"
                " document.body.append(s); return window.got ?? null }"
            )
            is None
        )
        assert not reached.is_set()
        # The same attempt from an empty page does arrive: the policy refused it, not the machine.
        free = context.new_page()
        free.goto("about:blank")
        free.evaluate(f"fetch('{address}', {{mode: 'no-cors'}}).catch(() => 0) && 0")
        assert reached.wait(10)


def test_a_sound_that_no_browser_plays_is_said_and_not_counted(visitor: Visitor, tmp_path: Path):
    tone(tmp_path / "a" / "x.wav")
    made = make_page({"a": tmp_path / "a"}, tmp_path / "page.html", kind=Kind.MOS)
    html = made.page.read_text()
    broken = tmp_path / "broken.html"
    broken.write_text(re.sub(r'(<script id="sound-[0-9a-f]+" type="text/plain">)[^<]+', r"\1bm8gc291bmQ=", html))
    visit = visitor(broken)
    visit.begin("anyone")
    visit.page.get_by_role("status").get_by_text("cannot be played here").wait_for()
    visit.page.keyboard.press("1")
    assert visit.page.get_by_role("button", name="Finish").is_disabled()
