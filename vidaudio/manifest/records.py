"""Reader of table rows as dicts, in four formats: csv, tsv, jsonl and Parquet."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from vidaudio.errors import ManifestError
from vidaudio.manifest.header import header_rows
from vidaudio.manifest.parquet_file import damage_named, open_parquet
from vidaudio.manifest.rows import BadRow, Parsed, Place
from vidaudio.manifest.text import NOT_TEXT, is_text, parse_json, read_text, split_lines
from vidaudio.paths import local_list
from vidaudio.text import first_line

FORMATS = {
    ".csv": "csv", ".tsv": "tsv", ".tab": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet",
    ".pq": "parquet",
}  # fmt: skip

Record = Mapping[str, object]
Records = Iterator[Parsed[Record] | BadRow]

# Parquet rows held at once: a table may have columns of pictures that are never read.
PARQUET_ROWS = 4_096
# Exceptions for a value that Python cannot hold: bytes that are not UTF-8, a date beyond the year 9999.
_CELL_DAMAGE = (pa.ArrowException, UnicodeDecodeError, ValueError, OverflowError)


def read_records(path: Path, table_format: str | None = None) -> tuple[list[str], Records]:
    """Return the column names and rows of a table.

    Args:
        path: The table.
        table_format: `csv`, `tsv`, `jsonl` or `parquet`; None means that the file's ending decides.

    Raises:
        ManifestError: When the file is missing or does not have its format, or its ending is unknown.
    """
    table_format = table_format or FORMATS.get(path.suffix.lower())
    if table_format == "csv":
        return header_rows(path)
    if table_format == "tsv":
        return header_rows(path, tabs=True)
    if table_format == "jsonl":
        return _json_lines(path)
    if table_format == "parquet":
        return _parquet(path)
    known = ", ".join(sorted(set(FORMATS.values())))
    if table_format is None:
        raise ManifestError(f"the ending of {path} does not say what table it is; name it with --format ({known})")
    raise ManifestError(f"there is no table format {table_format!r}; the formats are {known}")


def _json_lines(path: Path) -> tuple[list[str], Records]:
    rows = list(_json_rows(path))
    columns = dict.fromkeys(name for row in rows if isinstance(row, Parsed) for name in row.value)
    return list(columns), iter(rows)


def _json_rows(path: Path) -> Records:
    for number, line in enumerate(split_lines(read_text(path)), start=1):
        if not line.strip():
            continue
        place = Place(path, number)
        if not is_text(line):
            yield BadRow(place, NOT_TEXT)
            continue
        try:
            value = parse_json(line)
        except json.JSONDecodeError as error:
            yield BadRow(place, f"it is not JSON: {error.msg} at character {error.colno}")
            continue
        except ManifestError as error:
            yield BadRow(place, str(error))
            continue
        if not isinstance(value, dict):
            yield BadRow(place, f"it is a JSON {type(value).__name__}, not an object with a key a column")
        elif not all(map(is_text, value)):
            yield BadRow(place, "it has a key that is no text (half of an escaped pair)")
        else:
            yield Parsed(place, value)


def _parquet(path: Path) -> tuple[list[str], Records]:
    path = local_list(path)
    if not path.is_file():
        raise ManifestError(f"{path} is a folder, not a file" if path.exists() else f"there is no list at {path}")
    file = open_parquet(path)
    return list(file.schema_arrow.names), _parquet_rows(path, file)


def _parquet_rows(path: Path, file: parquet.ParquetFile) -> Records:
    number = 0
    with damage_named(path):
        for batch in file.iter_batches(batch_size=PARQUET_ROWS):
            columns = dict(zip(batch.schema.names, batch.columns, strict=True))
            for row in range(batch.num_rows):
                number += 1
                yield Parsed(Place(path, number, "row"), _ParquetRecord(columns, row))


class _ParquetRecord(Mapping[str, object]):
    """A row of a batch, whose cells become Python values only when accessed: other cells may be unreadable."""

    def __init__(self, columns: Mapping[str, pa.Array], row: int) -> None:
        self._columns, self._row = columns, row

    def __getitem__(self, name: str) -> object:
        try:
            return self._columns[name][self._row].as_py()
        except _CELL_DAMAGE as error:
            reason = first_line(error)
            raise ManifestError(f"the column {name!r} holds what cannot be read ({reason})") from error

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)
