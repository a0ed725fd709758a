"""Reader of text files as they occur: byte order marks, three kinds of line end, other encodings, broken quotes.

Line numbers are those of physical lines, counted from 1, even after a quoted field that spans several lines: a message
must name the line that an editor shows.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidaudio.errors import ManifestError
from vidaudio.manifest.checks import MAX_FIELD_CHARACTERS, too_many
from vidaudio.manifest.rows import BadRow, Parsed, Place
from vidaudio.paths import local_list
from vidaudio.text import is_utf8

if TYPE_CHECKING:
    import _csv

NOT_TEXT = "it holds bytes that are not UTF-8; save the list as UTF-8"
SEVERAL_LINES = "a quoted field runs over several lines and holds delimiters; make sure that it swallows no rows"
_OPEN_QUOTE = "a quote opens here and is never closed"
# Longer than any accepted field, so that a long field is distinguished from a quote that is never closed.
_LONGEST_READ = 1 << 24


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file, or of a UTF-16 file with a byte order mark, without the mark.

    Bytes that are not UTF-8 stay in the text as lone surrogates (`is_text` finds them), so that they make one row bad
    and not the whole list.

    Raises:
        ManifestError: When the file is missing, is a folder or a URL, or cannot be read.
    """
    path = local_list(path)
    if path.is_dir():
        raise ManifestError(f"{path} is a folder; a list is a file (a folder of media is read by `manifest folder`)")
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise ManifestError(f"there is no list at {path}") from error
    except OSError as error:
        raise ManifestError(f"{path} cannot be read: {error.strerror}") from error
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        try:
            return data.decode("utf-16")
        except UnicodeDecodeError as error:
            raise ManifestError(f"{path} is marked as UTF-16 and is not: {error.reason}; save it as UTF-8") from error
    return data.decode("utf-8-sig", "surrogateescape")


def split_lines(text: str) -> list[str]:
    """Return physical lines with their ends; a line ends at LF, CRLF or CR alone (`str.splitlines` knows ten more)."""
    return list(io.StringIO(text, newline=""))


def is_text(value: str) -> bool:
    """Return whether a text can be written as UTF-8, so whether all its bytes were UTF-8."""
    return is_utf8(value)


def parse_json(text: str, make_object: Callable[[list[tuple[str, Any]]], Any] = dict) -> Any:
    """Return the value of a JSON text; an integer with more digits than Python reads becomes a `Decimal`.

    Args:
        text: One JSON document.
        make_object: Callable that makes an object from its pairs.

    Raises:
        json.JSONDecodeError: When the text is not JSON.
        ManifestError: When the JSON is nested too deeply to be read; the message is the reason alone.
    """
    try:
        return json.loads(text, parse_int=_parse_int, object_pairs_hook=make_object)
    except RecursionError as error:
        raise ManifestError("its JSON is nested too deeply") from error


def _parse_int(digits: str) -> int | Decimal:
    # Up to this length Python reads integers whatever its limit is set to.
    return int(digits) if len(digits) <= sys.int_info.str_digits_check_threshold else Decimal(digits)


def csv_rows(
    path: Path, *, delimiter: str = ",", skip_initial_space: bool = False, comment: str | None = None
) -> Iterator[Parsed[list[str]] | BadRow]:
    """Return the rows of a csv file with the lines they begin on, stripped, without blank rows and comments.

    A broken quote makes one row bad: reading continues at the line after the one with the quote, so that the quote
    never swallows the rest of the file unnoticed. The same applies to a quote that is closed further down if the lines
    between are rows by themselves. Other rows that span several lines and hold delimiters get a remark.

    Raises:
        ManifestError: As `read_text`, at the call.
    """
    lines = split_lines(read_text(path))
    if comment:
        # Comments are emptied before quotes are parsed: a quote in a comment must not swallow the rows below.
        lines = ["\n" if line.startswith(comment) else line for line in lines]
    return _csv_rows(path, _Quoting(lines, delimiter, skip_initial_space))


def parsed_row(place: Place, fields: Sequence[str], remarks: tuple[str, ...] = ()) -> Parsed[list[str]] | BadRow | None:
    """Return a row of a delimited file with its fields stripped; None for a blank row."""
    if not all(map(is_text, fields)):
        return BadRow(place, NOT_TEXT)
    longest = max(map(len, fields), default=0)
    if longest > MAX_FIELD_CHARACTERS:
        return BadRow(place, f"a field has {too_many(longest)}")
    stripped = [field.strip() for field in fields]
    return Parsed(place, stripped, remarks) if any(stripped) else None


def _csv_rows(path: Path, quoting: _Quoting) -> Iterator[Parsed[list[str]] | BadRow]:
    for number, row, remarks in quoting.records():
        place = Place(path, number)
        read = BadRow(place, row) if isinstance(row, str) else parsed_row(place, row, remarks)
        if read is not None:
            yield read


class _Quoting:
    """The records of a csv file, each checked for a quote that swallows the lines below it."""

    def __init__(self, lines: list[str], delimiter: str, skip_initial_space: bool) -> None:
        self._lines, self._delimiter, self._skip_initial_space = lines, delimiter, skip_initial_space
        # Number of fields of the first record that is not blank, which all other records should have.
        self._width: int | None = None

    def records(self) -> Iterator[tuple[int, list[str] | str, tuple[str, ...]]]:
        """Yield line, fields or reason, and remarks of every record."""
        begin = 0
        while begin < len(self._lines):
            reader = self._reader(itertools.islice(self._lines, begin, None), strict=True)
            while True:
                index = begin + reader.line_num
                try:
                    row = next_record(reader)
                except StopIteration:
                    return
                except csv.Error as error:
                    yield index + 1, _quote_reason(str(error)), ()
                    begin = index + 1
                    break
                lines = begin + reader.line_num - index
                problem = self._swallowed(row, lines) if lines > 1 else None
                if problem is not None:
                    yield index + 1, problem, ()
                    begin = index + 1
                    break
                if self._width is None and any(field.strip() for field in row):
                    self._width = len(row)
                yield index + 1, row, (SEVERAL_LINES,) if lines > 1 and self._holds_delimiter(row) else ()

    def _reader(self, lines: Iterable[str], *, strict: bool = False) -> _csv.Reader:
        return csv.reader(lines, delimiter=self._delimiter, skipinitialspace=self._skip_initial_space, strict=strict)

    def _fields(self, line: str) -> int:
        """Return the number of fields of a line that is read on its own; 0 for a blank line."""
        try:
            return len(next(self._reader([line]), [])) if line.strip() else 0
        except csv.Error:
            return 1

    def _holds_delimiter(self, row: list[str]) -> bool:
        return any(self._delimiter in field and _spans_lines(field) for field in row)

    def _swallowed(self, row: list[str], lines: int) -> str | None:
        """Return why a record of several lines is taken for several rows; None if it is one record."""
        width = self._width
        if width is None:
            if not self._holds_delimiter(row):
                return None
            return f"a quote opens here and runs over {lines:,} lines with delimiters in them; close it"
        if len(row) != width:
            return (
                f"a quote opens here and runs over {lines:,} lines, to a row of {len(row)} fields where the first has "
                f"{width}; close it, or double it if it is part of the text"
            )
        if not any(self._looks_like_rows(row, place) for place, field in enumerate(row) if _spans_lines(field)):
            return None
        return (
            f"a quote opens here and runs over {lines:,} lines, which are rows of their own; close it, or double it if "
            "it is part of the text (a text with such line ends can be listed in jsonl or Parquet)"
        )

    def _begins_with_words(self, line: str) -> bool:
        return len(line.partition(self._delimiter)[0].split()) > 1

    def _looks_like_rows(self, row: list[str], place: int) -> bool:
        """Return whether the lines of a field of several lines are rows: alone, each has as many fields as the list.

        The field's first and last line share theirs with the record's other fields.
        """
        width, parts = len(row), split_lines(row[place])
        if place and len(row[0].split()) == 1 and any(map(self._begins_with_words, parts[1:])):
            return False  # if rows begin with an id, a line that begins with several words is prose
        first, last = place + self._fields(parts[0]), self._fields(parts[-1]) + width - 1 - place
        inner = [count for count in map(self._fields, parts[1:-1]) if count]
        if all(count == width for count in (first, *inner, last)):
            return True
        # Rows among the lines may be malformed themselves.
        return width > 2 and (width in inner or (place == width - 1 and last == width))


def next_record(reader: Iterator[list[str]]) -> list[str]:
    """Return the next record of a csv reader, with fields of any length; the limit of other readers is restored.

    Raises:
        StopIteration: When there is no further record.
        csv.Error: When the record's quotes are broken.
    """
    before = csv.field_size_limit(_LONGEST_READ)
    try:
        return next(reader)
    finally:
        csv.field_size_limit(before)


def _quote_reason(error: str) -> str:
    if "field larger" in error:
        return f"a field has more than {_LONGEST_READ:,} characters, or a quote opens here and is never closed"
    if "unexpected end" in error:
        return _OPEN_QUOTE
    if "expected after" in error:
        return "a quoted field goes on behind its closing quote; quotes inside a field are doubled"
    return f"it is not csv: {error}"


def _spans_lines(field: str) -> bool:
    return "\n" in field or "\r" in field
