"""Scratch folders whose names identify their process, so that those of dead processes can be recognised and removed.

Three signs show that an owner lives. The system knows its process (checked only if the process is visible, see
`vidaudio.shards.process_identity`). A lock on the folder is held, which ends with the process. The folder is recent:
while it is in use, it is touched every few minutes. A folder is removed when its process is known to be dead. If that
cannot be seen, from another container or machine, it is removed only when it has not been touched for long.
"""

from __future__ import annotations

import contextlib
import enum
import fcntl
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from vidaudio.shards.process_identity import is_alive, parse_identity, this_process

PREFIX = ".tmp-"
# Prefix of scratch folders in the system's folder for temporary files.
TEMPORARY_PREFIX = "vidaudio-"
HEARTBEAT_SECONDS = 300.0
# Time without a sign of life. A process may be stopped for a while, or its machine asleep.
ABANDONED_SECONDS = 24 * 3600.0
# The same if the folder's lock is free and its owner ran on this kernel: the time between creating and locking a
# folder.
UNLOCKED_SECONDS = 3600.0


class Lock(enum.Enum):
    """State of a folder's lock; network disks may not support locks on folders."""

    HELD = "held"
    FREE = "free"
    UNKNOWN = "unknown"


def scratch_prefix(prefix: str = PREFIX) -> str:
    """Return the beginning of the names of this process's scratch folders and files."""
    return f"{prefix}{this_process()}-"


@contextlib.contextmanager
def scratch_folder(parent: Path, prefix: str = PREFIX) -> Iterator[Path]:
    """Create a scratch folder of this process, mark it as in use while the block runs, then remove it."""
    with tempfile.TemporaryDirectory(prefix=scratch_prefix(prefix), dir=parent) as name:
        folder = Path(name)
        descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with heartbeat(folder):
                yield folder
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """Create a scratch folder among the system's temporary files; remove those of dead processes first."""
    parent = Path(tempfile.gettempdir())
    _sweep_once(parent)
    with scratch_folder(parent, TEMPORARY_PREFIX) as folder:
        yield folder


def sweep_scratch(root: Path, prefix: str = PREFIX) -> list[str]:
    """Remove scratch folders whose process is dead, or has shown no sign of life for long; return their names."""
    swept = []
    for entry in sorted(root.iterdir()) if root.is_dir() else ():
        if entry.name.startswith(prefix):
            # Locked until it is removed, so that its owner cannot begin to use it meanwhile.
            with _tried_lock(entry) as lock:
                if _is_left_over(entry, prefix, lock) and _removed(entry):
                    swept.append(entry.name)
    return swept


def is_left_over(entry: Path, prefix: str = PREFIX) -> bool:
    """Return whether `sweep_scratch` would remove a scratch folder."""
    with _tried_lock(entry) as lock:
        return _is_left_over(entry, prefix, lock)


def _is_left_over(entry: Path, prefix: str, lock: Lock) -> bool:
    owner = parse_identity(entry.name.removeprefix(prefix))
    if owner is None and prefix != PREFIX:
        return False  # another user's own folder with a similar name
    alive = None if owner is None else is_alive(owner)
    same_kernel = owner is not None and owner.boot == this_process().boot
    idle_seconds = 0.0 if alive is not None else disk_time(entry.parent) - _last_change(entry)
    return is_abandoned(alive=alive, lock=lock, same_kernel=same_kernel, idle_seconds=idle_seconds)


def is_abandoned(*, alive: bool | None, lock: Lock, same_kernel: bool, idle_seconds: float) -> bool:
    """Return whether a scratch folder may be removed.

    Args:
        alive: Whether its process lives; None if that cannot be seen.
        lock: State of the folder's lock.
        same_kernel: Whether the owner ran on this machine since its last boot, perhaps in another container.
        idle_seconds: Seconds since anything in the folder changed.
    """
    if lock is Lock.HELD:
        return False
    if alive is not None:
        return not alive
    return idle_seconds > (UNLOCKED_SECONDS if lock is Lock.FREE and same_kernel else ABANDONED_SECONDS)


def owner_lives(name: str, prefix: str = PREFIX) -> bool | None:
    """Return whether the process that made scratch of this name lives; None if that cannot be seen from here."""
    owner = parse_identity(name.removeprefix(prefix))
    return None if owner is None else is_alive(owner)


@contextlib.contextmanager
def heartbeat(path: Path) -> Iterator[None]:
    """Touch a path every few minutes while the block runs, so that its age shows others that this process lives."""
    _beats.add(path)
    try:
        yield
    finally:
        _beats.remove(path)


class _Heartbeats:
    """One thread per process that touches the paths in use."""

    def __init__(self) -> None:
        self._paths: list[Path] = []
        self._guard = threading.Lock()
        self._begun = False

    def add(self, path: Path) -> None:
        with self._guard:
            self._paths.append(path)
            if not self._begun:
                self._begun = True
                threading.Thread(target=self._run, name="vidaudio-heartbeat", daemon=True).start()

    def remove(self, path: Path) -> None:
        with self._guard, contextlib.suppress(ValueError):
            self._paths.remove(path)

    def touch(self) -> None:
        with self._guard:
            paths = list(self._paths)
        for path in paths:
            # The path may have just been removed, or its disk may be unreachable for a while.
            with contextlib.suppress(OSError):
                os.utime(path)

    def _run(self) -> None:
        while True:
            time.sleep(HEARTBEAT_SECONDS)
            self.touch()


_beats = _Heartbeats()


def _forget_after_fork() -> None:
    """Start with no heartbeats in the child of a fork: it has no such thread, and uses none of its parent's folders."""
    global _beats
    _beats = _Heartbeats()


os.register_at_fork(after_in_child=_forget_after_fork)

_swept: set[Path] = set()


def _sweep_once(parent: Path) -> None:
    """Sweep a folder of temporary files when this process first uses it."""
    if parent not in _swept:
        _swept.add(parent)
        with contextlib.suppress(OSError):
            sweep_scratch(parent, TEMPORARY_PREFIX)


@contextlib.contextmanager
def _tried_lock(path: Path) -> Iterator[Lock]:
    """Take a scratch folder's lock if it is free, and yield its previous state."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError:
        yield Lock.UNKNOWN
        return
    try:
        lock = Lock.FREE
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock = Lock.HELD
        except OSError:
            lock = Lock.UNKNOWN
        yield lock
    finally:
        os.close(descriptor)


def _last_change(path: Path) -> float:
    """Return when anything in a folder last changed, by the clock of its disk."""
    try:
        newest = path.lstat().st_mtime
    except OSError:
        return 0.0
    for folder, _, files in () if path.is_symlink() else os.walk(path):
        for name in (".", *files):
            # The file may be removed meanwhile.
            with contextlib.suppress(OSError):
                newest = max(newest, os.lstat(os.path.join(folder, name)).st_mtime)
    return newest


def disk_time(folder: Path) -> float:
    """Return the current time by the clock of a folder's disk: a server's clock may differ from this machine's."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            return os.fstat(file.fileno()).st_mtime
    except OSError:
        return time.time()


def _removed(entry: Path) -> bool:
    """Remove a scratch folder or file; return False if this user may not."""
    try:
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    except FileNotFoundError:
        return not entry.exists()
    except OSError:
        return False
    return True
