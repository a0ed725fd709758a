"""Checksums embedded in tables, so that a single flipped bit anywhere in the file is detected.

Parquet and Arrow files store texts of a schema's metadata unchanged. A file is first written with a checksum of zeros
in its metadata and hashed in that form; then the hash replaces the zeros. A check puts the zeros back and hashes again.
"""

from __future__ import annotations

import hashlib
import mmap
import re
from pathlib import Path

SEAL_KEY = b"vidaudio.seal"
_MARK = b"vidaudio-seal:sha256="
_ZEROS = b"0" * 64
OPEN_SEAL = _MARK + _ZEROS
_SEAL = re.compile(re.escape(_MARK) + rb"([0-9a-f]{64})")


def with_checksum(data: bytes) -> bytes:
    """Return the file with its checksum filled in; the file must contain `OPEN_SEAL` in its metadata."""
    if OPEN_SEAL not in data:
        raise ValueError("the file has no open seal among its metadata")
    return data.replace(OPEN_SEAL, _MARK + hashlib.sha256(data).hexdigest().encode())


def write_checksum(path: Path) -> None:
    """Fill in a file's checksum as `with_checksum` does, but in place, for a file too large to hold in memory."""
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as data:
        places = _places(data)
        if not places:
            raise ValueError(f"{path} has no open seal among its metadata")
        found = hashlib.sha256(data).hexdigest().encode()
        for place in places:
            data[place : place + len(_ZEROS)] = found


def checksum_ok(data: bytes | mmap.mmap) -> bool:
    """Return whether the bytes match their checksum; False for a file without a checksum."""
    places = _places(data)
    if not places:
        return False
    digest = hashlib.sha256()
    with memoryview(data) as view:
        begin = 0
        for place in places:
            digest.update(view[begin:place])
            digest.update(_ZEROS)
            begin = place + len(_ZEROS)
        digest.update(view[begin:])
    expected = digest.hexdigest().encode()
    return all(data[place : place + len(_ZEROS)] == expected for place in places)


def file_checksum_ok(path: Path) -> bool:
    """Return `checksum_ok` of a file, using little memory."""
    if path.stat().st_size == 0:
        return False
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return checksum_ok(data)


def _places(data: bytes | mmap.mmap) -> list[int]:
    """Return the positions where the 64 digits of every checksum begin."""
    return [match.start(1) for match in _SEAL.finditer(data)]
