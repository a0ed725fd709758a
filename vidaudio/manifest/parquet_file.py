"""Opening Parquet files that may be anything: what pyarrow raises for a damaged one becomes one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from vidaudio.errors import ManifestError
from vidaudio.text import is_utf8, shown_name

# A damaged file raises any of these, by where the damage is; texts that are not UTF-8 show when they become Python's.
_DAMAGE = (pa.ArrowException, OSError, UnicodeDecodeError)


def open_parquet(path: Path) -> parquet.ParquetFile:
    """The one file alone, not a data set: a folder named `split=train` must not become a column.

    Raises:
        ManifestError: It is not Parquet, or its name is not UTF-8.
    """
    check_name(path)
    try:
        # By its whole path: a relative one such as `s3:a.parquet` would be taken for a URL.
        return parquet.ParquetFile(path.absolute())
    except _DAMAGE as error:
        raise ManifestError(
            f"{path} is not a Parquet file; `vidaudio manifest` makes one of a list, `vidaudio manifest table` of a csv"
        ) from error


def check_name(path: Path) -> None:
    """Refuse a Parquet file that Arrow cannot name.

    Raises:
        ManifestError: Its name is not UTF-8.
    """
    if not is_utf8(str(path)):
        raise ManifestError(f"the name {shown_name(str(path))} is not UTF-8, which Arrow needs; rename it")


@contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Turns what reading a damaged file raises into a `ManifestError`."""
    try:
        yield
    except _DAMAGE as error:
        reason = str(error).strip().splitlines()
        raise ManifestError(f"{path} is a damaged Parquet file: {reason[0] if reason else error!r}") from error
