"""Shards as plain WebDataset tars: written byte for byte the same each time, read by offset without unpacking."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vidaudio.files import naming


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


def members(path: Path) -> dict[str, Member]:
    """Every regular file in the tar, by name. Reads the headers only."""
    with tarfile.open(path, "r:") as tar:
        return {m.name: Member(m.name, m.offset_data, m.size) for m in tar if m.isreg()}


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with naming(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
