"""A writer of a pack's index file that holds only one piece of the rows in memory, however many samples the pack has.

The file holds one record batch if 32-bit offsets suffice, so that a reader maps every column in one stretch. The
batch's buffers are as long as the pack: each grows in a file of a scratch folder and is mapped when the batch is
written. The resulting bytes equal those that `vidaudio.stream.index.write_index` writes for the same rows in memory.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
import pyarrow as pa

from vidaudio.shards.checksum import write_checksum
from vidaudio.stream.index import index_metadata, layout_of, write_index

# Offsets of texts and lists have 32 bits: a new batch begins before they overflow.
LARGEST_OFFSET = 2**31 - 1


class IndexWriter:
    """A context manager that writes one index: `with IndexWriter(schema, scratch) as writer`.

    Args:
        schema: Schema of the rows: whole numbers, floats, texts, and lists of these.
        scratch: Folder on local disk that takes as much space as the index; the caller deletes its contents.
    """

    def __init__(self, schema: pa.Schema, scratch: Path) -> None:
        self._schema, self._scratch = schema, scratch
        self._batches: list[list[_Column]] = []
        self._layout: list[tuple[str, int, int]] = []
        self._first, self._tables = schema.empty_table(), 0
        self._files = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.close()

    def add(self, rows: pa.Table) -> None:
        """Append rows."""
        self._tables += 1
        if self._tables == 1:
            # A small pack is one table and needs no files.
            self._first = rows
            return
        self._spool(self._first)
        self._first = self._schema.empty_table()
        self._spool(rows)

    def write(self, path: Path, metadata: dict[str, Any]) -> None:
        """Write the index file of all rows, with its checksum."""
        if not self._batches:
            write_index(path, self._first, metadata)
            return
        schema = self._schema.with_metadata(index_metadata(metadata, self._layout))
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, schema) as writer:
            for columns in self._batches:
                arrays = [column.mapped() for column in columns]
                writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))
        write_checksum(path)

    def _spool(self, rows: pa.Table) -> None:
        for split, shard, count in layout_of(rows):
            if self._layout and self._layout[-1][:2] == (split, shard):
                count += self._layout.pop()[2]
            self._layout.append((split, shard, count))
        for batch in rows.to_batches():
            if not self._batches or not all(
                column.has_room(array) for column, array in zip(self._batches[-1], batch.columns, strict=True)
            ):
                self._begin_batch()
            for column, array in zip(self._batches[-1], batch.columns, strict=True):
                column.add(array)

    def _begin_batch(self) -> None:
        folder = self._scratch / f"batch-{len(self._batches)}"
        folder.mkdir()
        self._batches.append(
            [_column(field.type, folder / f"{number}", self._files) for number, field in enumerate(self._schema)]
        )


class _Column(ABC):
    """A column that grows in files: which values are null, and the data that its subclasses add."""

    def __init__(self, kind: pa.DataType, at: Path, files: ExitStack) -> None:
        self._kind = kind
        self._rows = self._nulls = 0
        self._valid = _Spool(at.with_name(f"{at.name}.valid"), files)

    def has_room(self, array: pa.Array) -> bool:
        """Return whether these rows still fit into the same batch."""
        return True

    def add(self, array: pa.Array) -> None:
        """Append rows."""
        self._rows += len(array)
        self._nulls += array.null_count
        self._valid.add(array.is_valid().to_numpy(zero_copy_only=False).view(np.uint8))

    @abstractmethod
    def mapped(self) -> pa.Array:
        """Return all rows, in mapped pages of the files."""

    def _validity(self) -> pa.Buffer | None:
        """Return the validity bitmap, one bit a row; None if no row is null."""
        if not self._nulls:
            return None
        return pa.py_buffer(np.packbits(np.frombuffer(self._valid.mapped(), np.uint8), bitorder="little"))


class _Numbers(_Column):
    def __init__(self, kind: pa.DataType, at: Path, files: ExitStack) -> None:
        super().__init__(kind, at, files)
        self._values = _Spool(at.with_name(f"{at.name}.values"), files)

    def add(self, array: pa.Array) -> None:
        super().add(array)
        width = self._kind.bit_width // 8
        values = array.buffers()[1]
        self._values.add(memoryview(values)[array.offset * width : (array.offset + len(array)) * width])

    def mapped(self) -> pa.Array:
        return pa.Array.from_buffers(self._kind, self._rows, [self._validity(), self._values.mapped()], self._nulls)


class _Stretches(_Column):
    """A column of texts or lists: stores where each row ends among the values of all rows."""

    def __init__(self, kind: pa.DataType, at: Path, files: ExitStack) -> None:
        super().__init__(kind, at, files)
        self._ends = _Spool(at.with_name(f"{at.name}.ends"), files)
        self._ends.add(np.zeros(1, np.int32))
        self._values = 0

    def add(self, array: pa.Array) -> None:
        super().add(array)
        offsets = _offsets(array)
        self._ends.add(offsets[1:] - offsets[0] + np.int32(self._values))
        self._values += int(offsets[-1] - offsets[0])

    def has_room(self, array: pa.Array) -> bool:
        offsets = _offsets(array)
        return self._values + int(offsets[-1] - offsets[0]) <= LARGEST_OFFSET


class _Texts(_Stretches):
    def __init__(self, kind: pa.DataType, at: Path, files: ExitStack) -> None:
        super().__init__(kind, at, files)
        self._text = _Spool(at.with_name(f"{at.name}.text"), files)

    def add(self, array: pa.Array) -> None:
        super().add(array)
        offsets, text = _offsets(array), array.buffers()[2]
        if text is not None:
            self._text.add(memoryview(text)[offsets[0] : offsets[-1]])

    def mapped(self) -> pa.Array:
        buffers = [self._validity(), self._ends.mapped(), self._text.mapped()]
        return pa.Array.from_buffers(self._kind, self._rows, buffers, self._nulls)


class _Lists(_Stretches):
    def __init__(self, kind: pa.DataType, at: Path, files: ExitStack) -> None:
        super().__init__(kind, at, files)
        self._items = _column(kind.value_type, at.with_name(f"{at.name}.items"), files)

    def add(self, array: pa.Array) -> None:
        super().add(array)
        self._items.add(_items(array))

    def has_room(self, array: pa.Array) -> bool:
        return super().has_room(array) and self._items.has_room(_items(array))

    def mapped(self) -> pa.Array:
        buffers = [self._validity(), self._ends.mapped()]
        return pa.Array.from_buffers(self._kind, self._rows, buffers, self._nulls, children=[self._items.mapped()])


def _column(kind: pa.DataType, at: Path, files: ExitStack) -> _Column:
    if pa.types.is_list(kind):
        return _Lists(kind, at, files)
    return (_Texts if pa.types.is_string(kind) else _Numbers)(kind, at, files)


def _offsets(array: pa.Array) -> np.ndarray:
    """Return where the rows' values begin and end, int32 `[rows + 1]`."""
    if not len(array):
        return np.zeros(1, np.int32)
    return np.frombuffer(array.buffers()[1], np.int32, count=len(array) + 1, offset=4 * array.offset)


def _items(array: pa.ListArray) -> pa.Array:
    offsets = _offsets(array)
    return array.values.slice(int(offsets[0]), int(offsets[-1] - offsets[0]))


class _Spool:
    """A file that grows, and is mapped at the end."""

    def __init__(self, path: Path, files: ExitStack) -> None:
        self._path = path
        self._file: BinaryIO = files.enter_context(path.open("wb"))

    def add(self, data: Any) -> None:
        self._file.write(data)

    def mapped(self) -> pa.Buffer:
        self._file.flush()
        if not self._path.stat().st_size:
            return pa.py_buffer(b"")
        with pa.memory_map(str(self._path)) as file:
            return file.read_buffer()
