"""Shards as plain WebDataset tars: written byte for byte the same each time, read by offset without unpacking."""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vidaudio.files import naming
from vidaudio.shards.names import is_name_part

MAX_MEMBERS = 1 << 20


class BadTar(ValueError):
    """A file that is no tar of ours; says why."""


@dataclass(frozen=True, slots=True)
class Member:
    """One file in a tar: its name and where its bytes lie."""

    name: str
    offset: int
    length: int


class ShardWriter:
    """Writes samples with `webdataset.TarWriter`: fixed times and owners, so equal samples give equal bytes."""

    def __init__(self, path: Path) -> None:
        # Here and not at the top: it brings PyTorch along, which whoever only reads has no need of.
        import webdataset

        self.path = path
        self._writer = webdataset.TarWriter(str(path), encoder=False, mtime=0)
        self._keys: set[str] = set()

    def write(self, key: str, parts: Mapping[str, bytes | Path]) -> None:
        """Add one sample: member `key.extension` for each part, its bytes or the file that holds them."""
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
        """Add a file as `webdataset.TarWriter` adds bytes, which takes nothing that does not fit in memory."""
        member = tarfile.TarInfo(name)
        member.size = path.stat().st_size
        member.mtime = self._writer.mtime
        member.mode = self._writer.mode
        member.uname, member.gname = self._writer.user, self._writer.group
        with path.open("rb") as file:
            self._writer.tarstream.addfile(member, file)

    def close(self) -> None:
        self._writer.close()

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def list_members(path: Path) -> dict[str, Member]:
    """Return every regular file in the tar, by name. Reads the headers only.

    Raises:
        BadTar: It is no tar that a shard can be: headers that are damaged or nested, a name that is none or comes
            twice, bytes outside the file, more members than any shard has.
    """
    size = os.stat(path).st_size
    found: dict[str, Member] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                # tarfile would keep every header it has read.
                tar.members = []
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
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BadTar(f"it does not open as a tar ({reason})") from error
    return found


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with naming(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
