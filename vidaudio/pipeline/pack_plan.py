"""The plan of a pack: which samples of which clips go into which training shard, in which order.

A pure function of what is committed and of the pack settings, so that every run and every task agrees on it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from vidaudio.errors import CorpusError, RecipeError
from vidaudio.manifest import SCHEMA as MANIFEST_SCHEMA
from vidaudio.pipeline.corpus import PACK_FILE, Corpus
from vidaudio.pipeline.recipe import ExtractBlock, PackBlock, stable_hash
from vidaudio.pipeline.segments import Segment, whole_segments, window_segments
from vidaudio.pipeline.stages.extract import SCHEMA as AV_SCHEMA
from vidaudio.shards.commit import committed_shards, read_table, table_name
from vidaudio.shards.store import Store

# Columns of the extract stage that a selection sees and a sample is cut by.
CLIP_FACTS = [c for c in AV_SCHEMA.names if c not in ("reason", "message", "frame_offsets", "frame_lengths")]


class PackStands(CorpusError):
    """A pack of this name stands and is not the one planned.

    Attributes:
        only_grown: The settings are the same; the corpus has other clips to pack by now.
    """

    def __init__(self, message: str, *, only_grown: bool) -> None:
        super().__init__(message)
        self.only_grown = only_grown


@dataclass(frozen=True, slots=True)
class PackedSample:
    """One sample of the plan: a segment of a clip and where the clip's members lie."""

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
    """

    split: str
    number: int
    folder: str
    settings: PackBlock
    plan_hash: str
    samples: tuple[PackedSample, ...]

    @property
    def name(self) -> str:
        return f"{self.split}-{self.number:06d}"


@dataclass(frozen=True, slots=True)
class PackPlan:
    """All output shards of one pack, in order.

    Attributes:
        folder: `training/NAME`.
        settings, plan_hash: Of the pack.
        tasks: The output shards.
        clips: Selected, of which the samples are cut.
        left_out: Clips of the list that are in no sample, by cause: `not_extracted` (no usable media), `where` (not
            selected), `too_short` (without a whole window).
    """

    folder: str
    settings: PackBlock
    plan_hash: str
    tasks: tuple[PackTask, ...]
    clips: int
    left_out: Mapping[str, int]

    @property
    def samples(self) -> int:
        """Over all output shards."""
        return sum(len(task.samples) for task in self.tasks)


def plan_pack(corpus: Corpus, settings: PackBlock, encoder_name: str) -> PackPlan:
    """Select, split, cut, shuffle and divide.

    Raises:
        CorpusError: Nothing is left to pack.
        RecipeError: `where` is not an expression over the clips' columns, or a split's share is wrong.
    """
    usable = _done_clips(corpus, encoder_name)
    clips = selected(usable, settings.where)
    if clips.empty:
        raise CorpusError(f"nothing to pack in {corpus.url}: no clip is done in every stage and selected")
    clips = clips.assign(split=_splits(clips, settings))
    samples: dict[str, list[tuple[str, PackedSample]]] = {}
    extract = corpus.recipe.extract
    too_short = 0
    for row in clips.itertuples():
        segments = _segments(row, settings, extract)
        too_short += not segments
        for segment in segments:
            key = f"{row.id}{segment.suffix}"
            # Ordering by a hash is a global shuffle that does not depend on the order things were read in.
            position = hashlib.sha256(f"{settings.seed}:{key}".encode()).hexdigest()
            samples.setdefault(row.split, []).append((position, PackedSample(key, row.id, row.shard, segment)))
    if not samples:
        raise CorpusError(f"nothing to pack in {corpus.url}: none of {len(clips)} clips is long enough for a window")
    groups: list[tuple[str, int, tuple[PackedSample, ...]]] = []
    for split, placed in sorted(samples.items()):
        ordered = [sample for _, sample in sorted(placed, key=lambda pair: pair[0])]
        for number, first in enumerate(range(0, len(ordered), settings.clips_per_shard)):
            groups.append((split, number, tuple(ordered[first : first + settings.clips_per_shard])))
    plan_hash = stable_hash(
        {
            "corpus": corpus.plan_hash,
            "encoder": encoder_name,
            "settings": settings.model_dump(mode="json"),
            "content": [[split, number, [asdict(s) for s in group]] for split, number, group in groups],
        }
    )
    folder = f"training/{settings.name}"
    tasks = tuple(PackTask(split, number, folder, settings, plan_hash, group) for split, number, group in groups)
    left_out = {
        "not_extracted": corpus.clips - len(usable),
        "where": len(usable) - len(clips),
        "too_short": too_short,
    }
    return PackPlan(folder, settings, plan_hash, tasks, len(clips), left_out)


def check_selection(settings: PackBlock) -> None:
    """Find a `where` or shares that cannot work before anything is built.

    Raises:
        RecipeError: As `plan_pack` would.
    """
    schemas = [*MANIFEST_SCHEMA, *(field for field in AV_SCHEMA if field.name in CLIP_FACTS)]
    empty = pa.schema({field.name: field.type for field in schemas}).empty_table().to_pandas()
    _splits(selected(empty, settings.where), settings)


def begin_pack(corpus: Corpus, plan: PackPlan, encoder_name: str) -> None:
    """Write down what is packed, or check that the same was begun before.

    Raises:
        PackStands: Other settings or other clips stand under this name.
    """
    described = {
        "plan_hash": plan.plan_hash,
        "settings": plan.settings.model_dump(mode="json"),
        "encoder": encoder_name,
        "clips": plan.clips,
        "left_out": dict(plan.left_out),
        "samples": plan.samples,
        "shards": [task.name for task in plan.tasks],
        # Raised by every removal of clips: what was learnt of positions in the pack holds within one generation.
        "generation": 0,
        "removed_samples": 0,
    }
    name = f"{plan.folder}/{PACK_FILE}"
    if corpus.store.create(name, json.dumps(described, indent=2, sort_keys=True).encode() + b"\n"):
        return
    standing = json.loads(corpus.store.read(name))
    if standing["plan_hash"] != plan.plan_hash:
        changed = [k for k, v in described["settings"].items() if standing["settings"].get(k) != v]
        what = f"settings {', '.join(changed)}" if changed else "the clips that are ready"
        if not changed and standing.get("removed_samples"):
            what = f"{what}, since {standing['removed_samples']:,} samples were removed,"
        raise PackStands(
            f"{corpus.url}/{plan.folder} was packed otherwise ({what} differ), and packed shards never change; "
            f"pack under another name: vidaudio pack {corpus.url} --name NAME",
            only_grown=not changed,
        )


def missing_tasks(store: Store, plan: PackPlan) -> list[PackTask]:
    """The plan's shards that are not committed yet."""
    standing = store.list(plan.folder)
    return [task for task in plan.tasks if f"{task.name}.parquet" not in standing]


def _done_clips(corpus: Corpus, encoder_name: str) -> pd.DataFrame:
    """One row a clip that is extracted and embedded: the manifest's columns and the facts of its sound and pictures."""
    embedded = committed_shards(corpus.store, f"embeddings/{encoder_name}")
    missing = corpus.shards - len(embedded)
    if missing:
        raise CorpusError(f"{missing} of {corpus.shards} shards of {corpus.url} are not embedded yet; build first")
    tables = []
    for shard in sorted(embedded):
        table, _ = read_table(corpus.store, table_name("av", shard))
        tables.append(table.select(CLIP_FACTS))
    av = pa.concat_tables(tables).to_pandas()
    av = av[av.pop("state") == "done"]
    manifest = corpus.manifest().to_pandas()
    return manifest.merge(av, on="id", how="inner", validate="one_to_one")


def selected(clips: pd.DataFrame, where: str | None) -> pd.DataFrame:
    """The rows for which an expression over their columns holds; all without one.

    Raises:
        RecipeError: It is no such expression.
    """
    if not where:
        return clips
    try:
        mask = clips.assign(silent=clips.silent.astype(bool)).eval(
            where, engine="python", local_dict={}, global_dict={}
        )
    except Exception as error:
        # pandas' evaluator raises whatever its parser and NumPy raise; all of it is about the expression.
        columns = "seconds, rms_dbfs, silent, motion, decode_errors, split, dataset, id ..."
        raise RecipeError(f"pack.where {where!r} is not a selection over the columns {columns}: {error}") from error
    if not (isinstance(mask, pd.Series) and mask.dtype == bool):
        raise RecipeError(f"pack.where {where!r} must be true or false for every clip")
    return clips[mask]


def _splits(clips: pd.DataFrame, settings: PackBlock) -> list[str]:
    """The list's own split, or one drawn by a hash of the source, so that a source is never on both sides.

    A clip without a split of its own goes where the list has put another clip of its source.
    """
    shares = settings.split_fractions
    total = sum(shares.values())
    if not shares or total <= 0 or min(shares.values()) < 0:
        raise RecipeError("pack.split_fractions must be shares >= 0 that sum to more than 0")
    bounds = np.cumsum([share / total for share in shares.values()])

    def drawn(source: str) -> str:
        digest = hashlib.sha256(f"{settings.seed}:{source}".encode()).digest()
        fraction = int.from_bytes(digest[:8]) / 2**64
        return list(shares)[min(int(np.searchsorted(bounds, fraction, side="right")), len(shares) - 1)]

    own = [s if isinstance(s, str) and s else None for s in clips.split]
    listed: dict[str, str] = {}
    for source, split in zip(clips.source, own, strict=True):
        if split is not None:
            listed.setdefault(source, split)
    return [s or listed.get(source) or drawn(source) for s, source in zip(own, clips.source, strict=True)]


def _segments(row: Any, settings: PackBlock, extract: ExtractBlock) -> list[Segment]:
    samples, start, grid = int(row.samples), row.audio_start_seconds, list(row.grid_seconds)
    if settings.window == "whole":
        return whole_segments(samples, extract.sample_rate, start, grid, settings.max_segment_seconds)
    return window_segments(
        row.id,
        samples,
        extract.sample_rate,
        start,
        grid,
        extract.frames_per_second,
        settings.window,
        settings.seed,
    )
