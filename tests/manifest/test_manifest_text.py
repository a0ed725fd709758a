"""Reading csv text: true lines, marks, line ends, encodings, broken quotes."""

import pytest

from vidaudio.errors import ManifestError
from vidaudio.manifest import BadRow
from vidaudio.manifest.text import csv_rows


def rows(path, **options):
    """(line, fields or reason) of every row."""
    return [
        (row.place.number, row.reason if isinstance(row, BadRow) else row.value) for row in csv_rows(path, **options)
    ]


def test_lines_are_physical_lines_also_behind_quoted_line_ends_and_blank_lines(write):
    path = write("list.csv", 'a,"one\ntwo\n\nthree",b\n\n  \nc,d,e\n')
    assert rows(path) == [(1, ["a", "one\ntwo\n\nthree", "b"]), (7, ["c", "d", "e"])]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_all_line_ends_count_the_same(write, end):
    assert rows(write("list.csv", end.join(["a,b", "", "c,d"]))) == [(1, ["a", "b"]), (3, ["c", "d"])]


def test_a_unicode_line_separator_ends_no_line(write):
    assert rows(write("list.csv", "a,x\u2028y\x85z\nb,c")) == [(1, ["a", "x\u2028y\x85z"]), (2, ["b", "c"])]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_byte_order_marks_are_understood_and_not_part_of_the_first_field(write, encoding):
    assert rows(write("list.csv", "é,b\nc,d".encode(encoding))) == [(1, ["é", "b"]), (2, ["c", "d"])]


def test_bytes_that_are_not_utf_8_cost_their_row_alone(write):
    path = write("list.csv", b"a,b\ncaf\xe9,d\ne,f\n")
    assert [line for line, _ in rows(path)] == [1, 2, 3]
    assert "not UTF-8" in rows(path)[1][1]
    assert rows(path)[2] == (3, ["e", "f"])


def test_an_unclosed_quote_costs_its_row_and_not_the_rest_of_the_file(write):
    path = write("list.csv", 'a,b\n"c,d\ne,f\ng,h\n')
    found = rows(path)
    assert found[0] == (1, ["a", "b"])
    assert found[1] == (2, "a quote opens here and is never closed")
    assert found[2:] == [(3, ["e", "f"]), (4, ["g", "h"])]


def test_text_behind_a_closing_quote_is_a_bad_row(write):
    found = rows(write("list.csv", 'a,"b"c\nd,e\n'))
    assert "behind its closing quote" in found[0][1]
    assert found[1] == (2, ["d", "e"])


def test_a_quote_inside_an_unquoted_field_is_text(write):
    assert rows(write("list.csv", 'a,he said "hi" twice\n')) == [(1, ["a", 'he said "hi" twice'])]


def test_comments_are_left_out_whatever_they_hold(write):
    assert rows(write("list.csv", '# a "b"c, "d\n#\ne,f\n'), comment="#") == [(3, ["e", "f"])]


def test_a_missing_file_a_folder_and_false_utf_16_are_named(tmp_path, write):
    with pytest.raises(ManifestError, match=r"there is no list at .*none\.csv"):
        csv_rows(tmp_path / "none.csv")
    with pytest.raises(ManifestError, match="is a folder"):
        csv_rows(tmp_path)
    with pytest.raises(ManifestError, match="marked as UTF-16"):
        csv_rows(write("odd.csv", b"\xff\xfea"))
