"""Texts from outside become storable whatever they hold, and others stay as they are."""

from __future__ import annotations

import io
import json
import random

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pyarrow import parquet

from tests.hostile_text import HOSTILE, LONG, problem_of
from vidaudio.media.fetch.types import Fetched
from vidaudio.media.outcomes import Outcome, Reason
from vidaudio.text import CHANGED_IN_ARROW, CUT_MARK, MAX_CHARACTERS, escaped_name, is_utf8, storable_text

# Every kind of code point that matters, and those beside it.
EDGES = [0, 9, 10, 13, 27, 31, 32, 126, 127, 128, 133, 155, 160, 0x61C, 0x200C, 0x200D, 0x200E, 0x200F, 0x2027, 0x2028]
EDGES += [0x202E, 0x202F, 0x2065, 0x2066, 0x2069, 0x206A, 0xD7FF, 0xD800, 0xDBFF, 0xDC00, 0xDFFF, 0xE000, 0xFFFD]
EDGES += [0xFFFE, 0xFFFF, 0x10000, 0x1F600, 0x10FFFF, ord("["), ord("m"), ord("3")]


def strings(count: int = 3_000) -> list[str]:
    draw = random.Random(7)
    return ["".join(chr(draw.choice(EDGES)) for _ in range(draw.randrange(12))) for _ in range(count)]


@pytest.mark.parametrize("keep_line_ends", [False, True])
def test_any_string_becomes_storable_and_stays_so(keep_line_ends: bool):
    for text in [*strings(), HOSTILE, LONG]:
        clean = storable_text(text, keep_line_ends=keep_line_ends)
        assert problem_of(clean) is None, ascii(text)
        assert keep_line_ends or not set(clean) & {"\n", "\t"}
        assert len(clean) <= MAX_CHARACTERS
        assert storable_text(clean, keep_line_ends=keep_line_ends) == clean
        parquet.write_table(pa.table({"a": [clean]}), io.BytesIO())
        assert json.loads(json.dumps(clean, ensure_ascii=False).encode()) == clean


def test_ordinary_texts_of_all_languages_stay_as_they_are():
    for text in [
        "",
        "a dog barks",
        "Ünïcödé",
        "犬が吠える",
        "می\u200cخواهم",
        "👩\u200d👩\u200d👧",
        "עברית",
        "a\u00a0b",
        "x" * MAX_CHARACTERS,
    ]:
        assert storable_text(text) == text
    assert storable_text("two\nlines\tand a tab", keep_line_ends=True) == "two\nlines\tand a tab"


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("cut \ud83d", "cut \N{REPLACEMENT CHARACTER}"),
        ("joined \ud83d\ude00", "joined \N{GRINNING FACE}"),
        ("\ude00\ud83d", "\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}"),
        ("a\0b", "ab"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("photo\u202egnp.exe", "photognp.exe"),
        ("one\r\ntwo\rthree\u2028four", "one two three four"),
    ],
)
def test_what_becomes_of_what(text: str, clean: str):
    assert storable_text(text) == clean


def test_a_long_text_is_cut_and_says_so():
    cut = storable_text(LONG, max_characters=50)
    assert len(cut) == 50
    assert cut.endswith(CUT_MARK)


def test_arrow_finds_the_same_texts():
    texts = [text for text in strings() if is_utf8(text)]
    found = pc.match_substring_regex(pa.array(texts), CHANGED_IN_ARROW).to_pylist()
    assert found == [storable_text(text, keep_line_ends=True) != text for text in texts]


def test_names_stay_but_for_what_breaks_a_line():
    assert escaped_name("Ü 100% #1?.mp4") == "Ü 100% #1?.mp4"
    assert escaped_name("a\nb\x85\u2028") == "a%0Ab%C2%85%E2%80%A8"


def test_no_outcome_and_no_fact_of_a_fetch_can_be_unstorable():
    for text in [HOSTILE, LONG, *strings(200)]:
        outcome = Outcome.failed(Reason.UNKNOWN, text)
        info = {"title": text, text: "x", "duration": float("nan"), "uploader": {"name": text}, "channel": None}
        facts = Fetched("a", outcome, info=info).info
        for stored in (outcome.message, *facts, *map(str, facts.values())):
            assert problem_of(stored) is None
        json.dumps(facts, allow_nan=False, ensure_ascii=False).encode()
    assert Fetched("a", Outcome.done(), info={"duration": 10**400, "title": ""}).info == {}
    assert Fetched("a", Outcome.done(), info={"duration": 12}).info == {"duration": 12.0}
