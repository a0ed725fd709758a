"""Parquet that may come from anybody, read within a bound of memory.

A file of a few kilobytes can stand for billions of rows or for one text repeated a million times. What a file unpacks
to is estimated from its footer; where that is much, texts are read as numbers of a dictionary, measured, and only then
written out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

# A shard's table has some megabytes, a row group of the list a few.
MAX_UNPACKED_BYTES = 2 << 30
# Up to here an estimate is believed: it is far too high for texts that repeat.
LIKELY_BYTES = 256 << 20
_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8}


class TooLarge(ValueError):
    """A file that unpacks to more than any file of ours."""


def read_within(
    file: pq.ParquetFile,
    reopen: Callable[[], Any],
    groups: Sequence[int],
    columns: Sequence[str] | None = None,
    *,
    most: int = MAX_UNPACKED_BYTES,
) -> pa.Table:
    """Return row groups of a Parquet file, read in one thread.

    Args:
        file: Opened.
        reopen: Gives what the file is read from once more, where it has to be read in another way.
        groups: Numbers of the row groups.
        columns: Those that are needed; all by default.
        most: Bytes that the table may take.

    Raises:
        TooLarge: It would take more.
    """
    wanted = None if columns is None else list(columns)
    fixed, texts = _estimate(file, groups)
    if fixed > most:
        raise TooLarge(f"it unpacks to more than {most >> 20:,} MiB")
    # One thread: Arrow's own threads may hold the last reference to a Python buffer and then abort the process at exit.
    if fixed + texts <= LIKELY_BYTES:
        return file.read_row_groups(list(groups), columns=wanted, use_threads=False)
    again = pq.ParquetFile(reopen(), read_dictionary=_text_columns(file))
    table = again.read_row_groups(list(groups), columns=wanted, use_threads=False)
    if sum(_unpacked_bytes(column) for column in table.columns) > most:
        raise TooLarge(f"it unpacks to more than {most >> 20:,} MiB")
    fields = [file.schema_arrow.field(name) for name in table.column_names]
    return table.cast(pa.schema(fields, metadata=file.schema_arrow.metadata))


def read_whole(data: bytes, columns: Sequence[str] | None = None) -> pa.Table:
    """Return all of a Parquet file in memory; see `read_within`."""
    file = pq.ParquetFile(pa.BufferReader(data))
    return read_within(file, lambda: pa.BufferReader(data), range(file.num_row_groups), columns)


def _estimate(file: pq.ParquetFile, groups: Sequence[int]) -> tuple[int, int]:
    """Bytes of values of a fixed width, and the most that texts may take."""
    fixed = texts = 0
    for number in groups:
        group = file.metadata.row_group(number)
        for place in range(group.num_columns):
            column = group.column(place)
            if column.physical_type == "BYTE_ARRAY":
                fixed += column.num_values * _WIDTHS["INT32"]
                texts += column.num_values * max(1, column.total_uncompressed_size)
            else:
                width = _WIDTHS.get(column.physical_type) or file.schema.column(place).length
                fixed += column.num_values * width
    return fixed, texts


def _text_columns(file: pq.ParquetFile) -> list[str]:
    schema = file.schema
    columns = [schema.column(place) for place in range(len(schema))]
    return [column.path for column in columns if column.physical_type == "BYTE_ARRAY"]


def _unpacked_bytes(column: pa.ChunkedArray) -> int:
    """What a column's texts take once they are written out."""
    if pa.types.is_list(column.type):
        return sum(_unpacked_bytes(pa.chunked_array([chunk.values])) for chunk in column.chunks)
    if not pa.types.is_dictionary(column.type):
        return 0
    return sum(
        pc.sum(pc.take(pc.binary_length(chunk.dictionary), chunk.indices)).as_py() or 0 for chunk in column.chunks
    )
