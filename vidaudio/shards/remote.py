"""Store in an object store, through fsspec: S3 and compatible stores, Google Cloud Storage, Azure.

An upload becomes visible as a whole when it ends, never before. An exclusive write relies on the store itself
(`If-None-Match` on S3), so that exactly one of two machines wins. If a store cannot guarantee that, `exclusive_create`
is False.
"""

from __future__ import annotations

import builtins
import contextlib
import functools
import os
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import FileIO
from pathlib import Path
from typing import Any, TypeVar

import fsspec

from vidaudio.errors import StoreError
from vidaudio.shards.names import check_name, is_name_part
from vidaudio.shards.remote_errors import (
    driver_errors,
    is_final,
    is_out_of_range,
    is_without_bucket,
    lost_race,
    to_user_error,
    was_in_conflict,
)
from vidaudio.shards.s3_driver import receive_range, s3_options
from vidaudio.shards.scratch import PREFIX, temporary_folder
from vidaudio.shards.store import Store

Result = TypeVar("Result")

S3 = ("s3", "s3a")
# Stores without folders, whose drivers pass an exclusive write on to the store; s3fs since 2024.10.
OBJECT_STORES = (*S3, "gs", "gcs", "az", "abfs", "abfss")
TRIES = 3
FIRST_PAUSE_SECONDS = 0.2
# Uploads go in parts, so that a tar of any size needs PARTS_AT_ONCE * PART_BYTES of memory.
PART_BYTES = 16 << 20
PARTS_AT_ONCE = 4
MOST_PARTS = 9_000
# Drivers inherited through a fork. If freed, they would close connections on the parent's event loop.
_INHERITED: list[tuple[int, Any]] = []


class RemoteStore(Store):
    """Any fsspec file system, under a URL. Opened once per process, since drivers do not survive a fork.

    Args:
        url: fsspec URL of the corpus.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self.scheme = self.url.partition("://")[0].rpartition("::")[2]
        self._opened: tuple[int, Any] | None = None
        self.root = self._open()[1]

    @property
    def fs(self) -> Any:
        """Return the file system of this process."""
        opened = self._opened
        if opened is None or opened[0] != os.getpid():
            self._open()
            opened = self._opened
            assert opened is not None
        return opened[1]

    def _open(self) -> tuple[Any, str]:
        # Other processes write here too: a cached listing would miss files that exist by now.
        options: dict[str, Any] = {"use_listings_cache": False} if self.scheme in OBJECT_STORES else {}
        if self.scheme in S3:
            options |= s3_options(self.scheme)
        try:
            fs, root = fsspec.core.url_to_fs(self.url, **options)
        except ImportError as error:
            how = "pip install 'vidaudio[s3]'" if self.scheme in S3 else str(error)
            raise StoreError(f"cannot open {self.url}: its driver is not installed; {how}") from error
        except ValueError as error:
            raise StoreError(f"cannot open {self.url}: {error}") from error
        if self._opened is not None:
            _INHERITED.append(self._opened)
        self._opened = os.getpid(), fs
        return fs, root.rstrip("/")

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_opened": None}

    def _path(self, name: str) -> str:
        return f"{self.root}/{check_name(name, self.url)}"

    def exists(self, name: str) -> bool:
        """Return whether a file exists."""
        path = self._path(name)
        return self._reading(name, lambda: self._fresh().exists(path))

    def list(self, folder: str, prefix: str = "") -> dict[str, int]:
        """Return names and sizes in bytes of the files directly in `folder` whose names begin with `prefix`."""
        entries = self._beginning(folder, prefix) if prefix and self.scheme in S3 else self._entries(folder)
        files = [(n, entry) for n, entry in entries if entry["type"] == "file" and is_name_part(n)]
        return {n: entry["size"] for n, entry in files if n.startswith(prefix)}

    def folders(self, folder: str) -> builtins.list[str]:
        """Return the names of the folders directly in `folder`, sorted."""
        entries = self._entries(folder)
        return sorted(name for name, entry in entries if entry["type"] == "directory" and is_name_part(name))

    def _beginning(self, folder: str, prefix: str) -> builtins.list[tuple[str, dict[str, Any]]]:
        """Return the entries of a folder whose names begin with `prefix`, which S3 selects itself."""
        path = self._path(folder).rstrip("/")
        found = self._reading(folder, lambda: self._fresh().find(path, prefix=prefix, detail=True))
        below = [(name.removeprefix(f"{path}/"), entry) for name, entry in found.items()]
        return [(name, entry) for name, entry in below if "/" not in name]

    def _entries(self, folder: str) -> builtins.list[tuple[str, dict[str, Any]]]:
        path = self._path(folder).rstrip("/")
        try:
            entries = self._reading(folder, lambda: self._fresh().ls(path, detail=True))
        except FileNotFoundError:
            return []
        named = [(e["name"].rstrip("/").rsplit("/", 1)[-1], e) for e in entries]
        # Some tools leave an empty object in the place of a folder; it is listed under the folder's own name.
        return [(name, entry) for name, entry in named if entry["name"].strip("/") != path.strip("/")]

    def modified(self, name: str) -> float:
        """Return when the file was written, in seconds since 1970."""
        path = self._path(name)
        return self._reading(name, lambda: self._fresh().modified(path)).timestamp()

    def version(self, name: str) -> str:
        """Return a text that changes when the file is replaced."""
        path = self._path(name)
        # All that the store reports about the file: an ETag or generation if it has one, size and time anywhere.
        return self._reading(name, lambda: self._fresh().ukey(path))

    def read(self, name: str) -> bytes:
        """Return a file's bytes."""
        path = self._path(name)
        # One request: s3fs would first ask for the file's size.
        options = {"max_concurrency": 1} if self.scheme in S3 else {}
        return self._reading(name, lambda: self._fresh().cat_file(path, **options))

    def read_range(self, name: str, offset: int, length: int) -> bytes:
        """Return at most `length` bytes from `offset`; fewer at the end of the file."""
        path = self._path(name)
        if length <= 0:
            return b""
        try:
            return self._reading(name, lambda: self.fs.cat_file(path, start=offset, end=offset + length))
        except _OutOfRange:
            return b""

    def download(self, name: str, target: Path) -> None:
        """Copy a file to the local path `target`, using little memory."""
        # In ranges: s3fs would start again from the beginning after a broken connection.
        with target.open("wb", buffering=0) as file:
            received, size = self._receive(name, file, 0, PART_BYTES)
            # An attempt whose connection broke may have written more bytes.
            file.truncate(received)
            if received < PART_BYTES or received == size:
                return
            size = size or self._reading(name, lambda: self._fresh().size(self._path(name)))
            file.truncate(size)

            def fetch(offset: int) -> None:
                wanted = min(PART_BYTES, size - offset)
                if self._receive(name, file, offset, wanted)[0] != wanted:
                    raise StoreError(f"{self.url}/{name} changed while it was read")

            with ThreadPoolExecutor(PARTS_AT_ONCE) as pool:
                list(pool.map(fetch, range(PART_BYTES, size, PART_BYTES)))

    def _receive(self, name: str, file: FileIO, offset: int, length: int) -> tuple[int, int | None]:
        """Write a range to its place in a local file; return the bytes written, and the whole size if it is stated."""
        write = functools.partial(_write, file)
        if self.scheme not in S3:
            data = self.read_range(name, offset, length)
            write(data, offset)
            return len(data), None
        path = self._path(name)
        with contextlib.suppress(_OutOfRange):
            return self._reading(name, lambda: receive_range(self.fs, path, offset, length, write))
        return 0, None

    def create(self, name: str, data: bytes) -> bool:
        """Write a file unless it exists; return whether it was written."""
        path = self._path(name)
        return self._exclusively(name, lambda: self.fs.pipe_file(path, data, mode="create"))

    def put(self, name: str, source: Path) -> None:
        """Move a local file to `name`, replacing an existing file."""
        path = self._path(name)
        with self._in_sentences(f"writing {name}"):
            self._make_folder(path)
            self.fs.put_file(str(source), path, **self._upload_options(source))
        source.unlink()

    def put_new(self, name: str, source: Path) -> bool:
        """Move a local file to `name` unless that exists; return whether it was written."""
        path = self._path(name)
        options = self._upload_options(source)
        won = self._exclusively(name, lambda: self.fs.put_file(str(source), path, mode="create", **options))
        source.unlink()
        return won

    def remove(self, name: str) -> None:
        """Delete a file; a missing file is no error."""
        path = self._path(name)
        with self._in_sentences(f"removing {name}"), contextlib.suppress(FileNotFoundError):
            self.fs.rm_file(path)

    @contextlib.contextmanager
    def workspace(self) -> Iterator[Path]:
        """Provide a scratch folder among the system's temporary files."""
        with temporary_folder() as folder:
            yield folder

    @functools.cached_property
    def exclusive_create(self) -> bool:
        """Return whether the store refuses to write over an existing file; tested once, by writing.

        Only stores whose drivers leave the decision to the store are tested. Other drivers check first and write
        afterwards. That passes any test in one process and still lets two machines both win.
        """
        if self.scheme not in OBJECT_STORES:
            return False
        name = f"{PREFIX}exclusive-{uuid.uuid4().hex}"
        try:
            return self.create(name, b"first") and not self.create(name, b"second") and self.read(name) == b"first"
        finally:
            self.remove(name)

    def _fresh(self) -> Any:
        """Return the file system, without cached listings."""
        fs = self.fs
        if self.scheme not in OBJECT_STORES:
            fs.invalidate_cache()
        return fs

    def _make_folder(self, path: str) -> None:
        # Object stores have no folders, and makedirs of s3fs would create a missing bucket.
        if self.scheme not in OBJECT_STORES:
            self.fs.makedirs(path.rsplit("/", 1)[0], exist_ok=True)

    def _upload_options(self, source: Path) -> dict[str, int]:
        if self.scheme not in S3:
            return {}
        part = max(PART_BYTES, -(-source.stat().st_size // MOST_PARTS))
        return {"chunksize": part, "max_concurrency": PARTS_AT_ONCE}

    def _exclusively(self, name: str, write: Callable[[], Any]) -> bool:
        """Run an exclusive write; return whether it wrote."""
        pause = FIRST_PAUSE_SECONDS
        for tries_left in reversed(range(TRIES)):
            try:
                with self._in_sentences(f"writing {name}"):
                    self._make_folder(self._path(name))
                    write()
                return True
            except _Lost:
                return False
            except _Conflict as conflict:
                if not tries_left:
                    raise to_user_error(conflict.__cause__ or conflict, self.url, f"writing {name}") from conflict
                time.sleep(pause)
                pause *= 2
        raise AssertionError("a write that neither succeeded nor failed")

    def _reading(self, name: str, read: Callable[[], Result]) -> Result:
        """Run a reading request; repeat it after an error that may be transient."""
        pause = FIRST_PAUSE_SECONDS
        for tries_left in reversed(range(TRIES)):
            try:
                return read()
            except driver_errors() as error:
                if is_out_of_range(error):
                    raise _OutOfRange from error
                if isinstance(error, FileNotFoundError) and not is_without_bucket(error):
                    raise
                if is_final(error) or not tries_left:
                    raise to_user_error(error, self.url, f"reading {name or 'the folder'}") from error
            time.sleep(pause)
            pause *= 2
        raise AssertionError("a read that neither succeeded nor failed")

    @contextlib.contextmanager
    def _in_sentences(self, doing: str) -> Iterator[None]:
        try:
            yield
        except driver_errors() as error:
            if lost_race(error):
                raise _Lost from error
            if was_in_conflict(error):
                raise _Conflict from error
            raise to_user_error(error, self.url, doing) from error


def _write(file: FileIO, data: bytes, offset: int) -> None:
    left = memoryview(data)
    try:
        while left:
            written = os.pwrite(file.fileno(), left, offset)
            left, offset = left[written:], offset + written
    except OSError as error:
        raise StoreError(f"no copy can be written to {Path(file.name).parent} ({error.strerror})") from error


class _Lost(Exception):
    """An exclusive write found an existing file."""


class _Conflict(Exception):
    """Two exclusive writes met, and the store asks for another try."""


class _OutOfRange(Exception):
    """A range begins beyond the end of a file."""
