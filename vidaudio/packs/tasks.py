"""The output shards of a pack: planned in columns, so that ten million samples take little memory, and made when asked.

What a plan holds is some sixty bytes a sample and the clips' ids; a task, and the samples in it, comes to be when it is
taken from `PackTasks`, and is forgotten when it is done.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import pyarrow as pa

from vidaudio.config.corpus import PackBlock
from vidaudio.packs.segments import Segment

_SEGMENT_FIELDS = tuple(each.name for each in fields(Segment))


@dataclass(frozen=True, slots=True)
class PackedSample:
    """One sample of the plan: a segment of a clip, and the shard that the clip is in."""

    key: str
    clip_id: str
    shard: int
    segment: Segment


@dataclass(frozen=True, slots=True)
class PackTask:
    """One output shard: small enough to travel to a worker.

    Attributes:
        split, number: What its name is made of.
        folder: Of the pack, inside the corpus.
        settings, plan_hash: Of the whole pack.
        samples: What goes in, in order.
        sources: Folder with the clips of every source shard, made ready to be read by ranges; None: from their tables.
    """

    split: str
    number: int
    folder: str
    settings: PackBlock
    plan_hash: str
    samples: tuple[PackedSample, ...]
    sources: str | None = None

    @property
    def name(self) -> str:
        return f"{self.split}-{self.number:06d}"


@dataclass(frozen=True)
class SampleColumns:
    """All samples of a plan in order, a column a fact.

    Attributes:
        ids: Of the selected clips.
        shards: Of the selected clips, int32.
        clips: Of every sample, the place of its clip in `ids`, int32.
        numbers: Of the sample within its clip, int32; -1 where the clip goes in whole.
        starts: First sample of its sound, int64; meaningless where it goes in whole.
        lengths: Samples of sound, int64.
        first_frames, frames: Of its pictures, int32.
        kind: What the sample's number is preceded by in its key, `s` or `w`.
    """

    ids: pa.Array
    shards: np.ndarray
    clips: np.ndarray
    numbers: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray
    first_frames: np.ndarray
    frames: np.ndarray
    kind: str

    def __len__(self) -> int:
        return len(self.clips)

    def between(self, first: int, last: int) -> tuple[PackedSample, ...]:
        """Some of the samples."""
        part = slice(first, last)
        clips = self.clips[part]
        ids = self.ids.take(pa.array(clips)).to_pylist()
        columns = (self.numbers, self.starts, self.lengths, self.first_frames, self.frames)
        values = zip(ids, self.shards[clips].tolist(), *(column[part].tolist() for column in columns), strict=True)
        return tuple(self._sample(*row) for row in values)

    def _sample(
        self, clip_id: str, shard: int, number: int, start: int, samples: int, first_frame: int, frames: int
    ) -> PackedSample:
        whole = number < 0
        suffix = "" if whole else f"-{self.kind}{number:04d}"
        segment = Segment(suffix, None if whole else start, samples, first_frame, frames)
        return PackedSample(f"{clip_id}{suffix}", clip_id, shard, segment)

    def source_shards(self, first: int, last: int) -> np.ndarray:
        """Shards that some of the samples are taken from, each once."""
        return np.unique(self.shards[self.clips[first:last]])


@dataclass(frozen=True)
class PackTasks(Sequence[PackTask]):
    """Output shards of a pack in order; each task is made anew whenever it is asked for.

    Two of them are equal where they are of the same plan and stand for the same output shards.
    """

    folder: str
    settings: PackBlock
    plan_hash: str
    columns: SampleColumns = field(repr=False, compare=False)
    # Split, number, first sample and the one behind the last.
    places: tuple[tuple[str, int, int, int], ...] = field(repr=False)
    sources: str | None = None

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return self._of(self.places[place])
        split, number, first, last = self.places[place]
        samples = self.columns.between(first, last)
        return PackTask(split, number, self.folder, self.settings, self.plan_hash, samples, self.sources)

    def __iter__(self) -> Iterator[PackTask]:
        return (self[place] for place in range(len(self)))

    @property
    def names(self) -> list[str]:
        """Of the output shards."""
        return [f"{split}-{number:06d}" for split, number, _, _ in self.places]

    @property
    def samples(self) -> int:
        """Over all output shards."""
        return sum(last - first for _, _, first, last in self.places)

    def source_shards(self) -> np.ndarray:
        """Shards of the corpus that any of them reads, each once."""
        return np.unique(np.concatenate([self._own(place) for place in self.places] or [np.zeros(0, np.int32)]))

    def visits(self) -> int:
        """How often a shard of the corpus is read, over all of them."""
        return sum(len(self._own(place)) for place in self.places)

    def missing(self, standing: Any) -> PackTasks:
        """Those whose table is not among the files of the pack's folder."""
        named = zip(self.places, self.names, strict=True)
        return self._of(tuple(place for place, name in named if f"{name}.parquet" not in standing))

    def reading(self, sources: str) -> PackTasks:
        """The same, from clips that were made ready in this folder."""
        return PackTasks(self.folder, self.settings, self.plan_hash, self.columns, self.places, sources)

    def _of(self, places: tuple[tuple[str, int, int, int], ...]) -> PackTasks:
        return PackTasks(self.folder, self.settings, self.plan_hash, self.columns, places, self.sources)

    def _own(self, place: tuple[str, int, int, int]) -> np.ndarray:
        return self.columns.source_shards(*place[2:])


def hash_of_plan(described: dict[str, Any], columns: SampleColumns, places: Sequence[tuple[str, int, int, int]]) -> str:
    """`stable_hash` of what is described together with the content of every output shard, without holding that."""
    digest = hashlib.sha256(b'{"content":[')
    for nth, (split, number, first, last) in enumerate(places):
        group = [split, number, [_values(sample) for sample in columns.between(first, last)]]
        digest.update(b"," * (nth > 0) + _json(group))
    # Sorted by name, "content" comes first.
    digest.update(b"]," + _json(described)[1:])
    return digest.hexdigest()


def _values(sample: PackedSample) -> dict[str, Any]:
    """What `dataclasses.asdict` gives, which copies every number: half of the time of a plan."""
    return {
        "key": sample.key,
        "clip_id": sample.clip_id,
        "shard": sample.shard,
        "segment": {name: getattr(sample.segment, name) for name in _SEGMENT_FIELDS},
    }


def _json(values: Any) -> bytes:
    return json.dumps(values, sort_keys=True, separators=(",", ":")).encode()
