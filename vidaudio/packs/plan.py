"""The plan of a pack: which samples of which clips go into which training shard, and in which order.

The plan depends only on what is committed and on the pack settings, so every run and every task computes the same plan.
The corpus is read a few thousand clips at a time; only columns of numbers stay in memory (see `tasks`).
"""

from __future__ import annotations

import hashlib
import shlex
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import pyarrow as pa

from vidaudio.config.corpus import ExtractedMedia, PackBlock
from vidaudio.corpus.columns import EMBED, SCORE
from vidaudio.corpus.corpus import Corpus
from vidaudio.errors import PackError
from vidaudio.packs.advice import (
    MOST_SOURCES_DRAWN,
    changed_settings,
    long_enough,
    split_warnings,
    why_nothing,
)
from vidaudio.packs.choice import CHOSEN, KEEP_TOP, NEAR_DUPLICATE, NOT_EXTRACTED, TOO_SHORT, WHERE, causes
from vidaudio.packs.clip_looks import keeping_order, near_duplicates
from vidaudio.packs.description import PACK_FILE, PackDescription, read_pack_file
from vidaudio.packs.near_duplicates import NearDuplicates
from vidaudio.packs.offsets import OFFSET_COLUMNS, sure_offsets
from vidaudio.packs.segments import Segment, whole_segments, window_segments
from vidaudio.packs.selection import (
    Splits,
    named_columns,
    reads_scores,
    selected,
    usable_clips,
)
from vidaudio.packs.tasks import PackTasks, SampleColumns, hash_of_plan
from vidaudio.packs.thresholds import RANKED_BY, READ, Thresholds, resolve_thresholds
from vidaudio.packs.vectors import check_embedded_by, packed_columns, packed_encoders, with_fingerprint
from vidaudio.packs.weights import check_weight, clip_weights
from vidaudio.shards.names import is_name_part
from vidaudio.shards.store import Store

# Columns that planning needs of every clip, in addition to those that the selection reads.
PLANNED_BY = ("id", "source", "split", "shard", "samples", "audio_start_seconds", "grid_seconds")


class PackExistsError(PackError):
    """An error for a pack of this name that exists and differs from the planned one.

    Attributes:
        only_grown: Whether the settings are the same and only the clips of the corpus that can be packed differ.
    """

    def __init__(self, message: str, *, only_grown: bool) -> None:
        super().__init__(message)
        self.only_grown = only_grown


@dataclass(frozen=True, slots=True)
class PackPlan:
    """All output shards of one pack, in order.

    Attributes:
        folder: Folder of the pack, `training/NAME`.
        settings, plan_hash: Settings of the pack, and hash of the whole plan.
        tasks: The output shards; each task is created when it is accessed.
        clips: Number of selected clips, from which the samples are cut.
        left_out: Number of clips that are in no sample, by cause: `not_extracted` (no usable media), `where` (not
            selected), `keep_top` (selected, and not among the best), `too_short` (no whole window), `near_duplicate`.
        warnings: What training or evaluation on the pack will refuse, and what to do.
        thresholds: Least scores of the clips; None if every selected clip is kept.
        models: Name of the model by stage, for the columns that were read.
        duplicates: Near-duplicates among the chosen clips, by their places in manifest order; None if they stay.
    """

    folder: str
    settings: PackBlock
    plan_hash: str
    tasks: PackTasks
    clips: int
    left_out: Mapping[str, int]
    warnings: tuple[str, ...] = ()
    thresholds: Thresholds | None = None
    models: Mapping[str, str] = field(default_factory=dict)
    duplicates: NearDuplicates | None = field(default=None, repr=False, compare=False)

    @property
    def has_samples(self) -> np.ndarray:
        """Which of the chosen clips have a sample, bool `[chosen]`, in manifest order."""
        return np.bincount(self.tasks.columns.clips, minlength=len(self.tasks.columns.ids)) > 0

    @property
    def samples(self) -> int:
        """Number of samples in all output shards."""
        return self.tasks.samples


def plan_pack(corpus: Corpus, settings: PackBlock, models: Mapping[str, str]) -> PackPlan:
    """Plan a pack: select clips, assign splits, cut samples, shuffle them and divide them into shards.

    Args:
        corpus: Opened corpus.
        settings: Settings of the pack.
        models: Name of the model by stage, for the columns that the pack reads.

    Raises:
        PackError: When nothing is left to pack, a shard lacks a column that is read, such as the vectors, or a weight
            is not between 0 and 1.
        RecipeError: When `where` is not an expression over the clips' columns, `weight` is no column of numbers, or the
            split fractions are invalid.
    """
    check_weight(settings.weight)
    first, *further = packed_encoders(settings, models[EMBED.stage])
    check_embedded_by(corpus, further if first == models[EMBED.stage] else [first, *further])
    found = _Gathering(settings, corpus.settings.extract)
    usable = 0
    looked_at = named_columns(settings.where)
    models = {**models, EMBED.stage: first}
    thresholds = _thresholds(corpus, settings, models, looked_at)
    columns = None if looked_at is None else {*looked_at, *_read_by(settings)}
    left_out: Counter[str] = Counter()
    for clips in usable_clips(corpus, models, columns):
        usable += len(clips)
        why = causes(clips, settings.where, thresholds)
        left_out.update(why.tolist())
        found.add(clips[why == CHOSEN])
    if not found.clips:
        raise PackError(f"nothing to pack in {corpus.url}: {why_nothing(corpus, usable, settings.where)}")
    if not found.samples:
        raise PackError(
            f"nothing to pack in {corpus.url}: none of {found.clips} clips is long enough for a window of 3 pictures "
            "and 4.1 s; pack them whole (--set window=whole), or build from longer clips"
        )
    duplicates = found.without_near_duplicates(corpus, models) if settings.dedup is not None else None
    samples, places = found.arranged()
    described = {"corpus": corpus.plan_hash, "encoder": first, "settings": settings.identity()}
    if reads_scores(settings):
        described["scorer"] = corpus.store.read(SCORE.described_in(models[SCORE.stage])).decode()
    if samples.weights is not None:
        described["weights"] = hashlib.sha256(samples.weights[samples.clips].astype("<f4").tobytes()).hexdigest()
    if samples.late is not None:
        described["fixed_offsets"] = hashlib.sha256(samples.late[samples.clips].astype("<f8").tobytes()).hexdigest()
    plan_hash = hash_of_plan(described, samples, places)
    folder = f"training/{settings.name}"
    tasks = PackTasks(folder, settings, plan_hash, samples, places)
    counts = {NOT_EXTRACTED: corpus.clips - usable, WHERE: left_out[WHERE], TOO_SHORT: found.too_short}
    if thresholds is not None:
        counts[KEEP_TOP] = left_out[KEEP_TOP]
    if duplicates is not None:
        counts[NEAR_DUPLICATE] = len(duplicates)
    kept, warnings = found.clips - counts.get(NEAR_DUPLICATE, 0), found.warnings(corpus)
    return PackPlan(folder, settings, plan_hash, tasks, kept, counts, warnings, thresholds, models, duplicates)


def _read_by(settings: PackBlock) -> set[str]:
    """Return the columns that planning reads of every clip, besides those that the selection names."""
    columns = set(PLANNED_BY)
    if settings.keep_top is not None or settings.keep_per_label is not None:
        columns |= set(READ)
    if _compares_by_score(settings):
        columns.add(RANKED_BY)
    if settings.weight is not None:
        columns.add(settings.weight)
    if settings.fix_offset is not None:
        columns |= set(OFFSET_COLUMNS)
    return columns


def _compares_by_score(settings: PackBlock) -> bool:
    """Return whether near-duplicates are found by sound, too, and kept by score."""
    return settings.dedup is not None and settings.scorer is not None


def _thresholds(
    corpus: Corpus, settings: PackBlock, models: Mapping[str, str], looked_at: Collection[str] | None
) -> Thresholds | None:
    """Return the least scores of a pack; the corpus is read only if the settings ask for any."""
    clips = usable_clips(corpus, models, None if looked_at is None else {*looked_at, *READ})
    return resolve_thresholds((selected(batch, settings.where)[list(READ)] for batch in clips), settings)


# Fields of a segment, as in `SampleColumns`.
_SEGMENT = np.dtype([("numbers", "i4"), ("starts", "i8"), ("lengths", "i8"), ("first_frames", "i4"), ("frames", "i4")])


class _Gathering:
    """Samples of the selected clips, added a few thousand clips at a time and kept in columns."""

    def __init__(self, settings: PackBlock, extract: ExtractedMedia) -> None:
        self._settings, self._extract = settings, extract
        self._splits = Splits(settings)
        self._ids: list[pa.Array] = []
        self._shards: list[np.ndarray] = []
        self._clips: list[np.ndarray] = []
        self._segments: list[np.ndarray] = []
        self._positions: list[np.ndarray] = []
        self._scores: list[np.ndarray] = []
        self._weights: list[np.ndarray] = []
        self._late: list[np.ndarray] = []
        self._dropped = np.zeros(0, np.int64)
        self._long_enough = bytearray()
        # Source names are kept only while they are few: only packs with few sources need other draws.
        self._texts: set[str] | None = set()
        self.clips = self.samples = self.too_short = 0

    def add(self, clips: pd.DataFrame) -> None:
        """Cut and shuffle the samples of some clips; call in manifest order."""
        self._splits.add(clips)
        self._ids.append(pa.array(clips["id"], pa.string()))
        self._shards.append(clips["shard"].to_numpy(np.int32))
        if _compares_by_score(self._settings):
            self._scores.append(clips[RANKED_BY].to_numpy(np.float32))
        if self._settings.weight is not None:
            self._weights.append(clip_weights(clips, self._settings.weight))
        if self._settings.fix_offset is not None:
            self._late.append(sure_offsets(clips, self._settings.fix_offset))
            clips = clips.assign(audio_start_seconds=clips["audio_start_seconds"] - self._late[-1])
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
                begin = segment.start_sample or 0
                segments.append((number, begin, segment.samples, segment.first_frame, segment.frames))
                # Ordering by a hash is a global shuffle that does not depend on the order of reading.
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

    def without_near_duplicates(self, corpus: Corpus, models: Mapping[str, str]) -> NearDuplicates:
        """Find and drop near-duplicates among the clips that have samples; call before `arranged`."""
        ids = pa.chunked_array(self._ids, pa.string()).combine_chunks()
        own = np.unique(np.concatenate(self._clips)).astype(np.int64)
        names, codes = self._splits.decided()
        scores = np.concatenate(self._scores)[own] if self._scores else None
        ids, shards = ids.take(pa.array(own)), np.concatenate(self._shards)[own]
        order = keeping_order(ids, codes[own], names, scores)
        found = near_duplicates(corpus, self._settings, models, ids, shards, order)
        found = replace(found, clips=own[found.clips], kept=own[found.kept])
        self._dropped = found.clips
        for place in found.clips.tolist():
            self._long_enough[place] = False
        return found

    def warnings(self, corpus: Corpus) -> tuple[str, ...]:
        """Return what is wrong with the splits, if anything, and how to draw others."""
        usable = np.frombuffer(bytes(self._long_enough), bool)
        command = f"vidaudio pack {shlex.quote(corpus.url)} --name NAME"
        changed = changed_settings(self._settings, corpus.pack)
        return split_warnings(self._splits, usable, self._texts, self._settings, command, changed)

    def arranged(self) -> tuple[SampleColumns, tuple[tuple[str, int, int, int], ...]]:
        """Return the samples in output order, and each output shard's split, number and range of samples."""
        names, codes = self._splits.decided()
        for name in names:
            if not is_name_part(name):
                raise PackError(
                    f"the split {name[:80]!r} cannot be part of a file's name, as that of a training shard; name it "
                    "otherwise in the list"
                )
        clips = _emptied(self._clips)
        stays = np.ones(self.clips, bool)
        stays[self._dropped] = False
        own = None if stays.all() else np.flatnonzero(stays[clips])
        clips = clips if own is None else clips[own]
        positions = _emptied(self._positions, own)
        splits = codes[clips]
        order = np.lexsort((positions[:, 1], positions[:, 0], splits))
        del positions
        # Reorder one column at a time: two copies of all columns would be the plan's largest memory use.
        segments = _emptied(self._segments, own)
        columns = SampleColumns(
            pa.chunked_array(self._ids, pa.string()).combine_chunks(),
            _emptied(self._shards),
            clips[order],
            segments["numbers"][order],
            segments["starts"][order],
            segments["lengths"][order],
            segments["first_frames"][order],
            segments["frames"][order],
            "s" if self._settings.window == "whole" else "w",
            _emptied(self._weights) if self._weights else None,
            _emptied(self._late) if self._late else None,
        )
        bounds = np.searchsorted(splits[order], np.arange(len(names) + 1))
        size = self._settings.clips_per_shard
        places = [
            (name, number, begin, min(begin + size, int(last)))
            for name, first, last in zip(names, bounds, bounds[1:], strict=False)
            for number, begin in enumerate(range(int(first), int(last), size))
        ]
        return columns, tuple(places)


def _emptied(pieces: list[np.ndarray], rows: np.ndarray | None = None) -> np.ndarray:
    """Concatenate the pieces and clear the list, so that they are not held in memory twice; return some rows or all."""
    whole = np.concatenate(pieces)
    pieces.clear()
    return whole if rows is None else whole[rows]


def check_selection(settings: PackBlock) -> None:
    """Check `where`, `weight` and the split fractions, before anything is built.

    Raises:
        RecipeError: As for `plan_pack`.
    """
    named_columns(settings.where)
    check_weight(settings.weight)
    Splits(settings)


def begin_pack(corpus: Corpus, plan: PackPlan, models: Mapping[str, str]) -> None:
    """Write `pack.json`, or check that the same pack was begun before.

    Raises:
        PackExistsError: When a pack of this name exists with other settings or other clips.
    """
    columns = packed_columns(corpus.store, plan.settings, models[EMBED.stage])
    columns = tuple(with_fingerprint(corpus.store, column) for column in columns)
    described = PackDescription(
        settings=plan.settings,
        plan_hash=plan.plan_hash,
        encoder=columns[0].encoder,
        shards=tuple(plan.tasks.names),
        samples=plan.samples,
        clips=plan.clips,
        left_out=plan.left_out,
        vectors=columns,
        thresholds={} if plan.thresholds is None else plan.thresholds.as_dict(),
    )
    if not corpus.store.create(f"{plan.folder}/{PACK_FILE}", described.encode()):
        check_standing_plan(corpus, plan)


def check_standing_pack(corpus: Corpus, settings: PackBlock) -> PackDescription | None:
    """Return the description of the existing pack of this name; None if there is none yet.

    Raises:
        PackExistsError: When it was packed with other settings.
    """
    folder = f"training/{settings.name}"
    if not corpus.store.exists(f"{folder}/{PACK_FILE}"):
        return None
    standing = read_pack_file(corpus.store, folder)
    now, was = settings.model_dump(mode="json"), standing.settings.model_dump(mode="json")
    if settings.scorer is None:
        # The pack has the one that was chosen for it.
        was.pop("scorer", None)
    differing = sorted(key for key in now | was if was.get(key) != now.get(key))
    changed = [f"{key}: {was.get(key)!r} there, {now.get(key)!r} now" for key in differing]
    if changed:
        raise _stands(corpus, folder, "; ".join(changed), only_grown=False)
    return standing


def check_standing_plan(corpus: Corpus, plan: PackPlan) -> None:
    """Check that a pack can be begun or continued with this plan.

    Raises:
        PackExistsError: When a pack of this name exists with other settings or other clips.
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
    """Return the plan's tasks whose shards are not committed yet."""
    return plan.tasks.missing(store.list(plan.folder))


def _segments(
    clip_id: str, samples: int, start: float, grid: list[float], settings: PackBlock, extract: ExtractedMedia
) -> list[Segment]:
    if settings.window == "whole":
        return whole_segments(samples, extract.sample_rate, start, grid, settings.max_segment_seconds)
    window, seed = settings.window_rule, settings.seed
    return window_segments(clip_id, samples, extract.sample_rate, start, grid, extract.frames_per_second, window, seed)
