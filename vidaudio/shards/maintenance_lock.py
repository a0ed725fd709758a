"""Maintenance lock: at most one process at a time, on any machine, deletes or replaces files of a corpus.

Commits need no lock. Sweeping orphans and removing clips do: after a new tar is written and before its table names it,
the tar looks like an orphan to other processes.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import socket
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

from vidaudio.errors import CorpusError
from vidaudio.json_values import parse_object
from vidaudio.shards.process_identity import is_alive, parse_identity, this_process
from vidaudio.shards.scratch import ABANDONED_SECONDS, disk_time, heartbeat
from vidaudio.shards.store import Store, refuse_read_only
from vidaudio.text import storable_text

LOCK_FILE = "upkeep.lock"


class LockHeld(CorpusError):
    """The lock is held by another process; the message names the process, and what to do if it is no longer running."""


@contextlib.contextmanager
def maintenance_lock(store: Store) -> Iterator[None]:
    """Hold a corpus's maintenance lock; it is released in any case, and taken over from processes that died.

    Whether the holder of an existing lock lives can be seen only from its own machine and container. From elsewhere,
    the age of the lock file decides: a holder touches it every few minutes. Only local and network disks allow that, so
    at a URL the lock of another machine stays until a person deletes it.

    Raises:
        LockHeld: When another process holds the lock.
        StoreError: When the corpus may not be written to.
    """
    with _alone_on_this_machine(store):
        holder = f"{this_process()}-{uuid.uuid4().hex[:8]}"
        told = {"holder": holder, "host": socket.gethostname(), "process": os.getpid()}
        mine = json.dumps(told).encode() + b"\n"
        if not _created(store, mine):
            _take_over(store, mine)
        local = store.local_path(LOCK_FILE)
        try:
            with contextlib.nullcontext() if local is None else heartbeat(local):
                yield
        finally:
            store.remove(LOCK_FILE)


@contextlib.contextmanager
def _alone_on_this_machine(store: Store) -> Iterator[None]:
    """Exclude other processes of this machine by locks that end with their holder.

    So if two processes find the lock file of a dead process, only one takes it over. Two paths are locked: the corpus's
    folder, which containers and users share, and a temporary file of this user, for stores without a folder or without
    locks on it.
    """
    name = f"vidaudio-{os.getuid()}-{hashlib.sha256(store.url.encode()).hexdigest()[:16]}.lock"
    root = store.local_path("")
    with contextlib.ExitStack() as held:
        for path, flags in ((Path(tempfile.gettempdir()) / name, os.O_RDWR | os.O_CREAT), (root, os.O_RDONLY)):
            if path is not None:
                _hold(held, store, path, flags)
        yield


def _hold(held: contextlib.ExitStack, store: Store, path: Path, flags: int) -> None:
    try:
        descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
    except (FileNotFoundError, PermissionError):
        return  # a corpus that does not exist yet, or one that will be refused when it is written to
    held.callback(os.close, descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise LockHeld(
            f"another command on this machine is sweeping {store.url} or removing clips from it; try again later"
        ) from None
    except OSError:
        return  # a network disk without locks on folders
    # Unlock before closing: a process that was forked meanwhile has the same open file, and would keep the lock.
    held.callback(fcntl.flock, descriptor, fcntl.LOCK_UN)


def _created(store: Store, mine: bytes) -> bool:
    try:
        return store.create(LOCK_FILE, mine)
    except OSError as error:
        refuse_read_only(store.url, error)
        raise


def _take_over(store: Store, mine: bytes) -> None:
    with contextlib.suppress(FileNotFoundError):
        found = store.read(LOCK_FILE)
        told = _parsed(found)
        if not _is_dead(store, told):
            raise LockHeld(
                f"another command is sweeping {store.url} or removing clips from it ({_in_words(told)}); "
                f"if it is not running any more, delete {store.url}/{LOCK_FILE}"
            )
        _remove_lock(store, found)
    if not store.create(LOCK_FILE, mine):
        raise LockHeld(f"another command has just begun to sweep {store.url}; try again later")


def _is_dead(store: Store, told: dict[str, str]) -> bool:
    owner = parse_identity(told.get("holder", ""))
    alive = None if owner is None else is_alive(owner)
    if alive is not None:
        return not alive
    local = store.local_path(LOCK_FILE)
    if owner is None or local is None:
        return False
    return disk_time(local.parent) - local.stat().st_mtime > ABANDONED_SECONDS


def _remove_lock(store: Store, found: bytes) -> None:
    """Remove the lock file that was examined, but not one that another process has put in its place meanwhile."""
    local = store.local_path(LOCK_FILE)
    if local is None:
        store.remove(LOCK_FILE)
        return
    with store.workspace() as scratch:
        aside = scratch / "taken"
        os.rename(local, aside)
        if aside.read_bytes() != found:
            with contextlib.suppress(FileExistsError):
                os.link(aside, local)


def _parsed(data: bytes) -> dict[str, str]:
    """Return what a lock file states about its holder; empty if vidaudio did not write it."""
    try:
        told = parse_object(data)
    except ValueError:
        return {}
    return {key: storable_text(str(value)) for key, value in told.items() if isinstance(value, str | int)}


def _in_words(told: dict[str, str]) -> str:
    if "host" in told and "process" in told:
        return f"process {told['process']} on {told['host']}"
    return told.get("holder") or "unknown"
