"""Reader of byte ranges of one committed tar: by pread on local disk, by requests or from a copy if it is remote."""

from __future__ import annotations

import os
from types import TracebackType

from vidaudio.files import naming
from vidaudio.shards.corruption import CorruptFileError
from vidaudio.shards.links import open_regular
from vidaudio.shards.scratch import temporary_folder
from vidaudio.shards.store import Store


class TarReader:
    """Reader of a tar's members by offset; thread-safe.

    Args:
        store: Store that holds the tar.
        name: Name of the tar.
        whole: Whether most of the tar will be read. A remote tar is then copied first, into a file that vanishes on
            closing. Otherwise every member is a request.

    Raises:
        CorruptFileError: When the tar is missing.
    """

    def __init__(self, store: Store, name: str, *, whole: bool = True) -> None:
        self._store, self._name, self._named = store, name, f"{store.url}/{name}"
        self._descriptor: int | None = None
        local = store.local_path(name)
        if local is not None:
            try:
                self._descriptor = open_regular(local, name)
            except FileNotFoundError:
                raise self._gone() from None
        elif whole:
            with temporary_folder() as folder:
                copy = folder / "copy.tar"
                try:
                    store.download(name, copy)
                except FileNotFoundError:
                    raise self._gone() from None
                self._descriptor = os.open(copy, os.O_RDONLY)

    def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes from `offset`.

        Raises:
            CorruptFileError: When the tar ends before that, or is missing.
        """
        if offset < 0 or length < 0 or self._ends_before(offset + length):
            raise self._short()
        if self._descriptor is None:
            try:
                data = self._store.read_range(self._name, offset, length)
            except FileNotFoundError:
                raise self._gone() from None
        else:
            with naming(self._named):
                data = os.pread(self._descriptor, length, offset)
        if len(data) != length:
            raise self._short()
        return data

    def _ends_before(self, end: int) -> bool:
        """Return whether a local tar is too short; checked before memory is allocated for the bytes."""
        return self._descriptor is not None and end > os.fstat(self._descriptor).st_size

    def _short(self) -> CorruptFileError:
        what = f"{self._store.url}/{self._name} is shorter than its table says; `vidaudio verify` finds such damage"
        return CorruptFileError(self._name, what)

    def _gone(self) -> CorruptFileError:
        return CorruptFileError(self._name, f"{self._store.url}/{self._name} is gone, though its table stands")

    def close(self) -> None:
        """Close the local file, if any."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> TarReader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
