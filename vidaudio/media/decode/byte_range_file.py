"""A member of a tar as a file of its own, read in place."""

from __future__ import annotations

import io
import os


class FilePart(io.RawIOBase):
    """A byte range of a file as a read-only, seekable file: lets a decoder read a tar member in place.

    Attributes:
        identity: Tells this part of the file, as it now is, from others.
        error: What the disk said when it last failed, which a decoder would take for the end of the file.
    """

    def __init__(self, path: str | os.PathLike[str], offset: int = 0, length: int | None = None) -> None:
        self._descriptor = os.open(path, os.O_RDONLY)
        self._offset = offset
        status = os.fstat(self._descriptor)
        self._length = status.st_size - offset if length is None else length
        self.identity = (str(path), offset, self._length, status.st_ino, status.st_size, status.st_mtime_ns)
        self._position = 0
        self.error: OSError | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._length}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def read(self, size: int = -1) -> bytes:
        left = max(0, self._length - self._position)
        wanted = left if size is None or size < 0 else min(size, left)
        try:
            data = os.pread(self._descriptor, wanted, self._offset + self._position)
        except OSError as error:
            self.error = error
            raise
        self._position += len(data)
        return data

    def readinto(self, buffer) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            os.close(self._descriptor)
        super().close()
