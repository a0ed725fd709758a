"""A byte range of a file, such as a tar member, as a file object of its own, read in place."""

from __future__ import annotations

import io
import os


class FilePart(io.RawIOBase):
    """A byte range of a file as a read-only, seekable file, so that a decoder can read a tar member in place.

    Args:
        path: Path of the whole file.
        offset: First byte of the range.
        length: Length of the range in bytes; None means to the end of the file.

    Attributes:
        identity: Key that identifies this range of the file in its current state.
        error: Last read error of the disk, otherwise None. A decoder would take such an error for the end of the file.
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
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set the position relative to the range and return it; positions before the beginning become 0."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._length}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        """Return the position relative to the beginning of the range."""
        return self._position

    def read(self, size: int = -1) -> bytes:
        """Read up to `size` bytes, or all remaining bytes of the range if `size` is None or negative.

        Raises:
            OSError: When the disk cannot be read; `error` keeps it.
        """
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
        """Read into a buffer and return the number of bytes read."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Close the underlying file."""
        if not self.closed:
            os.close(self._descriptor)
        super().close()
