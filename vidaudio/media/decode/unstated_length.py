"""Sound files that do not state their length: recordings that were cut off, and files written to a pipe.

A recorder writes the length into the header at the very end. If it was killed, the header contains 0 or the largest
possible number, and libsndfile finds no sound or too much. Such a file is read to its end: libsndfile gets the file's
bytes with a header that was completed in memory.
"""

from __future__ import annotations

import contextlib
import io
import os
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from vidaudio.files import name_for_c

UNKNOWN_32 = 2**32 - 1
UNKNOWN_64 = 2**64 - 1
# Number of frames that libsndfile reports for a FLAC file that does not state it.
_UNKNOWN_FRAMES = 2**62
# Chunks before the samples are small; a header longer than this is not a recording's.
_HEADER_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class RawSound:
    """Sound as read from a file.

    Attributes:
        samples: Samples `[frames, channels]`.
        sample_rate: Sample rate, Hz.
        subtype: Sample format in the file, as libsndfile names it.
        length_stated: Whether the file stated its length.
    """

    samples: np.ndarray
    sample_rate: int
    subtype: str
    length_stated: bool


class FlacWithoutLength(Exception):
    """Error for a FLAC file that was written to a pipe: libsndfile opens it but cannot read it; FFmpeg can."""


def read_sound_file(path: str | Path, dtype: str = "float32") -> RawSound:
    """Read a sound file that libsndfile knows, as samples of type `dtype`; to its end if it does not state a length.

    Raises:
        soundfile.LibsndfileError: When it is not such a sound file.
        FlacWithoutLength: When only FFmpeg can read it.
        OSError: When it cannot be opened.
    """
    head = completed_header(path)
    with (
        contextlib.closing(_Patched(path, head))
        if head is not None
        else contextlib.nullcontext(name_for_c(path)) as source,
        soundfile.SoundFile(source) as file,
    ):
        if file.frames >= _UNKNOWN_FRAMES:
            raise FlacWithoutLength(f"{path} does not state its length")
        return RawSound(file.read(dtype=dtype, always_2d=True), file.samplerate, file.subtype, head is None)


def completed_header(path: str | Path) -> bytes | None:
    """Return the header of a WAV, RF64 or AU file with its real length filled in; None for other files.

    Files that state their length also give None. The header is all bytes before the samples.
    """
    with open(path, "rb") as file:
        head = bytearray(file.read(_HEADER_BYTES))
    total = os.path.getsize(path)
    if head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"WAVE":
        return _completed_wave(head, total)
    if head[:4] == b".snd" and len(head) >= 24:
        begin, length = struct.unpack(">II", head[4:12])
        if length in (0, UNKNOWN_32) and 24 <= begin < total:
            head[8:12] = struct.pack(">I", min(total - begin, UNKNOWN_32))
            return bytes(head[:begin])
    return None


def _completed_wave(head: bytearray, total: int) -> bytes | None:
    sizes_64 = data = None
    at = 12
    while at + 8 <= len(head):
        name, size = bytes(head[at : at + 4]), struct.unpack("<I", head[at + 4 : at + 8])[0]
        if name == b"ds64":
            sizes_64 = at
        if name == b"data":
            data = at
            break
        at += 8 + size + size % 2
    if data is None:
        return None
    begin, stated = data + 8, struct.unpack("<I", head[data + 4 : data + 8])[0]
    if stated == UNKNOWN_32 and sizes_64 is not None:
        stated_64 = struct.unpack("<Q", head[sizes_64 + 16 : sizes_64 + 24])[0]
        unknown = stated_64 in (0, UNKNOWN_64)
        stated = min(stated_64, UNKNOWN_32)
    else:
        unknown = stated in (0, UNKNOWN_32)
    if not unknown or total <= begin or (stated == 0 and _is_chunks(bytes(head[begin:]), total - begin)):
        return None
    if sizes_64 is not None:
        # The sizes of the whole file and of the samples, and the number of samples, which libsndfile works out itself.
        head[sizes_64 + 8 : sizes_64 + 32] = struct.pack("<QQQ", total - 8, total - begin, 0)
    else:
        head[4:8] = struct.pack("<I", min(total - 8, UNKNOWN_32))
        head[data + 4 : data + 8] = struct.pack("<I", min(total - begin, UNKNOWN_32))
    return bytes(head[:begin])


def _is_chunks(after: bytes, total: int) -> bool:
    """Return whether only further chunks follow an empty `data` up to the file's end, so that there is no sound."""
    at = 0
    while at + 8 <= min(total, len(after)):
        name, size = after[at : at + 4], struct.unpack("<I", after[at + 4 : at + 8])[0]
        if not all(32 <= byte < 127 for byte in name):
            return False
        at += 8 + size + size % 2
    return at in (total, total + 1)


class _Patched(io.RawIOBase):
    """A read-only file whose first bytes are replaced."""

    def __init__(self, path: str | Path, head: bytes) -> None:
        self._file = open(path, "rb")  # noqa: SIM115 - closed by `close`
        self._head = head

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._file.tell(), os.SEEK_END: os.fstat(self._file.fileno()).st_size}[
            whence
        ]
        # libsndfile tries to seek before the beginning; the position then stays unchanged.
        return self._file.seek(base + offset) if base + offset >= 0 else self._file.tell()

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer) -> int:
        at, into = self._file.tell(), memoryview(buffer).cast("B")
        read = self._file.readinto(into)
        known = self._head[at : at + read]
        into[: len(known)] = known
        return read

    def close(self) -> None:
        self._file.close()
        super().close()
