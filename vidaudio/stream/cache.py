"""Local copies of remote shards: bounded in size, shared by all processes of a machine, each shard fetched once.

A copy appears under its name only when it is complete. The process that fetches a shard holds a file lock, which the
system releases when the process dies; the other processes wait for the lock. When space runs out, the least recently
used copies are deleted. A process that has a deleted copy open can still read it: only the name is gone.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from vidaudio.errors import StoreError, UsageError
from vidaudio.shards.names import check_name
from vidaudio.shards.scratch import PREFIX, owner_lives, scratch_prefix
from vidaudio.shards.store import Store
from vidaudio.stream.index import TrainingIndex

# Unfinished downloads of other machines, whose processes cannot be checked from here, are deleted after this time.
ABANDONED_SECONDS = 24 * 3600
ROOM_LOCK = ".room.lock"


class ShardCache:
    """Copies of remote files in one folder, which several corpora and streams can share.

    Args:
        folder: Folder of the copies, created if it does not exist.
        limit_bytes: Limit of all copies together, unfinished ones included.

    Raises:
        StoreError: When the folder cannot be created.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self.folder = folder
        self.limit_bytes = limit_bytes
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"no copies of remote shards can be kept in {folder} ({error.strerror}); name another folder "
                "(cache_folder, or VIDAUDIO_CACHE)"
            ) from None

    def open(self, store: Store, name: str, identity: str, size: int | None = None) -> int:
        """Return a file descriptor of a local copy; the file is fetched first if there is no copy.

        Args:
            store: Store of the remote file.
            name: Name of the file in the store.
            identity: Identity of the file's contents: each identity has a copy of its own.
            size: Expected size in bytes; None if unknown, and then the size is not checked.

        Raises:
            StoreError, UsageError: When the store fails, or the copy does not fit into the cache.
            FileNotFoundError: When the store has no such file.
        """
        path = self._path(store, name, identity)
        while True:
            # Another process may delete the copy between the fetch and the open: then fetch it again.
            with contextlib.suppress(FileNotFoundError):
                descriptor = os.open(path, os.O_RDONLY)
                os.utime(descriptor)
                return descriptor
            self._fetch(store, name, path, size, wait=True)

    def prefetch(self, store: Store, name: str, identity: str, size: int | None = None) -> None:
        """Fetch a copy, unless one exists or another process is fetching it."""
        path = self._path(store, name, identity)
        try:
            os.utime(path)
        except FileNotFoundError:
            self._fetch(store, name, path, size, wait=False)

    def open_index(self, store: Store, name: str) -> tuple[int, str]:
        """Return a file descriptor of a local copy of a corpus's index, and the version of the file.

        An index may be replaced under its name. The version that the store reports tells the files apart, and is the
        identity of the copy.
        """
        size = store.list("", prefix=name).get(name)
        version = store.version(name)
        return self.open(store, name, version, size), version

    def _path(self, store: Store, name: str, identity: str) -> Path:
        digest = hashlib.sha256(f"{store.url}\n{identity}".encode()).hexdigest()[:20]
        return self.folder / digest / check_name(name, store.url)

    def _fetch(self, store: Store, name: str, path: Path, size: int | None, *, wait: bool) -> None:
        path.parent.mkdir(exist_ok=True)
        with _locked(path.with_name(f".{path.name}.lock"), wait=wait) as mine:
            if not mine or path.exists():
                return
            with self._room_for(path, size or 0) as temporary:
                store.download(name, temporary)
                found = temporary.stat().st_size
                if size is not None and found != size:
                    raise StoreError(f"{store.url}/{name} has {found:,} bytes, and was listed with {size:,}; try again")
                os.replace(temporary, path)

    @contextlib.contextmanager
    def _room_for(self, path: Path, size: int) -> Iterator[Path]:
        """Yield a path to download to, with `size` bytes reserved; delete what is left at that path afterwards."""
        # The name contains the reserved size, since the file itself grows only gradually.
        temporary = path.with_name(f"{scratch_prefix()}{size}x{uuid.uuid4().hex}")
        with _locked(self.folder / ROOM_LOCK, wait=True):
            self._make_room(size)
            temporary.touch()
        try:
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)

    def _make_room(self, size: int) -> None:
        copies, used = [], size
        for entry, stat in self._files():
            if not entry.name.startswith(PREFIX):
                copies.append((stat.st_mtime_ns, stat.st_size, entry.path))
                used += stat.st_size
            elif _is_abandoned(entry.name, stat):
                Path(entry.path).unlink(missing_ok=True)
            else:
                used += max(stat.st_size, _reserved(entry.name))
        for _, bytes_, copy in sorted(copies):
            if used <= self.limit_bytes:
                return
            Path(copy).unlink(missing_ok=True)
            used -= bytes_
        if used > self.limit_bytes:
            raise UsageError(
                f"the cache {self.folder} may hold {self.limit_bytes:,} bytes, and {used:,} are being fetched at once; "
                "raise cache_bytes"
            )

    def _files(self) -> Iterator[tuple[os.DirEntry, os.stat_result]]:
        with os.scandir(self.folder) as folders:
            kept = [folder.path for folder in folders if folder.is_dir()]
        for folder in kept:
            with os.scandir(folder) as entries:
                for entry in entries:
                    # An unfinished download may be renamed or deleted while the folder is listed.
                    with contextlib.suppress(FileNotFoundError):
                        if not entry.name.endswith(".lock"):
                            yield entry, entry.stat()


class CachedTars:
    """The tars of one remote corpus, opened through a cache.

    Args:
        cache: Cache that holds the copies; other corpora may use it too.
        index: Index of the corpus.
        sizes: Sizes of the corpus's files by name, in bytes; tars that are not listed are fetched without a size check.
    """

    def __init__(self, cache: ShardCache, index: TrainingIndex, sizes: dict[str, int]) -> None:
        self._cache = cache
        self._store = index.store
        self._names = index.tars
        # A pack that was deleted and made anew may have the same plan as the old pack, but other sounds.
        self._identity = f"{index.identity()}:{index.version}"
        self._sizes = sizes

    def open(self, shard: int) -> int:
        """Return a file descriptor of a shard's tar."""
        name = self._names[shard]
        return self._cache.open(self._store, name, self._identity, self._sizes.get(name))

    def prefetch(self, shard: int) -> None:
        """Fetch a shard's tar, unless a copy exists or another process is fetching it."""
        name = self._names[shard]
        self._cache.prefetch(self._store, name, self._identity, self._sizes.get(name))


def _reserved(name: str) -> int:
    digits = name.rpartition("-")[2].partition("x")[0]
    return int(digits) if digits.isdigit() else 0


def _is_abandoned(name: str, stat: os.stat_result) -> bool:
    lives = owner_lives(name)
    return time.time() - stat.st_mtime > ABANDONED_SECONDS if lives is None else not lives


_held: set[int] = set()
_held_guard = threading.Lock()


@contextlib.contextmanager
def _locked(path: Path, *, wait: bool) -> Iterator[bool]:
    """Hold a file's lock against all processes and threads.

    Yields True while the lock is held. Yields False if the lock is held elsewhere and `wait` is False.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    with _held_guard:
        _held.add(descriptor)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        with _held_guard:
            _held.discard(descriptor)
            os.close(descriptor)


def _let_go_after_fork() -> None:
    """Release inherited locks in a forked child.

    A child inherits the locks that its parent's threads hold, and would keep them after the parent has released them.
    """
    global _held_guard
    _held_guard = threading.Lock()
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_let_go_after_fork)
