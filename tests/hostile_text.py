"""Strings that sites, containers, lists and file names have been seen to hold, and what no stored text may hold."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

# Half of a pair, its other half alone, the halves in the wrong order, NUL, a terminal escape, marks of reading
# direction, line ends of several kinds, a code point that XML forbids.
HOSTILE = "Ti\ud83d tle\ude00\udc00\ud800 a\0b \x1b[31mred\x1b[0m \u202egnp.exe\u2066\u200f"
HOSTILE += "\r\nsecond\x85third\u2028\ufffe end"
LONG = "long " * 60_000
UNWANTED = re.compile(
    "[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)
LONGEST = 131_072


def problem_of(text: str) -> str | None:
    """Return what is wrong with a stored text; None where nothing is."""
    if found := UNWANTED.search(text):
        return f"{found[0]!r} at {found.start()} of {text[:80]!a}"
    return f"{len(text):,} characters" if len(text) > LONGEST else None


def texts_of(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield (place, text) for every text in the tables and text files below a folder."""
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".parquet":
            for name, column in zip((table := parquet.read_table(path)).column_names, table.columns, strict=True):
                yield from ((f"{path} {name}", text) for text in _strings(column))
        elif path.suffix in {".json", ".md", ".csv", ".html", ".jsonl"}:
            yield str(path), path.read_text("utf-8")


def _strings(column: pa.ChunkedArray) -> Iterator[str]:
    for value in column.to_pylist():
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str):
                yield text
