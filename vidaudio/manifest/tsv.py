"""Reader of tab-separated text, which most programs write without quoting, and some with the quoting of csv.

A line is a row: a quotation mark is part of the text, as in lists of captions. Quoting is honoured only if it is
consistent:

- a field that is quoted as a whole, with its inner quotes doubled, is read without its quotes; - a quoted field may
hold tabs and line ends if the row then has the header's number of fields, and its lines are not
  rows by themselves. They are if a line inside the field has the header's number of fields, or both the line that opens
  the quote and the line that closes it have it, or the closing line has it and begins with one word, as the first does.

So a quote at the beginning of one caption and another at the end of a later one never swallow the rows between.
"""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator
from pathlib import Path

from vidaudio.manifest.rows import BadRow, Parsed, Place
from vidaudio.manifest.text import SEVERAL_LINES, next_record, parsed_row, read_text, split_lines

# Limit of the lines of one row.
MAX_LINES_PER_ROW = 100


def tsv_rows(path: Path) -> Iterator[Parsed[list[str]] | BadRow]:
    """Return the rows of a tab-separated file with the lines they begin on, stripped, without blank rows.

    Raises:
        ManifestError: As `read_text`, at the call.
    """
    return _rows(path, [line.rstrip("\r\n") for line in split_lines(read_text(path))])


def _rows(path: Path, lines: list[str]) -> Iterator[Parsed[list[str]] | BadRow]:
    width: int | None = None
    index = 0
    while index < len(lines):
        place, used = Place(path, index + 1), 1
        remarks: tuple[str, ...] = ()
        row = [_unquoted(field) for field in lines[index].split("\t")]
        if width is None and any(row):
            width = len(row)
        quoted = _quoted_row(lines, index, width) if width is not None else None
        if isinstance(quoted, str):
            yield BadRow(place, quoted)
            index += 1
            continue
        if quoted is not None:
            row, used = quoted
            remarks = (SEVERAL_LINES,) if any("\t" in field and "\n" in field for field in row) else ()
        read = parsed_row(place, row, remarks)
        if read is not None:
            yield read
        index += used


def _unquoted(field: str) -> str:
    """Return a field without its quotes if it is quoted as a whole; any other field as it is."""
    field = field.strip()
    inner = field[1:-1]
    if len(field) > 1 and field[0] == field[-1] == '"' and '"' not in inner.replace('""', ""):
        return inner.replace('""', '"')
    return field


def _opens_quote(field: str) -> bool:
    """Return whether a field begins with a quote and is not quoted as a whole."""
    return field.startswith('"') and _unquoted(field) == field.strip()


def _quoted_row(lines: list[str], index: int, width: int) -> tuple[list[str], int] | str | None:
    """Return the row that begins on a line if quotes hold tabs or line ends, and its number of lines.

    Returns None if the line is a row by itself, and a reason if a quote would swallow lines that are rows.
    """
    fields = lines[index].split("\t")
    if not any(map(_opens_quote, fields)):
        return None
    if len(fields) == width and index + 1 < len(lines) and lines[index + 1].count("\t") + 1 == width:
        return None
    row, used = _by_quotes(lines, index)
    if len(row) != width:
        return None
    if used == 1:
        return None if len(fields) == width else (row, used)
    *inside, last = (line.count("\t") + 1 == width for line in lines[index + 1 : index + used])
    if len(fields) == width:
        return None if last or any(inside) else (row, used)
    if not any(inside) and not (last and _begins_alike(lines[index], lines[index + used - 1])):
        return row, used
    return f"a quote opens here and runs over {used:,} lines, among them rows of their own; close it"


def _begins_alike(line: str, other: str) -> bool:
    """Return whether two lines begin with one word each, as do rows that begin with an id or a URL."""
    return all(len(text.partition("\t")[0].split()) == 1 and not text.startswith('"') for text in (line, other))


def _by_quotes(lines: list[str], index: int) -> tuple[list[str], int]:
    """Return the fields of a record by the rules of csv, and its number of lines; no fields if its quotes are broken.

    Args:
        lines: Lines of the file, without their ends.
        index: Index of the line on which the record begins.
    """
    some = itertools.islice(lines, index, index + MAX_LINES_PER_ROW)
    reader = csv.reader((f"{line}\n" for line in some), delimiter="\t", strict=True)
    try:
        return next_record(reader), reader.line_num
    except (csv.Error, StopIteration):
        return [], 0
