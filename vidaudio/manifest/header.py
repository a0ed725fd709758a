"""Reader of csv and tab-separated files with a header: rows by column name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from vidaudio.errors import ManifestError
from vidaudio.manifest.rows import BadRow, Parsed
from vidaudio.manifest.text import csv_rows
from vidaudio.manifest.tsv import tsv_rows


def header_rows(
    path: Path, *, tabs: bool = False, required: Sequence[str] = ()
) -> tuple[list[str], Iterator[Parsed[dict[str, str]] | BadRow]]:
    """Return the column names, and the rows below them.

    Args:
        path: The list.
        tabs: Whether the file is tab-separated (see `vidaudio.manifest.tsv`) instead of csv.
        required: Columns that the file must have.

    Raises:
        ManifestError: When the header is missing or names a column twice, or a required column is missing (the message
            names the existing columns).
    """
    rows = tsv_rows(path) if tabs else csv_rows(path)
    first = next(rows, None)
    if first is None:
        raise ManifestError(f"{path} is empty; a header line was expected")
    if isinstance(first, BadRow):
        raise ManifestError(f"{first.place}: the header cannot be read: {first.reason}")
    names = first.value
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ManifestError(f"{first.place}: the header names {', '.join(map(repr, twice))} more than once")
    missing = [name for name in required if name not in names]
    if missing:
        raise ManifestError(f"{path} has no column {', '.join(missing)}; its columns are {', '.join(names)}")
    return names, _named(names, rows)


def _named(names: list[str], rows: Iterator[Parsed[list[str]] | BadRow]) -> Iterator[Parsed[dict[str, str]] | BadRow]:
    for row in rows:
        if isinstance(row, BadRow):
            yield row
        elif len(row.value) != len(names):
            yield BadRow(row.place, f"it has {len(row.value)} fields, the header {len(names)}")
        else:
            yield Parsed(row.place, dict(zip(names, row.value, strict=True)), row.remarks)
