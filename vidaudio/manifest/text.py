"""Text files as people have them: byte order marks, three kinds of line end, bytes of other encodings, broken quotes.

Lines are physical lines of the file, counted from 1, also behind a quoted field that spans several: a message that
names a line must name the one that an editor shows.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from vidaudio.errors import ManifestError
from vidaudio.manifest.rows import BadRow, Parsed, Place
from vidaudio.places import local_list

NOT_TEXT = "it holds bytes that are not UTF-8; save the list as UTF-8"


def read_text(path: Path) -> str:
    """The text of a UTF-8 or (with its mark) UTF-16 file, without the mark.

    Bytes that are not UTF-8 stay in the text as lone surrogates (`is_text` finds them), so that they cost a row and not
    the list.

    Raises:
        ManifestError: There is no such file, or it is a folder or a URL, or it cannot be read.
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
    """Physical lines with their ends; a line ends at LF, CRLF or CR alone (`str.splitlines` knows ten more)."""
    return list(io.StringIO(text, newline=""))


def is_text(value: str) -> bool:
    """Whether it can be written as UTF-8, so whether every byte of it was."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def csv_rows(
    path: Path, *, delimiter: str = ",", skip_initial_space: bool = False, comment: str | None = None
) -> Iterator[Parsed[list[str]] | BadRow]:
    """Rows of a csv file with the lines they begin on; fields are stripped, blank rows and comments left out.

    A broken quote costs one row: reading goes on with the line behind the one it opened on, so that it can never
        swallow
    the rest of the file unnoticed.

    Raises:
        ManifestError: As `read_text`, at the call.
    """
    return _csv_rows(path, split_lines(read_text(path)), delimiter, skip_initial_space, comment)


def _csv_rows(
    path: Path, lines: list[str], delimiter: str, skip_initial_space: bool, comment: str | None
) -> Iterator[Parsed[list[str]] | BadRow]:
    for number, row in _records(lines, delimiter, skip_initial_space):
        if comment and lines[number - 1].startswith(comment):
            continue
        place = Place(path, number)
        if isinstance(row, str):
            yield BadRow(place, row)
        elif not all(map(is_text, row)):
            yield BadRow(place, NOT_TEXT)
        elif any(field.strip() for field in row):
            yield Parsed(place, [field.strip() for field in row])


def _records(lines: list[str], delimiter: str, skip_initial_space: bool) -> Iterator[tuple[int, list[str] | str]]:
    """(line, fields) or (line, reason) for every record."""
    begin = 0
    while begin < len(lines):
        reader = csv.reader(
            (lines[index] for index in range(begin, len(lines))),
            delimiter=delimiter,
            skipinitialspace=skip_initial_space,
            strict=True,
        )
        while True:
            index = begin + reader.line_num
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield index + 1, _quote_reason(str(error))
                begin = index + 1
                break
            yield index + 1, row


def _quote_reason(error: str) -> str:
    if "unexpected end" in error or "field larger" in error:
        return "a quote opens here and is never closed"
    if "expected after" in error:
        return "a quoted field goes on behind its closing quote; quotes inside a field are doubled"
    return f"it is not csv: {error}"
