"""Opening of Parquet files that may be damaged: pyarrow's exceptions become one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from vidaudio.errors import ManifestError
from vidaudio.text import is_utf8, shown_name

# Which one a damaged file raises depends on the damage; texts that are not UTF-8 raise when converted to Python.
_DAMAGE = (pa.ArrowException, OSError, UnicodeDecodeError)


def open_parquet(path: Path) -> parquet.ParquetFile:
    """Open a single Parquet file, not as a data set: a folder named `split=train` must not become a column.

    Raises:
        ManifestError: When the file is not Parquet, or its name is not UTF-8.
    """
    check_name(path)
    try:
        # With the absolute path: a relative one such as `s3:a.parquet` would be taken for a URL.
        return parquet.ParquetFile(path.absolute())
    except _DAMAGE as error:
        raise ManifestError(
            f"{path} is not a Parquet file; `vidaudio manifest` makes one of a list, `vidaudio manifest table` of a csv"
        ) from error


def check_name(path: Path) -> None:
    """Refuse a Parquet file whose name Arrow cannot take.

    Raises:
        ManifestError: When the name is not UTF-8.
    """
    if not is_utf8(str(path)):
        raise ManifestError(f"the name {shown_name(str(path))} is not UTF-8, which Arrow needs; rename it")


@contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Convert the exceptions that reading a damaged file raises to a `ManifestError`."""
    try:
        yield
    except _DAMAGE as error:
        reason = str(error).strip().splitlines()
        raise ManifestError(f"{path} is a damaged Parquet file: {reason[0] if reason else error!r}") from error
