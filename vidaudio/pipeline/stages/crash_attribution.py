"""Crash attribution: finds clips whose decoding may have killed a whole worker, without blaming other clips.

A decoder that dies costs only its clip (`vidaudio.media.decode.extractor`). If a worker dies with it, nobody is left to
record that. So every attempt at a shard keeps a note in the corpus while it lasts. A later attempt may find the note of
a worker that died while its driver lives. It then decodes each clip in a process of its own, and records the current
clip in its note. A clip at which workers died twice in this way fails, and the shard continues without it.

The death of a driver, a nanny or a machine proves nothing: these end a run, or kill healthy workers.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from vidaudio.media.outcomes import Outcome, Reason
from vidaudio.shards.process_identity import boot_id, namespace, started
from vidaudio.shards.store import Store

# In the folder of the run logs: no identity check reads it.
FOLDER = "runs/trying"
DEATHS_ALONE = 2
POISON_CLIP = Outcome.failed(Reason.CRASH, "each worker that decoded it, alone, died with it")


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One attempt at extracting one shard, as its note records it.

    Attributes:
        run: Id of the driver's run; empty outside of a run.
        host, boot: Name of the machine, and id of its current boot.
        process, parent: The worker and its nanny, by process id and start time, in ticks since boot.
        alone: Whether every clip is decoded in a process of its own.
        clip: Clip that is being decoded, where `alone`.
        namespace: Namespace of the process ids: each container counts its own.
    """

    run: str
    host: str
    boot: str
    process: tuple[int, float]
    parent: tuple[int, float]
    alone: bool = False
    clip: str | None = None
    namespace: int = 0

    @classmethod
    def here(cls, run: str, **values: object) -> AttemptRecord:
        """Return the record of an attempt by the current process."""
        own = _identity(os.getpid()), _identity(os.getppid())
        here = run, socket.gethostname(), boot_id()
        return cls(*here, *own, namespace=namespace(), **values)  # type: ignore[arg-type]

    def died_by_itself(self, now: AttemptRecord) -> bool:
        """Return whether the attempt's worker is gone although its nanny still lives, as seen by `now`.

        Neither process can be seen from another machine or container. There, a note that remains from the same run is
        enough.
        """
        if not self.run or self.run != now.run:
            return False
        if (self.host, self.namespace) != (now.host, now.namespace):
            return True
        return self.boot == now.boot and not _lives(self.process) and _lives(self.parent)


class Attempt:
    """A running attempt at a shard.

    Args:
        store: Store of the corpus.
        folder: Folder of the shard's notes.
        run: Id of the run.
        earlier: Records of earlier attempts whose notes remain.

    Attributes:
        alone: Whether to decode every clip in a process of its own, because a worker died in an earlier attempt.
    """

    def __init__(self, store: Store, folder: str, run: str, earlier: list[AttemptRecord]) -> None:
        self._store, self._name, self._run = store, f"{folder}/{secrets.token_hex(8)}.json", run
        here = AttemptRecord.here(run)
        died = [one for one in earlier if one.died_by_itself(here)]
        self._deaths = Counter(one.clip for one in died if one.clip is not None)
        self.alone = bool(died)
        self._note(None)

    def is_poisoned(self, clip_id: str) -> bool:
        """Return whether enough workers died at this clip alone; if not, record in the note that it is tried now."""
        if not self.alone:
            return False
        if self._deaths[clip_id] >= DEATHS_ALONE:
            return True
        self._note(clip_id)
        return False

    def _note(self, clip_id: str | None) -> None:
        data = json.dumps(asdict(AttemptRecord.here(self._run, alone=self.alone, clip=clip_id))).encode()
        self._store.replace(self._name, data)


@contextmanager
def attempt(store: Store, shard: int, run: str) -> Iterator[Attempt]:
    """Provide an attempt at extracting a shard in the run with this id.

    Its note is deleted when the attempt ends, also with an error, and remains when its worker dies. A successful
    attempt also deletes the notes of the shard's earlier attempts.
    """
    folder = f"{FOLDER}/{shard:06d}"
    earlier = dict(_notes(store, folder))
    trial = Attempt(store, folder, run, list(earlier.values()))
    try:
        yield trial
    except BaseException:
        store.remove(trial._name)
        raise
    for name in (trial._name, *earlier):
        store.remove(name)


def _notes(store: Store, folder: str) -> Iterator[tuple[str, AttemptRecord]]:
    for entry in store.list(folder):
        name = f"{folder}/{entry}"
        try:
            note = json.loads(store.read(name))
        except FileNotFoundError:
            continue  # that attempt has just ended
        yield name, AttemptRecord(**{**note, "process": tuple(note["process"]), "parent": tuple(note["parent"])})


def _identity(process_id: int) -> tuple[int, float]:
    """Return a process id with its start time; the id alone is not unique, because ids are reused."""
    try:
        return process_id, started(process_id)
    except ProcessLookupError:
        # A nanny that has just ended; its worker will soon end, too.
        return process_id, -1


def _lives(process: tuple[int, float]) -> bool:
    try:
        return started(process[0]) in (process[1], 0)
    except ProcessLookupError:
        return False
