"""Reading of Parquet files from untrusted sources within a memory limit.

A file of a few kilobytes can contain billions of rows, or one text repeated a million times. The unpacked size is
estimated from the file's footer. If the estimate is large, texts are read as dictionary indices, measured, and only
then expanded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

# A shard's table has some megabytes, a row group of the manifest a few.
MAX_UNPACKED_BYTES = 2 << 30
# Estimates up to this size need no closer look. For texts that repeat, the estimate is far too high.
LIKELY_BYTES = 256 << 20
_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8}


class TooLarge(ValueError):
    """A file that unpacks to more than the allowed size."""


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
        file: Opened Parquet file.
        reopen: Function that returns the input of `file` again, for a second way of reading it.
        groups: Numbers of the row groups.
        columns: Columns to read; None means all.
        most: Largest size of the table in bytes.

    Raises:
        TooLarge: When the table would be larger.
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
    """Return the bytes of fixed-width values (with dictionary indices of texts), and the most that texts may take."""
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
    """Return the bytes that a column's texts take once they are expanded."""
    if pa.types.is_list(column.type):
        return sum(_unpacked_bytes(pa.chunked_array([chunk.values])) for chunk in column.chunks)
    if not pa.types.is_dictionary(column.type):
        return 0
    return sum(
        pc.sum(pc.take(pc.binary_length(chunk.dictionary), chunk.indices)).as_py() or 0 for chunk in column.chunks
    )
