"""Where a corpus lives: a local folder or any fsspec URL, with the two writes everything else is built on.

`put` makes a whole file appear under its name at once, or not at all. `create` does the same but only where nothing
stands yet, and says who won: that is the commit, since a scheduler may run one task twice and two people may run one
command.
"""

from __future__ import annotations

import abc
import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import fsspec

from vidaudio.errors import CorpusError
from vidaudio.shards.scratch import scratch_prefix


def open_store(url: str | os.PathLike[str]) -> Store:
    """The store at a local path or an fsspec URL (`s3://bucket/corpus`, `memory://corpus`)."""
    text = os.fspath(url)
    if "://" not in text or text.startswith("file://"):
        return LocalStore(Path(text.removeprefix("file://")).expanduser().absolute())
    return RemoteStore(text)


class Store(abc.ABC):
    """Files under one root, named by relative POSIX paths."""

    url: str

    @abc.abstractmethod
    def exists(self, name: str) -> bool: ...

    @abc.abstractmethod
    def list(self, folder: str) -> dict[str, int]:
        """Names (not paths) and sizes in bytes of the files directly in `folder`; empty where it does not exist."""

    @abc.abstractmethod
    def folders(self, folder: str) -> list[str]:
        """Names of the folders directly in `folder`, sorted."""

    @abc.abstractmethod
    def read(self, name: str) -> bytes: ...

    @abc.abstractmethod
    def read_range(self, name: str, offset: int, length: int) -> bytes: ...

    @abc.abstractmethod
    def create(self, name: str, data: bytes) -> bool:
        """Write the file unless it exists. True: written here. False: somebody was first and nothing changed."""

    @abc.abstractmethod
    def put(self, name: str, source: Path) -> None:
        """Move the local file `source` to `name`, replacing what stands there; never visible half-written."""

    @abc.abstractmethod
    def put_new(self, name: str, source: Path) -> bool:
        """Like `put`, but only where nothing stands yet; `source` is gone afterwards either way."""

    @abc.abstractmethod
    def remove(self, name: str) -> None:
        """Delete a file; nothing happens where it does not exist."""

    @contextlib.contextmanager
    @abc.abstractmethod
    def workspace(self) -> Iterator[Path]:
        """A scratch folder on local disk, on the store's own file system where it is local, removed afterwards."""
        yield

    def local_path(self, name: str) -> Path | None:
        """Where the file lies on local disk, or None for a remote store."""
        return None


class LocalStore(Store):
    """A folder. `create` is a hard link, which fails where the name exists, so a reader never sees half a file."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.url = str(root)

    def _path(self, name: str) -> Path:
        relative = PurePosixPath(name)
        if relative.is_absolute() or ".." in relative.parts:
            raise CorpusError(f"{name!r} is not a name inside the corpus {self.root}")
        return self.root / relative

    def exists(self, name: str) -> bool:
        return self._path(name).exists()

    def list(self, folder: str) -> dict[str, int]:
        sizes: dict[str, int] = {}
        try:
            with os.scandir(self._path(folder)) as entries:
                for entry in entries:
                    # A file may go while the folder is listed: the loser of a commit removes its tar.
                    with contextlib.suppress(FileNotFoundError):
                        if entry.is_file():
                            sizes[entry.name] = entry.stat().st_size
        except FileNotFoundError:
            return {}
        return sizes

    def folders(self, folder: str) -> list[str]:
        path = self._path(folder)
        return sorted(entry.name for entry in path.iterdir() if entry.is_dir()) if path.is_dir() else []

    def read(self, name: str) -> bytes:
        return self._path(name).read_bytes()

    def read_range(self, name: str, offset: int, length: int) -> bytes:
        with self._path(name).open("rb") as file:
            return os.pread(file.fileno(), length, offset)

    def create(self, name: str, data: bytes) -> bool:
        with self.workspace() as scratch:
            temporary = scratch / "new"
            temporary.write_bytes(data)
            return self.put_new(name, temporary)

    def put(self, name: str, source: Path) -> None:
        target = self._path(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        _flush_to_disk(source)
        os.replace(source, target)
        _flush_to_disk(target.parent)

    def put_new(self, name: str, source: Path) -> bool:
        target = self._path(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        _flush_to_disk(source)
        try:
            os.link(source, target)
        except FileExistsError:
            return False
        finally:
            source.unlink()
        _flush_to_disk(target.parent)
        return True

    def remove(self, name: str) -> None:
        self._path(name).unlink(missing_ok=True)

    @contextlib.contextmanager
    def workspace(self) -> Iterator[Path]:
        self.root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=scratch_prefix(), dir=self.root) as folder:
            yield Path(folder)

    def local_path(self, name: str) -> Path | None:
        return self._path(name)


class RemoteStore(Store):
    """Any fsspec file system. Uploads appear whole when they finish; `create` asks the file system for exclusivity."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        try:
            self.fs, self.root = fsspec.core.url_to_fs(self.url)
        except (ValueError, ImportError) as error:
            raise CorpusError(f"cannot open {url}: {error}") from error

    def _path(self, name: str) -> str:
        if name.startswith("/") or ".." in PurePosixPath(name).parts:
            raise CorpusError(f"{name!r} is not a name inside the corpus {self.url}")
        return f"{self.root}/{name}"

    def exists(self, name: str) -> bool:
        return self.fs.exists(self._path(name))

    def list(self, folder: str) -> dict[str, int]:
        try:
            entries = self.fs.ls(self._path(folder), detail=True, refresh=True)
        except FileNotFoundError:
            return {}
        return {e["name"].rsplit("/", 1)[-1]: e["size"] for e in entries if e["type"] == "file"}

    def folders(self, folder: str) -> list[str]:
        try:
            entries = self.fs.ls(self._path(folder), detail=True, refresh=True)
        except FileNotFoundError:
            return []
        return sorted(e["name"].rstrip("/").rsplit("/", 1)[-1] for e in entries if e["type"] == "directory")

    def read(self, name: str) -> bytes:
        return self.fs.cat_file(self._path(name))

    def read_range(self, name: str, offset: int, length: int) -> bytes:
        return self.fs.cat_file(self._path(name), start=offset, end=offset + length)

    def create(self, name: str, data: bytes) -> bool:
        path = self._path(name)
        self.fs.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
        try:
            self.fs.pipe_file(path, data, mode="create")
        except FileExistsError:
            return False
        return True

    def put(self, name: str, source: Path) -> None:
        path = self._path(name)
        self.fs.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
        self.fs.put_file(str(source), path)
        source.unlink()

    def put_new(self, name: str, source: Path) -> bool:
        won = self.create(name, source.read_bytes())
        source.unlink()
        return won

    def remove(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.fs.rm_file(self._path(name))

    @contextlib.contextmanager
    def workspace(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="vidaudio-") as folder:
            yield Path(folder)


def _flush_to_disk(path: Path) -> None:
    """fsync: a name must not survive a power cut that its bytes did not."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
