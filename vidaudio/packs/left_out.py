"""`left_out.parquet` of a pack: every clip that is in no sample, why, and the values that decided it.

The rows are in manifest order and depend on the plan alone, so that packing again writes the same bytes. They are
written and read some ten thousand at a time. Removed clips have no row.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import math
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from vidaudio.corpus.corpus import Corpus
from vidaudio.corpus.tombstones import Tombstones, read_tombstones
from vidaudio.packs.choice import CHOSEN, KEEP_TOP, NEAR_DUPLICATE, NOT_EXTRACTED, TOO_SHORT, WHERE, causes
from vidaudio.packs.plan import PackPlan
from vidaudio.packs.selection import clip_batches, named_columns, selectable_types
from vidaudio.packs.thresholds import READ
from vidaudio.shards.checksum import OPEN_SEAL, SEAL_KEY, file_checksum_ok, write_checksum
from vidaudio.shards.commit import TABLE_DAMAGE
from vidaudio.shards.corruption import CorruptFileError
from vidaudio.shards.parquet_limits import read_within
from vidaudio.shards.store import Store
from vidaudio.text import first_line

LEFT_OUT_FILE = "left_out.parquet"
SCHEMA = pa.schema([(name, pa.string()) for name in ("id", "source", "reason", "values")])
ROWS_A_GROUP = 32_768


class LeftOutClip(NamedTuple):
    """One row of the file.

    Attributes:
        id, source: Id and source of the clip.
        reason: Cause, as counted in `pack.json`.
        values: JSON object of the values that decided it; for a clip without usable media, state and reason in
            download or extract; for a near-duplicate, the clip that was kept and both cosines.
    """

    id: str
    source: str
    reason: str
    values: str


def left_out_clips(corpus: Corpus, plan: PackPlan) -> Iterator[LeftOutClip]:
    """Yield the clips that a plan leaves out, in manifest order, without removed clips.

    Raises:
        CorpusError: As `plan_pack`.
    """
    where, thresholds = plan.settings.where, plan.thresholds
    named = sorted(named_columns(where) or ())
    columns = {"id", "source", "samples", *named, *(READ if thresholds else ())}
    removed = read_tombstones(corpus.store)
    duplicates = _near_duplicates(plan)
    has_samples = plan.has_samples
    chosen = 0
    for batch in clip_batches(corpus, plan.models, columns, outcomes=True):
        clips = batch.usable
        why = causes(clips, where, thresholds)
        own = np.flatnonzero(why == CHOSEN)
        without = own[~has_samples[chosen : chosen + len(own)]]
        chosen += len(own)
        why[without] = TOO_SHORT
        copies = without[clips["id"].iloc[without].isin(duplicates)] if duplicates else without[:0]
        why[copies] = NEAR_DUPLICATE
        found = {clip_id: (NEAR_DUPLICATE, duplicates[clip_id]) for clip_id in clips["id"].iloc[copies]}
        for reason, read in ((WHERE, named), (KEEP_TOP, READ), (TOO_SHORT, ("samples",))):
            if (why == reason).any():
                found |= {clip_id: (reason, values) for clip_id, values in _with_values(clips[why == reason], read)}
        packed = set(clips["id"][why == CHOSEN])
        for clip_id, source in _ids_and_sources(batch.listed):
            if clip_id in packed or removed.covers(clip_id, source):
                continue
            reason, values = found.get(clip_id) or (NOT_EXTRACTED, _outcome(batch.outcomes.get(clip_id)))
            yield LeftOutClip(clip_id, source, reason, values)


def _near_duplicates(plan: PackPlan) -> dict[str, str]:
    """Return the values of near-duplicates, by id."""
    found = plan.duplicates
    if found is None:
        return {}
    ids = plan.tasks.columns.ids
    kept = ids.take(pa.array(found.kept)).to_pylist()
    sounds = [None] * len(found) if found.sound is None else found.sound.tolist()
    values = zip(kept, found.picture.tolist(), sounds, strict=True)
    told = [
        _json({"kept": clip, "picture_cosine": round(picture, 6), "sound_cosine": sound and round(sound, 6)})
        for clip, picture, sound in values
    ]
    return dict(zip(ids.take(pa.array(found.clips)).to_pylist(), told, strict=True))


def _ids_and_sources(table: pa.Table) -> Iterator[tuple[str, str]]:
    return zip(table["id"].to_pylist(), table["source"].to_pylist(), strict=True)


def _with_values(clips: pd.DataFrame, columns: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield the id of every clip, and a JSON object of its values in some columns."""
    types = selectable_types()
    values = [pa.array(clips[name], types[name], from_pandas=True).to_pylist() for name in columns]
    for clip_id, *row in zip(clips["id"], *values, strict=True):
        yield clip_id, _json(dict(zip(columns, row, strict=True)))


def _outcome(outcome: tuple[str, str | None] | None) -> str:
    return _json({} if outcome is None else dict(zip(("state", "reason"), outcome, strict=True)))


def _json(values: dict[str, Any]) -> str:
    # JSON has no infinities.
    odd = {k: str(v) for k, v in values.items() if isinstance(v, float) and not math.isfinite(v)}
    return json.dumps(values | odd, sort_keys=True, ensure_ascii=False)


def write_left_out(corpus: Corpus, plan: PackPlan) -> None:
    """Write or replace the file of a pack."""
    with corpus.store.workspace() as scratch:
        path = scratch / LEFT_OUT_FILE
        _write(path, left_out_clips(corpus, plan), plan.plan_hash)
        corpus.store.put(f"{plan.folder}/{LEFT_OUT_FILE}", path)


def _write(path: Path, rows: Iterable[LeftOutClip], plan_hash: str) -> None:
    described = json.dumps({"plan_hash": plan_hash}).encode()
    schema = SCHEMA.with_metadata({b"vidaudio": described, SEAL_KEY: OPEN_SEAL})
    left = iter(rows)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        while group := list(itertools.islice(left, ROWS_A_GROUP)):
            columns = [pa.array(column, pa.string()) for column in zip(*group, strict=True)]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema), row_group_size=ROWS_A_GROUP)
    write_checksum(path)


class LeftOutFile:
    """The file of a pack, on local disk; see `open_left_out`.

    Attributes:
        plan_hash: Hash of the plan that it belongs to.
    """

    def __init__(self, path: Path) -> None:
        if not file_checksum_ok(path):
            # Do not parse a damaged file: the parser's behaviour is undefined.
            raise ValueError("its bytes do not give the hash it carries")
        self._path = path
        self._file = pq.ParquetFile(path)
        if self._file.schema_arrow.remove_metadata() != SCHEMA:
            raise ValueError("it has other columns than id, source, reason and values")
        self.plan_hash = str(json.loads(self._file.schema_arrow.metadata[b"vidaudio"])["plan_hash"])

    def rows(self) -> Iterator[LeftOutClip]:
        """Yield the rows.

        Raises:
            One of `TABLE_DAMAGE`: When they cannot be read.
        """
        for number in range(self._file.num_row_groups):
            table = read_within(self._file, lambda: self._path, [number])
            if any(column.null_count for column in table.columns):
                raise ValueError("it lacks values")
            columns = [column.to_pylist() for column in table.columns]
            yield from itertools.starmap(LeftOutClip, zip(*columns, strict=True))


@contextlib.contextmanager
def open_left_out(store: Store, folder: str) -> Iterator[LeftOutFile]:
    """Open the file of a pack, checked against its checksum.

    Raises:
        FileNotFoundError: When it does not exist.
        One of `TABLE_DAMAGE`: When it was changed, or is not such a file.
    """
    name = f"{folder}/{LEFT_OUT_FILE}"
    path = store.local_path(name)
    if path is not None:
        yield LeftOutFile(path)
        return
    with store.workspace() as scratch:
        store.download(name, scratch / LEFT_OUT_FILE)
        yield LeftOutFile(scratch / LEFT_OUT_FILE)


def rows_digest(rows: Iterable[LeftOutClip]) -> bytes:
    """Return the SHA-256 of rows, in order, without those of clips that have no usable media.

    The latter are not part of the plan: the corpus may have tried such clips again since.
    """
    digest = hashlib.sha256()
    for row in rows:
        if row.reason != NOT_EXTRACTED:
            digest.update(json.dumps(row).encode())
    return digest.digest()


def names_removed(row: LeftOutClip, removed: Tombstones) -> bool:
    """Return whether a row is of a removed clip, or names one as the clip that was kept."""
    return removed.covers(row.id, row.source) or _kept(row) in removed.ids


def _kept(row: LeftOutClip) -> str | None:
    return json.loads(row.values)["kept"] if row.reason == NEAR_DUPLICATE else None


def _without_removed(rows: Iterable[LeftOutClip], removed: Tombstones) -> Iterator[LeftOutClip]:
    for row in rows:
        if removed.covers(row.id, row.source):
            continue
        if _kept(row) in removed.ids:
            values = _json(json.loads(row.values) | {"kept": None})
            row = LeftOutClip(row.id, row.source, row.reason, values)
        yield row


def purge_left_out(store: Store, folder: str, removed: Tombstones) -> None:
    """Delete what the file says of removed clips, if anything; a pack without the file stays without it.

    Raises:
        CorruptFileError: When the file is damaged.
    """
    name = f"{folder}/{LEFT_OUT_FILE}"
    try:
        with open_left_out(store, folder) as file, store.workspace() as scratch:
            if not any(names_removed(row, removed) for row in file.rows()):
                return
            _write(scratch / LEFT_OUT_FILE, _without_removed(file.rows(), removed), file.plan_hash)
            store.put(name, scratch / LEFT_OUT_FILE)
    except FileNotFoundError:
        return
    except TABLE_DAMAGE as error:
        raise CorruptFileError(name, f"{store.url}/{name} is damaged ({first_line(error)})") from error
