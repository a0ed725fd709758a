"""Quotes in csv and tab-separated lists: no row is ever swallowed unnoticed, whatever programs write."""

from __future__ import annotations

import csv
import random
from pathlib import Path

import pandas as pd
import pytest

from vidaudio.errors import ManifestError
from vidaudio.manifest import BadRow, read_table
from vidaudio.manifest.text import SEVERAL_LINES, csv_rows
from vidaudio.manifest.tsv import tsv_rows

HEADER = ["youtube_id", "start", "end", "caption"]


def video(number: int) -> str:
    return f"aaaaaaaa{number:03d}"


def listing(path: Path, *, skip: bool = False):
    return read_table(path, skip_bad_rows=skip)


def captions(path: Path, *, skip: bool = False) -> list[str]:
    return [clip.captions[0] for clip in listing(path, skip=skip).clips]


def unquoted(delimiter: str, texts: list[str]) -> str:
    lines = [HEADER, *([video(number), "0", "10", text] for number, text in enumerate(texts))]
    return "".join(delimiter.join(line) + "\n" for line in lines)


STRAY = ["a dog barks", '"first words of a song', "a cat meows", 'last words of a song"', "a bell rings"]


def test_tabs_without_quoting_give_every_row_its_own_text(write):
    assert captions(write("t.tsv", unquoted("\t", STRAY))) == STRAY


@pytest.mark.parametrize("seed", range(20))
def test_whatever_quotes_stand_in_unquoted_tabs_no_row_is_lost(write, seed):
    draw = random.Random(seed)
    pieces = ['"', '""', " ", "a", "dog", ",", '"x"', "'"]
    texts = ["t" + str(n) + "".join(draw.choices(pieces, k=draw.randrange(6))) for n in range(40)]
    texts = [draw.choice(['"', ""]) + text for text in texts]
    found = captions(write("t.tsv", unquoted("\t", texts)))
    assert len(found) == len(texts)
    # But for fields that are quoted whole, each text is as it was written.
    for text, read in zip(texts, found, strict=True):
        assert read == text.strip() or text.strip()[1:-1].replace('""', '"').strip() == read


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])
@pytest.mark.parametrize("delimiter", ["\t", ","])
@pytest.mark.parametrize("order", [HEADER, [*HEADER[::-1]]])
def test_lists_written_with_quoting_come_back_as_they_were(tmp_path, quoting, delimiter, order):
    texts = ['he said "hi"', "two\nlines", "a tab\there, and a comma", '"quoted whole"', "plain", "three\n\nlines", '"']
    table = pd.DataFrame(
        {"youtube_id": list(map(video, range(len(texts)))), "start": 0, "end": 10, "caption": texts}, columns=HEADER
    )[order]
    path = tmp_path / ("t.tsv" if delimiter == "\t" else "t.csv")
    table.to_csv(path, sep=delimiter, index=False, quoting=quoting)
    assert captions(path) == texts


def test_a_quote_that_swallows_rows_of_csv_is_named_and_costs_its_own_row_alone(write):
    path = write("t.csv", unquoted(",", STRAY))
    with pytest.raises(ManifestError, match=r"t\.csv:3: a quote opens here and runs over 3 lines, which are rows"):
        captions(path)
    read = listing(path, skip=True)
    assert [clip.captions[0] for clip in read.clips] == [STRAY[0], *STRAY[2:]]
    assert read.rows == len(STRAY)


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("apart", [1, 2, 3])
@pytest.mark.parametrize("width", [2, 3, 4])
def test_wherever_two_stray_quotes_stand_every_row_is_read_or_named(write, place, apart, width):
    rows = [[f"r{number}c{column}" for column in range(width)] for number in range(8)]
    place %= width
    rows[2][place] = '"' + rows[2][place]
    rows[2 + apart][place] += '"'
    path = write("t.csv", "".join(",".join(row) + "\n" for row in [["h"] * width, *rows]))
    found = list(csv_rows(path))
    bad = [row.place.number for row in found if isinstance(row, BadRow)]
    good = [row.place.number for row in found if not isinstance(row, BadRow)]
    assert bad == [4]
    assert sorted(bad + good) == list(range(1, 10))


def test_swallowed_rows_that_are_malformed_themselves_are_found(write):
    path = write("t.csv", 'a,b,c\n1,2,"open\n3,4,5,6\n7,8,close"\n')
    assert [row.place.number for row in csv_rows(path)] == [1, 2, 3, 4]


def test_a_text_over_several_lines_with_delimiters_is_read_and_remarked_on(write):
    path = write("t.csv", "youtube_id,start,end,caption\n" + f'{video(0)},0,10,"A dog, then\na cat, barks"\n')
    read = listing(path)
    assert read.clips[0].captions == ("A dog, then\na cat, barks",)
    assert read.notes == (f"1 row ({path}:2): {SEVERAL_LINES}",)
    quiet = listing(write("q.csv", "youtube_id,start,end,caption\n" + f'{video(0)},0,10,"A dog\na cat"\n'))
    assert quiet.notes == ()


def test_a_quote_in_the_header_does_not_swallow_the_list(write):
    with pytest.raises(ManifestError, match="the header cannot be read: a quote opens here"):
        listing(write("t.csv", 'youtube_id,"start\naaaaaaaa001,0"\n'))


def test_a_comment_swallows_nothing(write):
    path = write(
        "t.csv",
        '# a, "b\nc,d\ne"\n',
    )
    assert [row.value for row in csv_rows(path, comment="#", skip_initial_space=True)] == [["c", "d"], ['e"']]


def test_quoted_tabs_and_lines_that_are_consistent_are_one_row(write):
    path = write("t.tsv", 'id\tcaption\tend\n1\t"a\tb"\t2\n3\t"two\nlines"\t4\n5\t"open\t6\n7\tx\t8\n')
    rows = [(row.place.number, row.value) for row in tsv_rows(path)]
    assert rows == [
        (1, ["id", "caption", "end"]),
        (2, ["1", "a\tb", "2"]),
        (3, ["3", "two\nlines", "4"]),
        (5, ["5", '"open', "6"]),
        (6, ["7", "x", "8"]),
    ]
    swallowing = write("s.tsv", 'id\tcaption\tend\n1\t"open\n2\tx\t3\n4\tclose"\t5\n')
    found = list(tsv_rows(swallowing))
    assert [row.place.number for row in found] == [1, 2, 3, 4]
    assert "runs over 3 lines" in found[1].reason


@pytest.mark.parametrize("ending", ["csv", "tsv"])
def test_a_long_text_is_called_long_and_an_open_quote_open(write, ending):
    delimiter = "\t" if ending == "tsv" else ","
    text = "x " * 70_000
    for written in (text, f'"{text}"'):
        path = write(f"t.{ending}", unquoted(delimiter, ["ok", written, "ok too"]))
        with pytest.raises(ManifestError, match=rf"t\.{ending}:3: a field has 1[34]\d,\d+ characters; at most"):
            captions(path)
        assert captions(path, skip=True) == ["ok", "ok too"]
    if ending == "csv":
        path = write("open.csv", unquoted(",", ["ok", '"open', *["a bell rings"] * 9_000]))
        with pytest.raises(ManifestError, match=r"open\.csv:3: a quote opens here and is never closed"):
            captions(path)


@pytest.mark.parametrize("text", ["a dog, " * 20_000, 'a "dog" ' * 20_000, "a dog\n" * 30_000])
def test_a_long_quoted_caption_is_called_long_whatever_is_in_it(tmp_path, text):
    path = tmp_path / "t.csv"
    pd.DataFrame({"youtube_id": [video(n) for n in range(3)], "caption": ["ok", text, "ok too"]}).to_csv(
        path, index=False
    )
    with pytest.raises(ManifestError, match=r"(?s)1 row .*t\.csv:3: a field has 1\d\d,\d+ characters; at most"):
        captions(path)
    assert captions(path, skip=True) == ["ok", "ok too"]


def test_captions_of_several_lines_beside_an_id_are_prose_and_no_rows(tmp_path):
    text = "A dog barking\nA cat, meowing"
    pd.DataFrame({"youtube_id": [video(1)], "caption": [text]}).to_csv(tmp_path / "t.csv", index=False)
    assert captions(tmp_path / "t.csv") == [text]


def test_a_short_row_swallows_no_whole_one(write):
    rows = [["youtube_id", "caption", "split"], [video(1), '"he said hi'], [video(2), 'a dog"', "train"]]
    path = write("t.tsv", "".join("\t".join(row) + "\n" for row in [*rows, [video(3), "cat", "train"]]))
    with pytest.raises(ManifestError, match=r"t\.tsv:2: a quote opens here and runs over 2 lines, among them rows"):
        captions(path)
    assert captions(path, skip=True) == ['a dog"', "cat"]


def test_other_programs_of_this_process_may_have_raised_csvs_limit(write):
    before = csv.field_size_limit(10**9)
    try:
        with pytest.raises(ManifestError, match="140,000 characters"):
            captions(write("t.csv", unquoted(",", [f'"{"x" * 140_000}"'])))
    finally:
        csv.field_size_limit(before)


def test_a_list_with_many_quotes_that_never_close_is_read_row_by_row(write):
    lines = "id\tcaption\n" + '1\t"open\n' * 20_000
    assert len(list(tsv_rows(write("t.tsv", lines)))) == 20_001
