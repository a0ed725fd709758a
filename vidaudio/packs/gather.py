"""Gathering of the data of one training shard from many corpus shards, by byte ranges and with little memory.

A globally shuffled training shard of a large corpus takes nearly every sample from another corpus shard. Each corpus
shard is visited once: the facts of the wanted clips are kept (see `input_cache`), and their members are copied from its
tar, neighbours in one read, into a spool file in scratch. On an object store, several corpus shards are visited at a
time.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from vidaudio.corpus.columns import EMBED, EXTRACT
from vidaudio.corpus.corpus import Corpus
from vidaudio.errors import PackError
from vidaudio.packs.input_cache import GatheredClip, SourceClips, from_sources, from_tables
from vidaudio.packs.tasks import PackTask
from vidaudio.packs.vectors import packed_columns
from vidaudio.shards.read import TarReader
from vidaudio.stream.vector_columns import VectorColumn

# Corpus shards visited at a time on an object store, where waiting takes most of the time.
REMOTE_VISITS = 8
# Members with at most this gap between them are read together, up to this many bytes at once.
GAP_BYTES = 64 << 10
READ_BYTES = 4 << 20


class GatheredClips:
    """The clips of a training shard, with their members in a spool file.

    Attributes:
        columns: Vector columns of the pack.
        sample_rate: Sample rate of the sound, Hz.
    """

    def __init__(self, spool: int, columns: Sequence[VectorColumn], sample_rate: int) -> None:
        self.columns = columns
        self.sample_rate = sample_rate
        self._spool = spool
        self._clips: dict[str, GatheredClip] = {}
        # By corpus shard and offset in its tar: offset in the spool.
        self._places: dict[tuple[int, int], int] = {}
        self._end = 0
        self._lock = threading.Lock()

    def __getitem__(self, clip_id: str) -> GatheredClip:
        return self._clips[clip_id]

    def read(self, offset: int, length: int, shard: int) -> bytes:
        """Return a member's bytes, addressed by its offset and length in the tar of its corpus shard."""
        return os.pread(self._spool, length, self._places[shard, offset])

    def add(self, shard: int, clips: dict[str, GatheredClip], spans: Sequence[tuple[int, int]], tar: TarReader) -> None:
        """Add a corpus shard's clips, and copy the members at `spans` (offset, length) of its tar."""
        self._clips |= clips
        for first, last in runs_of(spans):
            begin = spans[first][0]
            data = tar.read(begin, spans[last][0] + spans[last][1] - begin)
            for offset, length in spans[first : last + 1]:
                self._places[shard, offset] = self._append(data[offset - begin : offset - begin + length])

    def _append(self, data: bytes) -> int:
        with self._lock:
            place, self._end = self._end, self._end + len(data)
        os.pwrite(self._spool, data, place)
        return place


@contextlib.contextmanager
def gathered(corpus: Corpus, task: PackTask, models: Mapping[str, str], scratch: Path) -> Iterator[GatheredClips]:
    """Gather everything that a training shard is made of.

    Args:
        corpus: Corpus to read from.
        task: The training shard.
        models: Name of the model by stage; that of the embed stage is the corpus's own encoder.
        scratch: Local folder for the spool file, which becomes about as large as the training shard.

    Raises:
        PackError: When a planned clip is no longer in the corpus.
    """
    wanted: dict[int, set[str]] = {}
    for sample in task.samples:
        wanted.setdefault(sample.shard, set()).add(sample.clip_id)
    columns = packed_columns(corpus.store, task.settings, models[EMBED.stage])
    visits = REMOTE_VISITS if corpus.store.local_path("") is None else 1
    spool = os.open(scratch / "spool", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        clips = GatheredClips(spool, columns, corpus.settings.extract.sample_rate)

        def visit(shard: int) -> None:
            _visit(corpus, shard, wanted[shard], clips, task)

        with ThreadPoolExecutor(visits) as pool:
            list(pool.map(visit, sorted(wanted)))
        yield clips
    finally:
        os.close(spool)
        (scratch / "spool").unlink()


def runs_of(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Group ordered spans (offset, length) to read together; return the first and last index of each group."""
    runs: list[tuple[int, int]] = []
    for number, (offset, length) in enumerate(spans):
        if runs:
            first, last = runs[-1]
            near = offset - sum(spans[last]) <= GAP_BYTES
            if near and offset + length - spans[first][0] <= READ_BYTES:
                runs[-1] = first, number
                continue
        runs.append((number, number))
    return runs


def _visit(corpus: Corpus, shard: int, wanted: Collection[str], clips: GatheredClips, task: PackTask) -> None:
    found = _found(corpus, shard, wanted, clips.columns, task.sources)
    absent = sorted(set(wanted) - found.clips.keys())
    if absent:
        raise PackError(
            f"{absent[0]} is in the plan of this pack and not in shard {shard} of {corpus.url} any more; "
            "pack again: if clips were removed meanwhile, under another name"
        )
    facts = [clip.facts for clip in found.clips.values()]
    spans = {(row["audio_offset"], row["audio_length"]) for row in facts}
    if task.settings.frames:
        for row in facts:
            spans.update(zip(row["frame_offsets"], row["frame_lengths"], strict=True))
    with TarReader(corpus.store, f"{EXTRACT.folder}/{found.tar}", whole=False) as tar:
        clips.add(shard, found.clips, sorted(spans), tar)


def _found(
    corpus: Corpus, shard: int, wanted: Collection[str], columns: Sequence[VectorColumn], sources: str | None
) -> SourceClips:
    """Return the wanted clips of a corpus shard, from the input cache or, if they are not there, the tables."""
    if sources is not None:
        with contextlib.suppress(FileNotFoundError):
            return from_sources(corpus.store, shard, wanted, sources)
    return from_tables(corpus, shard, columns, wanted)
