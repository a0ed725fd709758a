"""Lists of any length, read one piece at a time, so that a build's memory does not grow with the list.

A small list is read and checked as a whole, as in `read_manifest`. A large Parquet file is checked one piece at a time,
and its ids are compared by hash; ids with equal hashes are then compared as texts.
"""

from __future__ import annotations

import abc
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from vidaudio.errors import ManifestError
from vidaudio.hashing import hashed
from vidaudio.manifest.parquet_file import damage_named, open_parquet
from vidaudio.manifest.schema import SCHEMA
from vidaudio.manifest.store import checked_table, read_manifest
from vidaudio.paths import local_list
from vidaudio.text import number_of

# A list of at most this many rows is held in memory.
WHOLE_ROWS = 200_000
PIECE_ROWS = 16_384


class RowSource(abc.ABC):
    """Rows of a list, in order, which can be read repeatedly.

    Attributes:
        num_rows: Number of rows.
    """

    num_rows: int

    @abc.abstractmethod
    def tables(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Yield the rows in pieces of bounded size, with some columns; None means all columns of a manifest."""


class TableRows(RowSource):
    """Rows that are in memory."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table.select(SCHEMA.names)
        self.num_rows = table.num_rows

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Yield the rows in pieces of `PIECE_ROWS`."""
        chosen = self._table.select(columns or SCHEMA.names)
        for first in range(0, self.num_rows, PIECE_ROWS):
            yield chosen.slice(first, PIECE_ROWS)


class ParquetRows(RowSource):
    """Rows of a Parquet file, which is read anew each time.

    Args:
        path: The file; its columns are those of a manifest, or hold the same values in other types.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.num_rows = open_parquet(path).metadata.num_rows

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Yield the checked rows in pieces of at most `PIECE_ROWS`."""
        names = list(columns or SCHEMA.names)
        first = 0
        with open_parquet(self._path) as file:
            pieces = file.iter_batches(batch_size=PIECE_ROWS, columns=names, use_threads=False)
            while True:
                with damage_named(self._path):
                    batch = next(pieces, None)
                if batch is None:
                    return
                where = f"{self._path}, rows {first + 1:,} to {first + batch.num_rows:,}"
                yield checked_table(pa.Table.from_batches([batch]), where, names)
                first += batch.num_rows


class ChosenRows(RowSource):
    """Some rows of another source.

    Args:
        source: Source of all rows.
        chosen: Whether each row is taken, bool `[rows]`.
    """

    def __init__(self, source: RowSource, chosen: np.ndarray) -> None:
        self._source, self._chosen = source, chosen
        self.num_rows = int(np.count_nonzero(chosen))

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Yield the chosen rows of each piece of the source."""
        first = 0
        for table in self._source.tables(columns):
            yield table.filter(pa.array(self._chosen[first : first + table.num_rows]))
            first += table.num_rows


def open_manifest(path: str | Path) -> RowSource:
    """Open a manifest of any length, checked as in `read_manifest`; a long manifest is not held in memory.

    Raises:
        ManifestError: As `read_manifest`.
    """
    path = local_list(path)
    if not path.is_file() or open_parquet(path).metadata.num_rows <= WHOLE_ROWS:
        return TableRows(read_manifest(path))
    file = open_parquet(path)
    missing = [name for name in SCHEMA.names if name not in file.schema_arrow.names]
    if missing:
        # `read_manifest` raises the error, with the fuller message.
        read_manifest(path)
    rows = ParquetRows(path)
    hashes = np.concatenate([hashed(table["id"]) for table in rows.tables()])
    _check_distinct(rows, hashes, path)
    return rows


def first_rows(rows: RowSource, count: int) -> pa.Table:
    """Return the first `count` rows, or all rows if there are fewer."""
    pieces, held = [SCHEMA.empty_table()], 0
    for table in rows.tables():
        if held >= count:
            break
        pieces.append(table.slice(0, count - held))
        held += pieces[-1].num_rows
    return pa.concat_tables(pieces)


def _check_distinct(rows: RowSource, hashes: np.ndarray, path: Path) -> None:
    """Refuse repeated ids; texts are compared only if their hashes are equal."""
    ordered = np.sort(hashes)
    met = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    if not len(met):
        return
    seen: set[str] = set()
    twice: dict[str, None] = {}
    first = 0
    for table in rows.tables(["id"]):
        suspects = np.isin(hashes[first : first + table.num_rows], met)
        first += table.num_rows
        for clip_id in table["id"].filter(pa.array(suspects)).to_pylist():
            if clip_id in seen:
                twice[clip_id] = None
            seen.add(clip_id)
    if twice:
        raise ManifestError(
            f"{path}: {number_of(len(twice), 'id comes', 'ids come')} more than once, the first is {next(iter(twice))}"
        )
