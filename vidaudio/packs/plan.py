"""The plan of a pack: which samples of which clips go into which training shard, in which order.

A pure function of what is committed and of the pack settings, so that every run and every task agrees on it. The corpus
is read a few thousand clips at a time; what stays in memory are columns of numbers (see `pack_tasks`).
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from vidaudio.config.corpus import ExtractedMedia, PackBlock
from vidaudio.corpus.corpus import Corpus
from vidaudio.errors import CorpusError
from vidaudio.packs.advice import (
    MOST_SOURCES_DRAWN,
    changed_settings,
    long_enough,
    split_warnings,
    why_nothing,
)
from vidaudio.packs.description import PACK_FILE, PackDescription, read_pack_file
from vidaudio.packs.segments import Segment, whole_segments, window_segments
from vidaudio.packs.selection import (
    Splits,
    named_columns,
    selected,
    usable_clips,
)
from vidaudio.packs.tasks import PackTasks, SampleColumns, hash_of_plan
from vidaudio.shards.names import is_name_part
from vidaudio.shards.store import Store

# Of every clip, whatever the selection.
PLANNED_BY = ("id", "source", "split", "shard", "samples", "audio_start_seconds", "grid_seconds")


class PackExistsError(CorpusError):
    """A pack of this name stands and is not the one planned.

    Attributes:
        only_grown: The settings are the same; the corpus has other clips to pack by now.
    """

    def __init__(self, message: str, *, only_grown: bool) -> None:
        super().__init__(message)
        self.only_grown = only_grown


@dataclass(frozen=True, slots=True)
class PackPlan:
    """All output shards of one pack, in order.

    Attributes:
        folder: `training/NAME`.
        settings, plan_hash: Of the pack.
        tasks: The output shards, each made when it is asked for.
        clips: Selected, of which the samples are cut.
        left_out: Clips of the list that are in no sample, by cause: `not_extracted` (no usable media), `where` (not
            selected), `too_short` (without a whole window).
        warnings: What training on the pack, or evaluating on it, will refuse, and what to do.
    """

    folder: str
    settings: PackBlock
    plan_hash: str
    tasks: PackTasks
    clips: int
    left_out: Mapping[str, int]
    warnings: tuple[str, ...] = ()

    @property
    def samples(self) -> int:
        """Over all output shards."""
        return self.tasks.samples


def plan_pack(corpus: Corpus, settings: PackBlock, encoder_name: str) -> PackPlan:
    """Select, split, cut, shuffle and divide.

    Raises:
        CorpusError: Nothing is left to pack.
        RecipeError: `where` is not an expression over the clips' columns, or a split's share is wrong.
    """
    found = _Gathering(settings, corpus.settings.extract)
    usable = 0
    looked_at = named_columns(settings.where)
    columns = None if looked_at is None else {*PLANNED_BY, *looked_at}
    for clips in usable_clips(corpus, encoder_name, columns):
        usable += len(clips)
        found.add(selected(clips, settings.where))
    if not found.clips:
        raise CorpusError(f"nothing to pack in {corpus.url}: {why_nothing(corpus, usable, settings.where)}")
    if not found.samples:
        raise CorpusError(
            f"nothing to pack in {corpus.url}: none of {found.clips} clips is long enough for a window of 3 pictures "
            "and 4.1 s; pack them whole (--set window=whole), or build from longer clips"
        )
    columns, places = found.arranged()
    described = {"corpus": corpus.plan_hash, "encoder": encoder_name, "settings": settings.identity()}
    plan_hash = hash_of_plan(described, columns, places)
    folder = f"training/{settings.name}"
    tasks = PackTasks(folder, settings, plan_hash, columns, places)
    left_out = {
        "not_extracted": corpus.clips - usable,
        "where": usable - found.clips,
        "too_short": found.too_short,
    }
    return PackPlan(folder, settings, plan_hash, tasks, found.clips, left_out, found.warnings(corpus))


# As `SampleColumns` has them.
_SEGMENT = np.dtype([("numbers", "i4"), ("starts", "i8"), ("lengths", "i8"), ("first_frames", "i4"), ("frames", "i4")])


class _Gathering:
    """The samples of selected clips, added a few thousand clips at a time and kept in columns."""

    def __init__(self, settings: PackBlock, extract: ExtractedMedia) -> None:
        self._settings, self._extract = settings, extract
        self._splits = Splits(settings)
        self._ids: list[pa.Array] = []
        self._shards: list[np.ndarray] = []
        self._clips: list[np.ndarray] = []
        self._segments: list[np.ndarray] = []
        self._positions: list[np.ndarray] = []
        self._long_enough = bytearray()
        # Texts of few sources alone: they are for those who have too few.
        self._texts: set[str] | None = set()
        self.clips = self.samples = self.too_short = 0

    def add(self, clips: pd.DataFrame) -> None:
        """Cut and place the samples of some clips, in the list's order."""
        self._splits.add(clips)
        self._ids.append(pa.array(clips["id"], pa.string()))
        self._shards.append(clips["shard"].to_numpy(np.int32))
        owners: list[int] = []
        segments: list[tuple[int, ...]] = []
        positions = bytearray()
        columns = (clips[name] for name in ("id", "samples", "audio_start_seconds", "grid_seconds"))
        for place, (clip_id, samples, start, grid) in enumerate(zip(*columns, strict=True), start=self.clips):
            cut = _segments(clip_id, int(samples), start, list(grid), self._settings, self._extract)
            self.too_short += not cut
            self._long_enough.append(bool(cut) and long_enough(int(samples), self._extract.sample_rate, len(grid)))
            for segment in cut:
                owners.append(place)
                number = int(segment.suffix[2:]) if segment.suffix else -1
                begin = 0 if segment.whole else segment.start_sample
                segments.append((number, begin, segment.samples, segment.first_frame, segment.frames))
                # Ordering by a hash is a global shuffle that does not depend on the order things were read in.
                key = f"{self._settings.seed}:{clip_id}{segment.suffix}"
                positions += hashlib.sha256(key.encode()).digest()[:16]
        if self._texts is not None:
            flags = self._long_enough[self.clips :]
            self._texts.update(source for source, flag in zip(clips["source"], flags, strict=True) if flag)
            self._texts = self._texts if len(self._texts) <= MOST_SOURCES_DRAWN else None
        self._clips.append(np.asarray(owners, np.int32))
        self._segments.append(np.array(segments, _SEGMENT))
        self._positions.append(np.frombuffer(bytes(positions), ">u8").astype(np.uint64).reshape(-1, 2))
        self.clips += len(clips)
        self.samples += len(owners)

    def warnings(self, corpus: Corpus) -> tuple[str, ...]:
        """Return what is wrong with the splits, if anything, and how to draw others."""
        usable = np.frombuffer(bytes(self._long_enough), bool)
        command = f"vidaudio pack {shlex.quote(corpus.url)} --name NAME"
        changed = changed_settings(self._settings, corpus.pack)
        return split_warnings(self._splits, usable, self._texts, self._settings, command, changed)

    def arranged(self) -> tuple[SampleColumns, tuple[tuple[str, int, int, int], ...]]:
        """The samples in the order of the output shards; split, number and range of samples of each of those."""
        names, codes = self._splits.decided()
        for name in names:
            if not is_name_part(name):
                raise CorpusError(
                    f"the split {name[:80]!r} cannot be part of a file's name, as that of a training shard; name it "
                    "otherwise in the list"
                )
        clips = _emptied(self._clips)
        positions = _emptied(self._positions)
        splits = codes[clips]
        order = np.lexsort((positions[:, 1], positions[:, 0], splits))
        del positions
        # A column at a time: the whole table twice would be the largest thing that a plan holds.
        segments = _emptied(self._segments)
        columns = SampleColumns(
            pa.chunked_array(self._ids, pa.string()).combine_chunks(),
            _emptied(self._shards),
            clips[order],
            *(segments[name][order] for name in _SEGMENT.names),
            "s" if self._settings.window == "whole" else "w",
        )
        bounds = np.searchsorted(splits[order], np.arange(len(names) + 1))
        size = self._settings.clips_per_shard
        places = [
            (name, number, begin, min(begin + size, int(last)))
            for name, first, last in zip(names, bounds, bounds[1:], strict=False)
            for number, begin in enumerate(range(int(first), int(last), size))
        ]
        return columns, tuple(places)


def _emptied(pieces: list[np.ndarray]) -> np.ndarray:
    """The pieces as one; the list is empty afterwards, so that they are not held twice."""
    whole = np.concatenate(pieces)
    pieces.clear()
    return whole


def check_selection(settings: PackBlock) -> None:
    """Find a `where` or shares that cannot work before anything is built.

    Raises:
        RecipeError: As `plan_pack` would.
    """
    named_columns(settings.where)
    Splits(settings)


def begin_pack(corpus: Corpus, plan: PackPlan, encoder_name: str) -> None:
    """Write down what is packed, or check that the same was begun before.

    Raises:
        PackStands: Other settings or other clips stand under this name.
    """
    described = PackDescription(
        settings=plan.settings,
        plan_hash=plan.plan_hash,
        encoder=encoder_name,
        shards=tuple(plan.tasks.names),
        samples=plan.samples,
        clips=plan.clips,
        left_out=plan.left_out,
    )
    if not corpus.store.create(f"{plan.folder}/{PACK_FILE}", described.encode()):
        check_standing_plan(corpus, plan)


def check_standing_pack(corpus: Corpus, settings: PackBlock) -> PackDescription | None:
    """What is written down of a pack of this name, in `pack.json`; None where there is none yet.

    Raises:
        PackStands: It was packed with other settings.
    """
    folder = f"training/{settings.name}"
    if not corpus.store.exists(f"{folder}/{PACK_FILE}"):
        return None
    standing = read_pack_file(corpus.store, folder)
    now, was = settings.model_dump(mode="json"), standing.settings.model_dump(mode="json")
    changed = [f"{key}: {was.get(key)!r} there, {now[key]!r} now" for key in sorted(now) if was.get(key) != now[key]]
    if changed:
        raise _stands(corpus, folder, "; ".join(changed), only_grown=False)
    return standing


def check_standing_plan(corpus: Corpus, plan: PackPlan) -> None:
    """Whether a pack can go on by this plan; it can where there is none of its name yet.

    Raises:
        PackStands: Other settings or other clips stand under this name.
    """
    standing = check_standing_pack(corpus, plan.settings)
    if standing is None or standing.plan_hash == plan.plan_hash:
        return
    what = "the clips that are ready"
    if standing.removed_samples:
        what = f"{what}, since {standing.removed_samples:,} samples were removed,"
    raise _stands(corpus, plan.folder, f"{what} differ", only_grown=True)


def _stands(corpus: Corpus, folder: str, what: str, *, only_grown: bool) -> PackExistsError:
    return PackExistsError(
        f"{corpus.url}/{folder} was packed otherwise ({what}), and packed shards never change; "
        f"pack under another name: vidaudio pack {corpus.url} --name NAME",
        only_grown=only_grown,
    )


def missing_tasks(store: Store, plan: PackPlan) -> PackTasks:
    """The plan's shards that are not committed yet."""
    return plan.tasks.missing(store.list(plan.folder))


def _segments(
    clip_id: str, samples: int, start: float, grid: list[float], settings: PackBlock, extract: ExtractedMedia
) -> list[Segment]:
    if settings.window == "whole":
        return whole_segments(samples, extract.sample_rate, start, grid, settings.max_segment_seconds)
    window, seed = settings.window_rule, settings.seed
    return window_segments(clip_id, samples, extract.sample_rate, start, grid, extract.frames_per_second, window, seed)
