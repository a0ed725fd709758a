"""The page and its key: who is in it, what it hides, and what it refuses to be made of."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.report.listening_world import RATE, make_systems, tone, write_items
from vidaudio.errors import MediaError
from vidaudio.report.listening import Item, Key, Kind, PageText, make_page, read_items
from vidaudio.report.listening import page as page_module
from vidaudio.report.listening.items import ListeningError, find_sounds
from vidaudio.report.listening.sounds import Level, Sound, encode_flac, match_levels, read_sound

# Programs installed beside this Python, and those on PATH.
SCRIPTS = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])

ITEMS = [Item("one", "violin", "cello", group="music"), Item("two", "dog", "rain", group="street")]
HOSTILE = "</script><script>alert(1)</script>"


class Elements(HTMLParser):
    """Scripts of a page by id (None for the one that runs), and the attributes that could load something."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.scripts: dict[str | None, str] = {}
        self.loads: list[str] = []
        self._open: str | None = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.loads += [f"{tag} {name}" for name in values if name in ("src", "href", "style") or name.startswith("on")]
        if tag == "script":
            self._open = values.get("id")
            self.scripts[self._open] = ""

    def handle_data(self, data: str) -> None:
        if self.lasttag == "script":
            self.scripts[self._open] = self.scripts.get(self._open, "") + data

    def handle_endtag(self, tag: str) -> None:
        self.lasttag = ""


def sounds_in(page: Path) -> dict[str, np.ndarray]:
    scripts = Elements(page.read_text()).scripts
    return {
        name.removeprefix("sound-"): soundfile.read(io.BytesIO(base64.b64decode(text)))[0]
        for name, text in scripts.items()
        if name and name.startswith("sound-")
    }


def key_of(made: page_module.MadePage) -> Key:
    return Key.model_validate_json(made.key.read_bytes())


def test_every_trial_plays_the_sound_that_the_key_says(tmp_path: Path):
    systems = make_systems(tmp_path, ["mine", "theirs"], ["one", "two"])
    made = make_page(systems, tmp_path / "page.html", items=ITEMS)
    assert (made.items, made.systems, made.trials) == (2, 2, 4)
    assert made.bytes == made.page.stat().st_size
    sounds, trials = sounds_in(made.page), key_of(made).trials
    assert sounds.keys() == trials.keys()
    for name, trial in trials.items():
        original, _ = soundfile.read(systems[trial.system] / f"{trial.item}.wav")
        np.testing.assert_allclose(sounds[name], original, atol=2**-15)


def test_the_page_names_no_system_and_no_file_and_not_which_sound_was_wanted(tmp_path: Path):
    systems = make_systems(tmp_path, ["secretsystem", "othersystem"], ["clandestine/one", "clandestine/two"])
    for path in tmp_path.rglob("*.wav"):
        with soundfile.SoundFile(path, "r+") as file:
            file.title = f"rendered by {path.parent.parent.name}"
    items = [Item(f"clandestine/{item.name}", item.target, item.other) for item in ITEMS]
    made = make_page(systems, tmp_path / "page.html", items=items, seed=11)
    html = made.page.read_text()
    decoded = b"".join(base64.b64decode(text) for name, text in Elements(html).scripts.items() if name and "-" in name)
    for told in ("secretsystem", "othersystem", "clandestine", "rendered by", '"target"', '"seed"'):
        assert told not in html
        assert told.encode() not in decoded
    # On either side in some trials, so the side says nothing.
    many = [Item(f"n{number}", "violin", "cello") for number in range(12)]
    made = make_page(
        make_systems(tmp_path / "many", ["a", "b"], [item.name for item in many], seconds=0.01),
        tmp_path / "many.html",
        items=many,
    )
    study = json.loads(Elements(made.page.read_text()).scripts["study"])
    sides = set()
    for name, trial in key_of(made).trials.items():
        wanted = study["trials"][name]["labels"].index("violin")
        assert trial.target == ("first", "second")[wanted]
        sides.add(wanted)
    assert sides == {0, 1}


@pytest.mark.skipif(shutil.which("deno", path=SCRIPTS) is None, reason="no deno to run the page's script")
def test_every_listeners_file_has_a_name_of_its_own(tmp_path: Path):
    names = ["listener-0a1b2c3d", "李", "王", "a b", "a_b", "a/b", "Ann", "ann", "Zoë <i>"]
    script = resources.files(page_module.__package__).joinpath("order.js").read_text("utf-8")
    (tmp_path / "names.js").write_text(f"{script}\nconsole.log(JSON.stringify({json.dumps(names)}.map(fileNameOf)));")
    command = [shutil.which("deno", path=SCRIPTS), "run", "--no-remote", str(tmp_path / "names.js")]
    environment = {**os.environ, "DENO_DIR": str(tmp_path), "NO_COLOR": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    called = json.loads(done.stdout)
    assert called[0] == names[0]
    # On file systems that do not tell letters' case, too.
    assert len({name.casefold() for name in called}) == len(names)
    assert all(re.fullmatch(r"[\w-]+", name) for name in called)
    assert called[1].startswith("李")


def test_one_seed_makes_one_page_and_another_seed_another(tmp_path: Path):
    systems = make_systems(tmp_path, ["a", "b"], ["one", "two"])
    made = [make_page(systems, tmp_path / f"{n}.html", items=ITEMS, seed=seed) for n, seed in enumerate((1, 1, 2))]
    assert made[0].page.read_bytes() == made[1].page.read_bytes()
    assert made[0].key.read_bytes() == made[1].key.read_bytes()
    assert not key_of(made[0]).trials.keys() & key_of(made[2]).trials.keys()
    assert key_of(made[0]).page != key_of(made[2]).page
    seeds = {key_of(make_page(systems, tmp_path / f"r{n}.html", items=ITEMS)).seed for n in range(2)}
    assert len(seeds) == 2


def test_the_page_is_known_by_its_sounds_too(tmp_path: Path):
    systems = make_systems(tmp_path, ["a"], ["one", "two"])
    first = make_page(systems, tmp_path / "1.html", items=ITEMS, seed=1)
    tone(systems["a"] / "one.wav", hertz=999)
    assert key_of(first).page != key_of(make_page(systems, tmp_path / "2.html", items=ITEMS, seed=1)).page


def test_hostile_words_stay_words_and_nothing_in_the_page_loads_anything(tmp_path: Path):
    items = [Item("one", HOSTILE, '" onload="x', text=HOSTILE)]
    systems = make_systems(tmp_path, ["a"], ["one"])
    made = make_page(systems, tmp_path / "p.html", items=items, text=PageText(HOSTILE, f"<img src=x> {HOSTILE}"))
    html = made.page.read_text()
    assert html.count("alert(1)") == html.count("&lt;script&gt;alert(1)") + html.count("\\u003cscript\\u003ealert(1)")
    elements = Elements(html)
    assert elements.loads == []
    study = json.loads(elements.scripts["study"])
    assert study["title"] == HOSTILE
    assert HOSTILE in study["trials"][next(iter(study["trials"]))]["labels"]
    assert re.search(r"default-src 'none'; script-src 'sha256-[^']+'; style-src 'sha256-[^']+'; media-src blob:", html)
    assert not re.search(r"https?://", html)


def test_what_not_all_systems_have_is_left_out_and_said(tmp_path: Path):
    systems = make_systems(tmp_path, ["a", "b"], ["one", "two"])
    tone(systems["a"] / "three.wav")
    (systems["b"] / "two.wav").unlink()
    made = make_page(systems, tmp_path / "p.html", kind=Kind.MOS)
    assert made.items == 1
    assert "left out, missing in some systems: 2 sounds (three: b; two: b)." in str(made)
    listed = make_page(systems, tmp_path / "q.html", items=[*ITEMS, Item("gone", "x", "y")])
    assert "left out, missing in some systems: 2 items of the table (two: b; gone: all)." in listed.notes


def test_unlisted_sounds_are_left_out_and_said(tmp_path: Path):
    systems = make_systems(tmp_path, ["a"], ["one", "two"])
    made = make_page(systems, tmp_path / "p.html", items=ITEMS[:1])
    assert made.notes == ["left out, not in the table: 1 sound (two)."]


def test_so_many_items_drawn_by_seed(tmp_path: Path):
    names = [f"n{number}" for number in range(9)]
    systems = make_systems(tmp_path, ["a", "b"], names, seconds=0.01)
    drawn = []
    for number, seed in enumerate((1, 1, 2, 3)):
        made = make_page(systems, tmp_path / f"{number}.html", kind=Kind.MOS, count=4, seed=seed)
        drawn.append({trial.item for trial in key_of(made).trials.values()})
    assert drawn[0] == drawn[1]
    assert all(len(items) == 4 for items in drawn)
    assert len({frozenset(items) for items in drawn}) > 1


def test_relevance_is_asked_only_where_there_is_something_to_fit(tmp_path: Path):
    systems = make_systems(tmp_path, ["a"], ["one", "two"])
    plain = make_page(systems, tmp_path / "p.html", kind=Kind.MOS)
    assert key_of(plain).questions == ["fidelity"]
    assert "only fidelity is asked" in plain.notes[0]
    texts = [Item("one", text="sea"), Item("two", text="wind")]
    assert key_of(make_page(systems, tmp_path / "q.html", kind=Kind.MOS, items=texts)).questions == [
        "fidelity",
        "relevance",
    ]


def test_a_page_or_key_that_is_there_is_never_written_over(tmp_path: Path):
    systems = make_systems(tmp_path, ["a"], ["one", "two"])
    made = make_page(systems, tmp_path / "p.html", items=ITEMS)
    before = made.key.read_bytes()
    with pytest.raises(ListeningError, match="is there already"):
        make_page(systems, tmp_path / "p.html", items=ITEMS)
    made.page.unlink()
    with pytest.raises(ListeningError, match=r"p\.key\.json is there already"):
        make_page(systems, tmp_path / "p.html", items=ITEMS)
    assert made.key.read_bytes() == before
    assert [path.name for path in tmp_path.glob("*.part")] == []


def test_a_large_page_a_clipped_sound_and_uneven_lengths_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(page_module, "LARGE_PAGE_BYTES", 1000)
    for system, seconds, amplitude in (("a", 0.1, 0.1), ("b", 0.2, 1.5)):
        (tmp_path / system).mkdir()
        values = amplitude * np.sin(np.arange(round(seconds * RATE)))
        soundfile.write(tmp_path / system / "one.wav", values, RATE, subtype="FLOAT")
    made = make_page({"a": tmp_path / "a", "b": tmp_path / "b"}, tmp_path / "p.html", items=ITEMS[:1])
    assert [re.sub(r"[0-9.]+ MB", "N MB", note) for note in made.notes] == [
        "clipped at full scale: 1 sound (b/one); --level turns them down.",
        "of unequal lengths, which tells systems apart: 1 item (one).",
        "the page has N MB: some mail and browsers refuse that; --count makes it less.",
    ]


@pytest.mark.parametrize(
    ("systems", "items", "sentence"),
    [
        ({"a": "nowhere"}, ITEMS, "there is no folder"),
        ({"a": "empty"}, ITEMS, "there are no sounds in"),
        ({"a": "a"}, None, "give a table, --items items.csv"),
        ({"a": "a", "c": "c"}, ITEMS, "no sound has the same name in all of a, c"),
        ({"a": "a"}, [Item("three", "x", "y")], "none of the items in the table is a sound of all systems"),
        ({"a": "a"}, [Item("one", "x", "")], "item one needs two different names"),
        ({"a": "a"}, [Item("one", "x", "x")], "item one needs two different names"),
        ({}, ITEMS, "there are no systems"),
    ],
)
def test_what_cannot_be_a_test_is_refused_with_a_sentence(tmp_path: Path, systems, items, sentence: str):
    make_systems(tmp_path, ["a"], ["one"])
    make_systems(tmp_path, ["c"], ["elsewhere"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ListeningError, match=sentence):
        make_page({name: tmp_path / folder for name, folder in systems.items()}, tmp_path / "p.html", items=items)
    assert not (tmp_path / "p.html").exists()
    assert not (tmp_path / "p.key.json").exists()


def test_two_files_of_one_name_are_refused(tmp_path: Path):
    tone(tmp_path / "a" / "one.wav")
    tone(tmp_path / "a" / "one.flac")
    with pytest.raises(ListeningError, match="have one name"):
        make_page({"a": tmp_path / "a"}, tmp_path / "p.html", items=ITEMS)


def test_a_star_stands_for_the_item(tmp_path: Path):
    for item in ("a [1]", "b.2"):
        tone(tmp_path / "[run]" / item / "mix.wav")
        tone(tmp_path / "[run]" / item / "ours" / "pred.wav")
    tone(tmp_path / "[run]" / "mix.wav")
    found = find_sounds(tmp_path / "[run]" / "*" / "ours" / "pred.wav")
    assert found == {name: tmp_path / "[run]" / name / "ours" / "pred.wav" for name in ("a [1]", "b.2")}
    assert find_sounds(tmp_path / "[run]" / "*" / "mix.wav").keys() == found.keys()
    assert find_sounds(tmp_path / "[run]" / "*").keys() == {"mix"}
    with pytest.raises(ListeningError, match="more than one"):
        find_sounds(tmp_path / "*" / "*" / "mix.wav")
    with pytest.raises(ListeningError, match="there are no sounds"):
        find_sounds(tmp_path / "*" / "none.wav")


def test_the_published_sounds_of_clipsep_make_a_page(shared_data: Path, tmp_path: Path):
    folder = shared_data / "clipsep_demo" / "music-vggsound" / "*"
    systems = {"mixture": folder / "mix.wav", "clipsep": folder / "clipsep" / "pred.wav", "truth": folder / "gt.wav"}
    names = sorted(find_sounds(systems["truth"]))
    items = [Item(name, *(part.split("-")[0].replace("_", " ") for part in name.split("+", 1))) for name in names]
    made = make_page(systems, tmp_path / "p.html", items=items, level=Level.RMS)
    assert (made.items, made.trials) == (len(names), 3 * len(names))
    levels = {round(20 * np.log10(np.sqrt(np.mean(values**2))), 1) for values in sounds_in(made.page).values()}
    assert levels == {-23.0}


# ---- sounds


def test_flac_and_ogg_stereo_and_other_rates_are_read(tmp_path: Path):
    assert read_sound(tone(tmp_path / "s.flac", channels=2)).samples.shape == (1600, 2)
    assert read_sound(tone(tmp_path / "s.ogg")).sample_rate == RATE


@pytest.mark.parametrize(
    ("contents", "sentence"), [(b"no sound", "cannot be read as a sound"), (b"", "cannot be read as a sound")]
)
def test_a_file_that_is_no_sound_is_named(tmp_path: Path, contents: bytes, sentence: str):
    (tmp_path / "x.wav").write_bytes(contents)
    with pytest.raises(MediaError, match=sentence):
        read_sound(tmp_path / "x.wav")


def test_empty_endless_and_many_channelled_sounds_are_refused(tmp_path: Path):
    for values, sentence in (
        (np.zeros((0, 1)), "is empty"),
        (np.zeros((10, 3)), "has 3 channels"),
        (np.array([0.0, np.nan]), "no numbers"),
    ):
        soundfile.write(tmp_path / "x.wav", values, RATE, subtype="FLOAT")
        with pytest.raises(MediaError, match=sentence):
            read_sound(tmp_path / "x.wav")


def noise(amplitude: float) -> Sound:
    return Sound(amplitude * np.random.default_rng(0).uniform(-1, 1, (4000, 1)), RATE)


def test_levels_as_they_are_equal_peaks_or_equal_power():
    sounds = {"loud": noise(0.5), "soft": noise(0.01), "silent": noise(0.0)}
    assert match_levels(sounds, Level.AS_IS) == sounds
    peaks = {name: sound.peak for name, sound in match_levels(sounds, Level.PEAK).items()}
    assert peaks == pytest.approx({"loud": 10 ** (-1 / 20), "soft": 10 ** (-1 / 20), "silent": 0})
    powers = {name: sound.rms for name, sound in match_levels(sounds, Level.RMS).items()}
    assert powers == pytest.approx({"loud": 10 ** (-23 / 20), "soft": 10 ** (-23 / 20), "silent": 0})


def test_equal_power_never_clips_and_stays_equal():
    click = Sound(np.zeros((4000, 1)), RATE)
    click.samples[100] = 0.5
    matched = match_levels({"click": click, "noise": noise(0.3)}, Level.RMS)
    assert matched["click"].peak == pytest.approx(10 ** (-1 / 20))
    assert matched["click"].rms == pytest.approx(matched["noise"].rms)


def test_full_scale_clips_and_does_not_wrap():
    values, _ = soundfile.read(io.BytesIO(encode_flac(Sound(np.array([[1.7], [-1.7], [0.5]]), RATE))), dtype="int16")
    assert values.tolist() == [32767, -32768, 16384]


# ---- the table of items


def test_items_are_read_with_suffix_or_without_and_pictures_beside_the_table(tmp_path: Path):
    (tmp_path / "cat.png").write_bytes(b"")
    rows = [{"item": "a/one.wav", "text": " sea ", "image": "cat.png"}, {"item": "v1.2", "text": "x", "image": ""}]
    path = write_items(tmp_path / "items.csv", rows)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_items(path) == [Item("a/one", text="sea", image=tmp_path / "cat.png"), Item("v1.2", text="x")]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("name,target\nx,y\n", "line 1: unknown column 'name'"),
        ("target,other\nx,y\n", "no column item"),
        ("item,label\nx,y\n", "line 1: unknown column 'label'; the columns are item, target"),
        ("item,target,other\none,x\n", "line 2: the header has 3 columns"),
        ("item,target\none,x,y,z\n", "line 2: the header has 2 columns"),
        ("item\none\none.wav\n", "line 3: one stands in the table twice"),
        ("item,text\n,x\n", "line 2: item is empty"),
        ("item,image\none,no.png\n", "line 2: there is no picture"),
        ("item\n", "lists no items"),
        ('item\n"one\n', "is no CSV table"),
        (b"item\n\xff\xfe\n", "is no CSV table"),
    ],
)
def test_a_wrong_table_is_named_with_its_line(tmp_path: Path, text: str | bytes, sentence: str):
    path = tmp_path / "items.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ListeningError, match=sentence):
        read_items(path)


def test_a_table_that_is_not_there(tmp_path: Path):
    with pytest.raises(ListeningError, match="there is no table of items"):
        read_items(tmp_path / "none.csv")


def test_a_picture_that_is_none_is_named(tmp_path: Path):
    (tmp_path / "p.png").write_text("no picture")
    systems = make_systems(tmp_path, ["a"], ["one"])
    with pytest.raises(MediaError, match=r"p\.png is not a picture that can be read"):
        make_page(systems, tmp_path / "p.html", kind=Kind.MOS, items=[Item("one", image=tmp_path / "p.png")])
