"""Suspects: clips whose decoding may have taken a whole worker down, found without blaming a clip for others' deaths.

A decoder that dies costs its clip and nobody else (`vidaudio.media.decode.extractor`). Should a worker die with it,
nobody is left to write that down. So every try at a shard leaves a note in the corpus while it lasts. Whoever finds the
note of a try whose worker died under a driver that lives decodes the shard's clips alone, each in a process of its own,
and notes which one it is at: a clip at which workers have died so twice is failed, and the shard goes on without it.

The death of a driver, a nanny or a machine is no sign of anything: those end a run, or take healthy workers with them.
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

# Beside the journals of runs: no identity check reads it.
FOLDER = "runs/trying"
DEATHS_ALONE = 2
POISON_CLIP = Outcome.failed(Reason.CRASH, "each worker that decoded it, alone, died with it")


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One try at extracting one shard, as its note says.

    Attributes:
        run: The driver's run; empty outside of one.
        host, boot: The machine, and since which start of it.
        process, parent: The worker and its nanny, by process id and time of start, in ticks since boot.
        alone: Whether every clip was decoded in a process of its own.
        clip: The one it was at, where `alone`.
        namespace: Where the process ids are counted: each container counts its own.
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
    def here(cls, **values: object) -> AttemptRecord:
        """A try by this very process."""
        own = _identity(os.getpid()), _identity(os.getppid())
        here = _current_run(), socket.gethostname(), boot_id()
        return cls(*here, *own, namespace=namespace(), **values)  # type: ignore[arg-type]

    def died_by_itself(self, now: AttemptRecord) -> bool:
        """Whether its worker is gone while those that keep it running are still there, as seen by `now`.

        From another machine or container neither can be seen: there a note that was left behind in the same run must
        do.
        """
        if not self.run or self.run != now.run:
            return False
        if (self.host, self.namespace) != (now.host, now.namespace):
            return True
        return self.boot == now.boot and not _lives(self.process) and _lives(self.parent)


class Attempt:
    """One try at a shard that is going on.

    Attributes:
        alone: Whether to decode every clip in a process of its own: a worker has died in an earlier try.
    """

    def __init__(self, store: Store, folder: str, earlier: list[AttemptRecord]) -> None:
        self._store, self._name = store, f"{folder}/{secrets.token_hex(8)}.json"
        here = AttemptRecord.here()
        died = [one for one in earlier if one.died_by_itself(here)]
        self._deaths = Counter(one.clip for one in died if one.clip is not None)
        self.alone = bool(died)
        self._note(None)

    def is_poisoned(self, clip_id: str) -> bool:
        """Whether workers have died at this clip alone often enough; from here on the note says that it is tried."""
        if not self.alone:
            return False
        if self._deaths[clip_id] >= DEATHS_ALONE:
            return True
        self._note(clip_id)
        return False

    def _note(self, clip_id: str | None) -> None:
        data = json.dumps(asdict(AttemptRecord.here(alone=self.alone, clip=clip_id))).encode()
        with self._store.workspace() as scratch:
            note = scratch / "note"
            note.write_bytes(data)
            self._store.put(self._name, note)


@contextmanager
def attempt(store: Store, shard: int) -> Iterator[Attempt]:
    """A try at extracting a shard. Its note goes when it ends, also with an error, and stays when its worker dies.

    Once it has succeeded, the notes of the shard's earlier tries go, too.
    """
    folder = f"{FOLDER}/{shard:06d}"
    earlier = dict(_notes(store, folder))
    trial = Attempt(store, folder, list(earlier.values()))
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
            continue  # that try has just ended
        yield name, AttemptRecord(**{**note, "process": tuple(note["process"]), "parent": tuple(note["parent"])})


def _current_run() -> str:
    """What Dask's keys of this run's tasks end in; empty where no task is running in this thread."""
    from distributed import get_worker

    try:
        key = get_worker().get_current_task()
    except ValueError:
        return ""
    return str(key).rpartition("-")[2]


def _identity(process_id: int) -> tuple[int, float]:
    """Process ids are given out again; together with the time of its start one is unique."""
    try:
        return process_id, started(process_id)
    except ProcessLookupError:
        # A nanny that has just ended, whose worker will soon.
        return process_id, -1


def _lives(process: tuple[int, float]) -> bool:
    try:
        return started(process[0]) in (process[1], 0)
    except ProcessLookupError:
        return False
