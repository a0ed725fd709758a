"""Files inside other people's tars, such as WebDataset shards of videos: listed, and copied out one by one.

A file in a tar has the tar's path and its own name as its path: `/data/shard-000.tar/dog/1.mp4`.
"""

from __future__ import annotations

import functools
import shutil
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import MappingProxyType

from vidaudio.text import first_line

TAR_ENDING = ".tar"
MOST_FILES = 1 << 20
# Tars whose headers a process remembers.
REMEMBERED = 4


class NotATar(ValueError):
    """A file that is no plain tar, or a damaged one; the message says why."""


@dataclass(frozen=True, slots=True)
class TarMember:
    """One file in a tar: the offset and length of its bytes."""

    offset: int
    length: int


def files_in_tar(path: Path) -> Mapping[str, TarMember]:
    """Return the regular files of a tar by their names, in its order; of equal names the last one, as `tar` unpacks it.

    Names begin without `./`. A file whose name leads outside the folder, as one with `..` does, is left out.

    Raises:
        NotATar: When it is compressed, cut off or damaged, or holds more than 2^20 files.
        OSError: When it cannot be read.
    """
    stat = path.stat()
    return _files(path, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=REMEMBERED)
def _files(path: Path, size: int, modified: int) -> Mapping[str, TarMember]:
    found: dict[str, TarMember] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                # Otherwise tarfile would keep every header it has read.
                tar.members = []  # type: ignore[attr-defined] # typeshed does not know it
                name = PurePosixPath(member.name)
                if not member.isreg() or name.is_absolute() or ".." in name.parts:
                    continue
                if member.issparse() or member.offset_data + member.size > size:
                    raise NotATar(f"its file {member.name[:80]!r} does not lie inside it")
                if len(found) == MOST_FILES:
                    raise NotATar(f"it holds more than {MOST_FILES:,} files")
                found[str(name)] = TarMember(member.offset_data, member.size)
            _check_end(path, tar.offset)
    except (tarfile.TarError, ValueError, OverflowError, RecursionError, EOFError) as error:
        if isinstance(error, NotATar):
            raise
        raise NotATar(f"it does not open as a plain tar ({first_line(error)})") from error
    return MappingProxyType(found)


def _check_end(path: Path, offset: int) -> None:
    """Check that a tar ends where its headers end: with a block of zeros. A damaged header ends the listing as well.

    Raises:
        NotATar: When it does not.
    """
    with path.open("rb") as file:
        file.seek(offset)
        if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise NotATar("it is cut off or damaged after its last whole file")


def place_in_tar(path: Path) -> tuple[Path, str] | None:
    """Return the tar and the name in it if a path leads into one; otherwise None."""
    for parent in path.parents:
        if parent.suffix.lower() == TAR_ENDING and parent.is_file():
            return parent, path.relative_to(parent).as_posix()
    return None


def read_from_tar(path: Path, file: TarMember, most_bytes: int) -> bytes:
    """Return the bytes of a file in a tar.

    Raises:
        ValueError: When it is longer than `most_bytes`.
        OSError: When the tar cannot be read.
    """
    if file.length > most_bytes:
        raise ValueError(f"it has {file.length:,} bytes, more than {most_bytes:,}")
    with path.open("rb") as tar:
        tar.seek(file.offset)
        return tar.read(file.length)


def copy_from_tar(path: Path, file: TarMember, target: Path) -> None:
    """Write the bytes of a file in a tar to `target`.

    Raises:
        OSError: When the tar cannot be read, or ends too early.
    """
    left = file.length
    with path.open("rb") as tar, target.open("wb") as sink:
        tar.seek(file.offset)
        while left:
            piece = tar.read(min(left, shutil.COPY_BUFSIZE))  # type: ignore[attr-defined] # typeshed does not know it
            if not piece:
                raise OSError(f"{path.name} ends {left:,} bytes too early")
            sink.write(piece)
            left -= len(piece)
