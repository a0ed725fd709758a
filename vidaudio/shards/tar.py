"""Shards as plain WebDataset tars: written with identical bytes each time, read by offset without unpacking."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vidaudio.shards.names import is_name_part
from vidaudio.text import first_line

MAX_MEMBERS = 1 << 20


class BadTar(ValueError):
    """A file that is not a valid tar of a shard; the message says why."""


@dataclass(frozen=True, slots=True)
class Member:
    """One file in a tar: its name, and the offset and length of its bytes."""

    name: str
    offset: int
    length: int


class ShardWriter:
    """Writer of samples with `webdataset.TarWriter`: fixed times and owners, so equal samples give equal bytes.

    Args:
        path: Path of the tar to write.
    """

    def __init__(self, path: Path) -> None:
        # Imported here because it imports PyTorch, which readers do not need.
        import webdataset

        self.path = path
        self._writer = webdataset.TarWriter(str(path), encoder=False, mtime=0)
        self._keys: set[str] = set()

    def write(self, key: str, parts: Mapping[str, bytes | Path]) -> None:
        """Add one sample: a member `key.extension` for each part, from its bytes or from the file that holds them."""
        if key in self._keys:
            raise ValueError(f"sample {key} was written twice to {self.path}")
        self._keys.add(key)
        for extension in sorted(parts):
            part = parts[extension]
            if isinstance(part, Path):
                self._write_file(f"{key}.{extension}", part)
            else:
                self._writer.write({"__key__": key, extension: part})

    def _write_file(self, name: str, path: Path) -> None:
        """Add a file as `webdataset.TarWriter` adds bytes; that writer accepts only what fits in memory."""
        member = tarfile.TarInfo(name)
        member.size = path.stat().st_size
        member.mtime = self._writer.mtime
        member.mode = self._writer.mode
        member.uname, member.gname = self._writer.user, self._writer.group
        with path.open("rb") as file:
            self._writer.tarstream.addfile(member, file)

    def close(self) -> None:
        """Finish and close the tar."""
        self._writer.close()

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def list_members(path: Path) -> dict[str, Member]:
    """Return every regular file in the tar, by name. Only the headers are read.

    Raises:
        BadTar: When it cannot be the tar of a shard: damaged or nested headers, an invalid or repeated name, bytes
            outside the file, more than `MAX_MEMBERS` members.
    """
    size = os.stat(path).st_size
    found: dict[str, Member] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                # Otherwise tarfile would keep every header it has read.
                tar.members = []  # type: ignore[attr-defined] # typeshed does not know it
                if not member.isreg():
                    continue
                if member.name in found:
                    raise BadTar(f"it holds {member.name[:80]!r} twice")
                if not is_name_part(member.name):
                    raise BadTar(f"it holds {member.name[:80]!r}, which is no name of a sample's file")
                if member.issparse() or not 0 <= member.offset_data <= member.offset_data + member.size <= size:
                    raise BadTar(f"its member {member.name} does not lie inside it")
                if len(found) == MAX_MEMBERS:
                    raise BadTar(f"it holds more than {MAX_MEMBERS:,} files")
                found[member.name] = Member(member.name, member.offset_data, member.size)
    except (tarfile.TarError, ValueError, OverflowError, RecursionError, EOFError) as error:
        if isinstance(error, BadTar):
            raise
        reason = first_line(error)
        raise BadTar(f"it does not open as a tar ({reason})") from error
    return found
