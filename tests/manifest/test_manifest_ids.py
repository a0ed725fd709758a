"""Ids: valid, distinct for distinct names, and a function of the names alone."""

import random
import re

import pytest

from vidaudio.manifest.ids import Name, assign_ids, escape, start_suffix

VALID = re.compile(r"[A-Za-z0-9_-]{1,128}")


def name(text: str, suffix: str = "") -> Name:
    return Name(full=text, stem=text, suffix=suffix)


HARD = [
    "a.b", "a_b", "a b", "a/b", "a//b", "A.B", "Ab", "aB", "ab", "-x", "-", "_", ".", "é", "e", "e\u0301", "日本",
    "日 本", "x" * 128, "x" * 129, "x" * 300, "x" * 299 + "y", "cat/1", "dog/1", "1", "\x00", "🎵", "🎶",
]  # fmt: skip


def test_every_name_gets_a_valid_id_and_no_two_share_one():
    ids = assign_ids([name(text) for text in HARD])
    assert all(VALID.fullmatch(identifier) for identifier in ids)
    assert len(set(ids)) == len(HARD)


def test_no_two_ids_differ_in_case_only():
    ids = assign_ids([name(text) for text in HARD])
    assert len({identifier.casefold() for identifier in ids}) == len(HARD)


def test_ids_do_not_depend_on_the_order_of_rows():
    shuffled = HARD.copy()
    random.Random(0).shuffle(shuffled)
    straight = dict(zip(HARD, assign_ids([name(text) for text in HARD]), strict=True))
    assert dict(zip(shuffled, assign_ids([name(text) for text in shuffled]), strict=True)) == straight


def test_rows_added_later_leave_the_ids_of_others_as_they_were_unless_they_collide():
    before = assign_ids([name("dog"), name("cat/1"), name("a b")])
    after = assign_ids([name("dog"), name("cat/1"), name("a b"), name("dog/1"), name("a.b"), name("bird")])
    assert after[:3] == before


@pytest.mark.parametrize("plain", ["dog", "-1pRmoJIGQc_000010", "_x", "x" * 128])
def test_names_that_are_ids_already_stay(plain):
    assert assign_ids([name(plain)]) == [plain]


def test_names_that_differ_in_case_only_are_two_clips_and_both_carry_a_hash():
    upper, lower = assign_ids([name("Dog"), name("dog")])
    assert upper.startswith("Dog-")
    assert lower.startswith("dog-")
    assert upper.casefold() != lower.casefold()


def test_youtube_ids_that_differ_in_case_only_keep_their_form():
    names = [Name(full=video, stem=video, suffix="_000000", fixed=True) for video in ("abcdefghijK", "abcdefghijk")]
    assert assign_ids(names) == ["abcdefghijK_000000", "abcdefghijk_000000"]


def test_a_name_that_looks_like_another_names_cut_does_not_collide_with_it():
    ids = assign_ids([name("a_000010"), name("a", "_000010")])
    assert len(set(ids)) == 2


def test_equal_names_get_equal_ids():
    first, second = assign_ids([name("a b"), name("a b")])
    assert first == second


def test_a_long_name_keeps_its_end_and_its_start_time():
    (identifier,) = assign_ids([name("/data/" * 50 + "violin.take2", "_000010")])
    assert len(identifier) == 128
    assert re.search(r"violin_take2-[a-z2-7]{10}_000010$", identifier)


def test_accents_are_dropped_and_other_characters_become_one_underscore():
    assert escape("Café (live)/日本 1") == "Cafe_live_1"


def test_ids_stay_the_same_between_versions():
    assert assign_ids([name("dog/1")]) == ["dog_1-wxhkrwgbw3"]


@pytest.mark.parametrize(
    ("start", "suffix"),
    [
        (0, "_000000"),
        (30.0, "_000030"),
        (12.5, "_012500m"),
        (239.8, "_239800m"),
        (29.9999, "_000030"),
        (1234567, "_1234567"),
        (0.001, "_000001m"),
    ],
)
def test_start_suffix_is_seconds_or_milliseconds_with_an_m(start, suffix):
    assert start_suffix(start) == suffix
