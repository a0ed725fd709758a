"""Upkeep: at most one process at a time deletes or replaces files of a corpus, on any machine.

Commits need no lock. Sweeping orphans and removing clips do: between a new tar and the table that names it, the tar is
an orphan to everybody else.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

from vidaudio.errors import CorpusError
from vidaudio.shards.scratch import owner_lives, scratch_prefix
from vidaudio.shards.store import Store, refuse_read_only

LOCK_FILE = "upkeep.lock"


class UpkeepBusy(CorpusError):
    """Somebody else is at it; says who, and what to do if that is not so."""


@contextlib.contextmanager
def upkeep(store: Store) -> Iterator[None]:
    """Hold a corpus's upkeep; it is given back whatever happens, and taken over from processes that died.

    Raises:
        UpkeepBusy: Another process holds it.
        CorpusError: The corpus may not be written to.
    """
    # Processes of this machine exclude one another by a lock that dies with its holder: so of two that find the file of
    # a dead one only one takes it over.
    name = f"vidaudio-{os.getuid()}-{hashlib.sha256(store.url.encode()).hexdigest()[:16]}.lock"
    with (Path(tempfile.gettempdir()) / name).open("a") as own:
        try:
            fcntl.flock(own, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UpkeepBusy(
                f"another command on this machine is sweeping {store.url} or removing clips from it; try again later"
            ) from None
        holder = f"{scratch_prefix()}{uuid.uuid4().hex[:8]}"
        mine = json.dumps({"holder": holder}).encode() + b"\n"
        if not _created(store, mine):
            _take_over(store, mine)
        try:
            yield
        finally:
            store.remove(LOCK_FILE)


def _created(store: Store, mine: bytes) -> bool:
    try:
        return store.create(LOCK_FILE, mine)
    except OSError as error:
        refuse_read_only(store.url, error)
        raise


def _take_over(store: Store, mine: bytes) -> None:
    with contextlib.suppress(FileNotFoundError):
        try:
            holder = json.loads(store.read(LOCK_FILE))["holder"]
        except (ValueError, KeyError, TypeError):
            holder = ""
        if owner_lives(holder) is not False:
            raise UpkeepBusy(
                f"another command is sweeping {store.url} or removing clips from it ({holder or 'unknown'}); "
                f"if it is not running any more, delete {store.url}/{LOCK_FILE}"
            )
        store.remove(LOCK_FILE)
    if not store.create(LOCK_FILE, mine):
        raise UpkeepBusy(f"another command has just begun to sweep {store.url}; try again later")
