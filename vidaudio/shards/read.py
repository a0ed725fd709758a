"""Byte ranges of one committed tar: by pread where it lies on local disk, from one whole read where it is remote."""

from __future__ import annotations

import os
from types import TracebackType

from vidaudio.shards.store import Store


class TarReader:
    """Reads members by offset. For jobs that read most of a tar; thread-safe."""

    def __init__(self, store: Store, name: str) -> None:
        local = store.local_path(name)
        self._descriptor = os.open(local, os.O_RDONLY) if local is not None else None
        self._data = b"" if local is not None else store.read(name)

    def read(self, offset: int, length: int) -> bytes:
        """`length` bytes from `offset`."""
        if self._descriptor is None:
            return self._data[offset : offset + length]
        return os.pread(self._descriptor, length, offset)

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> TarReader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
