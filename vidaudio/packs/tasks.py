"""Output shards of a pack, planned in columns so that ten million samples need little memory.

A plan holds some sixty bytes per sample and the clips' ids. A task and its samples are created when the task is taken
from `PackTasks`, and are freed when it is done.
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
    """One sample of the plan: a segment of a clip, and the corpus shard that contains the clip."""

    key: str
    clip_id: str
    shard: int
    segment: Segment


@dataclass(frozen=True, slots=True)
class PackTask:
    """One output shard, small enough to be sent to a worker.

    Attributes:
        split, number: Split of the shard and its number within the split, which form its name.
        folder: Folder of the pack inside the corpus.
        settings, plan_hash: Settings and plan hash of the whole pack.
        samples: Samples of the shard, in order.
        sources: Folder of the input cache; None to read the corpus's tables.
        weights: Weights of the samples; None for a pack without weights.
        late: How much later than its pictures the sound of each sample is, seconds, and is put earlier; None for a pack
            that leaves offsets alone.
    """

    split: str
    number: int
    folder: str
    settings: PackBlock
    plan_hash: str
    samples: tuple[PackedSample, ...]
    sources: str | None = None
    weights: tuple[float, ...] | None = None
    late: tuple[float, ...] | None = None

    @property
    def name(self) -> str:
        """Name of the shard's files, without a file ending."""
        return f"{self.split}-{self.number:06d}"


@dataclass(frozen=True)
class SampleColumns:
    """All samples of a plan in order, with one column per fact.

    Attributes:
        ids: Ids of the selected clips.
        shards: Corpus shard of each selected clip, int32.
        clips: For every sample, the index of its clip in `ids`, int32.
        numbers: Number of the sample within its clip, int32; -1 for a whole clip.
        starts: First sound sample, int64; meaningless for a whole clip.
        lengths: Number of sound samples, int64.
        first_frames, frames: First picture and number of pictures, int32.
        kind: Letter before the sample's number in its key, `s` or `w`.
        weights: Weight of each selected clip, float32; None for a pack without weights.
        late: How much later than its pictures the sound of each selected clip is, seconds, 0 where it is left alone;
            None for a pack that leaves offsets alone.
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
    weights: np.ndarray | None = None
    late: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.clips)

    def weights_between(self, first: int, last: int) -> tuple[float, ...] | None:
        """Return the weights of the samples from `first` to before `last`; None for a pack without weights."""
        return None if self.weights is None else tuple(self.weights[self.clips[first:last]].tolist())

    def late_between(self, first: int, last: int) -> tuple[float, ...] | None:
        """Return how late the sounds of these samples are; None for a pack that leaves offsets alone."""
        return None if self.late is None else tuple(self.late[self.clips[first:last]].tolist())

    def between(self, first: int, last: int) -> tuple[PackedSample, ...]:
        """Return the samples from `first` to before `last`."""
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
        """Return the corpus shards that these samples are taken from, each once."""
        return np.unique(self.shards[self.clips[first:last]])


@dataclass(frozen=True)
class PackTasks(Sequence[PackTask]):
    """Output shards of a pack in order; every access creates a new task.

    Instances compare equal if all fields except `columns` are equal: the plan hash covers the columns.
    """

    folder: str
    settings: PackBlock
    plan_hash: str
    columns: SampleColumns = field(repr=False, compare=False)
    # Split, number, first sample and the sample after the last.
    places: tuple[tuple[str, int, int, int], ...] = field(repr=False)
    sources: str | None = None

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return self._of(self.places[place])
        split, number, first, last = self.places[place]
        samples, weights = self.columns.between(first, last), self.columns.weights_between(first, last)
        late = self.columns.late_between(first, last)
        return PackTask(split, number, self.folder, self.settings, self.plan_hash, samples, self.sources, weights, late)

    def __iter__(self) -> Iterator[PackTask]:
        return (self[place] for place in range(len(self)))

    @property
    def names(self) -> list[str]:
        """Names of the output shards."""
        return [f"{split}-{number:06d}" for split, number, _, _ in self.places]

    @property
    def samples(self) -> int:
        """Number of samples in all output shards."""
        return sum(last - first for _, _, first, last in self.places)

    def source_shards(self) -> np.ndarray:
        """Return the corpus shards that any of the tasks reads, each once."""
        return np.unique(np.concatenate([self._own(place) for place in self.places] or [np.zeros(0, np.int32)]))

    def visits(self) -> int:
        """Return how often a corpus shard is read, summed over all tasks."""
        return sum(len(self._own(place)) for place in self.places)

    def missing(self, standing: Any) -> PackTasks:
        """Return the tasks whose table is not among the files `standing` of the pack's folder."""
        named = zip(self.places, self.names, strict=True)
        return self._of(tuple(place for place, name in named if f"{name}.parquet" not in standing))

    def reading(self, sources: str) -> PackTasks:
        """Return the same tasks, reading clips from the input cache in the folder `sources`."""
        return PackTasks(self.folder, self.settings, self.plan_hash, self.columns, self.places, sources)

    def _of(self, places: tuple[tuple[str, int, int, int], ...]) -> PackTasks:
        return PackTasks(self.folder, self.settings, self.plan_hash, self.columns, places, self.sources)

    def _own(self, place: tuple[str, int, int, int]) -> np.ndarray:
        return self.columns.source_shards(*place[2:])


def hash_of_plan(described: dict[str, Any], columns: SampleColumns, places: Sequence[tuple[str, int, int, int]]) -> str:
    """Return `stable_hash` of `described` plus every output shard's content, without holding that in memory."""
    digest = hashlib.sha256(b'{"content":[')
    for nth, (split, number, first, last) in enumerate(places):
        group = [split, number, [_values(sample) for sample in columns.between(first, last)]]
        digest.update(b"," * (nth > 0) + _json(group))
    # The keys are sorted, so "content" comes first.
    digest.update(b"]," + _json(described)[1:])
    return digest.hexdigest()


def _values(sample: PackedSample) -> dict[str, Any]:
    """Return what `dataclasses.asdict` would; it copies every number, which took half of the planning time."""
    return {
        "key": sample.key,
        "clip_id": sample.clip_id,
        "shard": sample.shard,
        "segment": {name: getattr(sample.segment, name) for name in _SEGMENT_FIELDS},
    }


def _json(values: Any) -> bytes:
    return json.dumps(values, sort_keys=True, separators=(",", ":")).encode()
