"""Stores of a corpus: a local folder or any fsspec URL, with the two write operations that all else is built on.

`put` makes a whole file appear under its name at once, or not at all. `create` does the same, but only if nothing
exists there, and reports who won. That is the commit, since a scheduler may run one task twice and two people may run
one command.
"""

from __future__ import annotations

import abc
import builtins
import contextlib
import errno
import functools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from vidaudio.errors import StoreError
from vidaudio.files import naming, sync, sync_folder
from vidaudio.shards.links import check_inside, check_regular, leaves, open_regular
from vidaudio.shards.names import check_name, is_name_part
from vidaudio.shards.scratch import scratch_folder

COPY_BYTES = 1 << 20


class Store(abc.ABC):
    """Files under one root, named by relative POSIX paths."""

    url: str

    @abc.abstractmethod
    def exists(self, name: str) -> bool:
        """Return whether a file exists."""

    @abc.abstractmethod
    def list(self, folder: str, prefix: str = "") -> dict[str, int]:
        """Return names (not paths) and sizes in bytes of the files directly in `folder`; empty if it does not exist.

        Only files whose names begin with `prefix` are listed.
        """

    @abc.abstractmethod
    def folders(self, folder: str) -> builtins.list[str]:
        """Return the names of the folders directly in `folder`, sorted."""

    @abc.abstractmethod
    def modified(self, name: str) -> float:
        """Return when the file was written, in seconds since 1970."""

    @abc.abstractmethod
    def version(self, name: str) -> str:
        """Return a text that changes when the file of this name is replaced; used as a key of caches."""

    @abc.abstractmethod
    def read(self, name: str) -> bytes:
        """Return a file's bytes."""

    @abc.abstractmethod
    def read_range(self, name: str, offset: int, length: int) -> bytes:
        """Return at most `length` bytes from `offset`; fewer at the end of the file."""

    @abc.abstractmethod
    def download(self, name: str, target: Path) -> None:
        """Copy a file of any size to the local path `target`, using little memory."""

    @abc.abstractmethod
    def create(self, name: str, data: bytes) -> bool:
        """Write the file unless it exists. Return True if it was written, False if it existed and nothing changed."""

    @abc.abstractmethod
    def put(self, name: str, source: Path) -> None:
        """Move the local file `source` to `name`, replacing an existing file; never visible half-written."""

    @abc.abstractmethod
    def put_new(self, name: str, source: Path) -> bool:
        """Do as `put`, but only if nothing exists at `name`; return whether it did. `source` is removed either way."""

    @abc.abstractmethod
    def remove(self, name: str) -> None:
        """Delete a file; a missing file is no error."""

    @contextlib.contextmanager
    @abc.abstractmethod
    def workspace(self) -> Iterator[Path]:
        """Provide a scratch folder on local disk, in the store itself if that is local; remove it afterwards."""
        yield Path()

    def replace(self, name: str, data: bytes) -> None:
        """Write the file, replacing an existing one; never visible half-written."""
        with self.workspace() as scratch:
            (scratch / "new").write_bytes(data)
            self.put(name, scratch / "new")

    def local_path(self, name: str) -> Path | None:
        """Return the path of the file on local disk, or None for a remote store."""
        return None

    @property
    @abc.abstractmethod
    def exclusive_create(self) -> bool:
        """Return whether `create` and `put_new` let exactly one of several machines win; tested, not assumed."""

    @property
    def warning(self) -> str | None:
        """Return what a build should report about this store before it starts; None if there is no problem."""
        if self.exclusive_create:
            return None
        return (
            f"{self.url} offers no exclusive creation of files that is known to be safe: run one build or pack at a "
            "time there, from one machine; two at once may commit the same shard twice"
        )


class LocalStore(Store):
    """A local folder. `create` is a hard link, which fails if the name exists, so a reader never sees half a file.

    Links that lead out of the folder are not followed, see `vidaudio.shards.links`.

    Args:
        root: Folder of the corpus.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.url = str(root)

    def _path(self, name: str) -> Path:
        """Return the path of a file's contents."""
        return check_inside(self.root, check_name(name, self.url))

    def _entry(self, name: str) -> Path:
        """Return the path of a file's directory entry, for replacing or deleting it, whatever it links to."""
        return check_inside(self.root, check_name(name, self.url), entry=True)

    def exists(self, name: str) -> bool:
        """Return whether a file exists."""
        return self._path(name).exists()

    def list(self, folder: str, prefix: str = "") -> dict[str, int]:
        """Return names and sizes in bytes of the files directly in `folder` whose names begin with `prefix`."""
        sizes: dict[str, int] = {}
        try:
            with os.scandir(self._path(folder)) as entries:
                for entry in entries:
                    if not entry.name.startswith(prefix) or not is_name_part(entry.name):
                        continue
                    # A file may be removed while the folder is listed: the loser of a commit removes its tar.
                    with contextlib.suppress(FileNotFoundError):
                        if entry.is_symlink() and leaves(self.root, Path(entry.path)):
                            # Listed, so that reading it raises an error that explains why it is refused.
                            sizes[entry.name] = entry.stat(follow_symlinks=False).st_size
                        elif entry.is_file():
                            sizes[entry.name] = entry.stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return {}
        return sizes

    def folders(self, folder: str) -> builtins.list[str]:
        """Return the names of the folders directly in `folder`, sorted."""
        path = self._path(folder)
        if not path.is_dir():
            return []
        return sorted(entry.name for entry in path.iterdir() if entry.is_dir() and is_name_part(entry.name))

    def modified(self, name: str) -> float:
        """Return when the file was written, in seconds since 1970."""
        return self._path(name).stat().st_mtime

    def version(self, name: str) -> str:
        """Return a text that changes when the file is replaced: its inode, time and size."""
        found = self._path(name).stat()
        return f"{found.st_ino}:{found.st_mtime_ns}:{found.st_size}"

    def read(self, name: str) -> bytes:
        """Return a file's bytes."""
        path = self._path(name)
        with naming(path), os.fdopen(open_regular(path, name), "rb") as file:
            return file.read()

    def read_range(self, name: str, offset: int, length: int) -> bytes:
        """Return at most `length` bytes from `offset`; fewer at the end of the file."""
        path = self._path(name)
        with naming(path), os.fdopen(open_regular(path, name), "rb") as file:
            # Limited to the file's size, since memory for the full length is allocated first.
            return os.pread(file.fileno(), max(0, min(length, os.fstat(file.fileno()).st_size - offset)), offset)

    def download(self, name: str, target: Path) -> None:
        """Copy a file to the local path `target`, using little memory."""
        path = self._path(name)
        with naming(path), os.fdopen(open_regular(path, name), "rb") as source, target.open("wb") as copy:
            shutil.copyfileobj(source, copy, COPY_BYTES)

    def create(self, name: str, data: bytes) -> bool:
        """Write a file unless it exists; return whether it was written."""
        with self.workspace() as scratch:
            temporary = scratch / "new"
            with naming(self._path(name)):
                temporary.write_bytes(data)
            return self.put_new(name, temporary)

    def put(self, name: str, source: Path) -> None:
        """Move a local file to `name`, replacing an existing file."""
        target = self._entry(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        with naming(target):
            sync(source)
            os.replace(source, target)
            sync_folder(target.parent)

    def put_new(self, name: str, source: Path) -> bool:
        """Move a local file to `name` unless that exists; return whether it was written."""
        target = self._entry(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        with naming(target):
            try:
                sync(source)
                os.link(source, target)
            except FileExistsError:
                return False
            finally:
                source.unlink()
            sync_folder(target.parent)
        return True

    def remove(self, name: str) -> None:
        """Delete a file; a missing file is no error."""
        self._entry(name).unlink(missing_ok=True)

    @contextlib.contextmanager
    def workspace(self) -> Iterator[Path]:
        """Provide a scratch folder in the corpus's folder; remove it afterwards."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            scratch = contextlib.ExitStack()
            folder = scratch.enter_context(scratch_folder(self.root))
        except OSError as error:
            refuse_read_only(self.url, error)
            raise
        with scratch:
            yield folder

    def local_path(self, name: str) -> Path | None:
        """Return the path of a file, after checking that it is a regular file or a folder, or missing."""
        path = self._path(name)
        check_regular(path, name)
        return path

    @functools.cached_property
    def exclusive_create(self) -> bool:
        """Return whether this file system has hard links: some network and FAT file systems have none."""
        with self.workspace() as scratch:
            (scratch / "first").write_bytes(b"first")
            (scratch / "second").write_bytes(b"second")
            try:
                os.link(scratch / "first", scratch / "name")
                os.link(scratch / "second", scratch / "name")
            except FileExistsError:
                return True
            except OSError:
                return False
            return False


def refuse_read_only(url: str, error: OSError) -> None:
    """Raise a CorpusError if `error` says that nobody, or not this user, may write to a store."""
    if isinstance(error, PermissionError) or error.errno == errno.EROFS:
        raise StoreError(
            f"{url} may not be written to ({error.strerror or error}); nothing was changed. Ask its owner, or work on "
            "a copy"
        ) from error
