"""Rows of the clips that came through extraction, joined over the tables of all stages, one shard at a time.

Stages that a shard does not have leave their fields empty, so that a corpus that is not finished can be reported.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vidaudio.corpus.columns import DOWNLOAD, EMBED, EXTRACT, FACTS, SCORE, Column
from vidaudio.corpus.corpus import Corpus
from vidaudio.corpus.listing import Listings
from vidaudio.corpus.superseded import Superseded, superseded
from vidaudio.errors import ScorerError
from vidaudio.media.outcomes import State
from vidaudio.packs.preview import fullest_models
from vidaudio.packs.selection import joined, joined_fields, rows_by_shard
from vidaudio.shards.commit import (
    TABLE_DAMAGE,
    CommitRecord,
    committed_shards_in,
    damaged_table,
    decode_table,
    table_name,
)
from vidaudio.shards.parallel_read import in_parallel

LISTED = ("id", "source", "dataset", "split", "labels", "captions", "start_seconds", "shard")
_OF_EXTRACT = (
    *("id", "state", "seconds", "samples", "rms_dbfs", "motion", "frame_seconds", "audio_offset", "audio_length"),
    *("frame_offsets", "frame_lengths"),
)
_OF_DOWNLOAD = ("id", "info")
_WANTED = {*FACTS.selectable, *SCORE.selectable}


@dataclass(frozen=True)
class Parts:
    """What a corpus has.

    Attributes:
        folders: Folder of each stage that any shard has a table of, by stage.
        shards: Shards with a table, by stage.
        models: Name of the encoder and of the scorer, by stage, where there is one.
    """

    folders: dict[str, str]
    shards: dict[str, set[int]]
    models: dict[str, str]

    def has(self, stage: str) -> bool:
        """Return whether any shard has a table of this stage."""
        return stage in self.folders

    def name_of(self, column: Column, shard: int) -> str | None:
        """Return the name of a shard's table; None if the shard has none."""
        if shard not in self.shards.get(column.stage, ()):
            return None
        return table_name(self.folders[column.stage], shard)


def find_parts(corpus: Corpus, listings: Listings, scorer: str | None) -> Parts:
    """Return what a corpus has.

    Args:
        corpus: Opened corpus.
        listings: Listing of its folders.
        scorer: Name of the scorer whose scores are read; None for the only one.

    Raises:
        ScorerError: When the corpus has no scores by this scorer, or scores by several and none is named.
    """
    models = {stage: name for stage, name in fullest_models(corpus, listings).items() if stage != SCORE.stage}
    if (chosen := _chosen_scorer(corpus, listings, scorer)) is not None:
        models[SCORE.stage] = chosen
    folders, shards = {}, {}
    for column in (DOWNLOAD, EXTRACT, FACTS, EMBED, SCORE):
        if column.per_model and column.stage not in models:
            continue
        folder = column.folder_for(models)
        if committed := committed_shards_in(listings.get(folder, ())):
            folders[column.stage], shards[column.stage] = folder, committed
    return Parts(folders, shards, models)


def _chosen_scorer(corpus: Corpus, listings: Listings, scorer: str | None) -> str | None:
    names = sorted(
        folder.partition("/")[2] for folder in listings if SCORE.owns(folder) and committed_shards_in(listings[folder])
    )
    if scorer is not None and scorer not in names:
        known = f"it has some by {', '.join(names)}" if names else "it has none"
        raise ScorerError(f"{corpus.url} has no scores by {scorer}; {known}. Make them: vidaudio score {corpus.url}")
    if scorer is None and len(names) > 1:
        raise ScorerError(f"{corpus.url} has scores by {', '.join(names)}; name one with --scorer")
    return scorer or next(iter(names), None)


@dataclass(frozen=True)
class ShardRows:
    """Clips of a shard that are extracted and current, one row each.

    Attributes:
        shard: Its number.
        clips: Fields of the list, of the extraction, of facts and scores, and `info`, the page's statements as JSON.
        tar: Name of the tar with their media; None without any.
    """

    shard: int
    clips: pa.Table
    tar: str | None


def read_shards(corpus: Corpus, parts: Parts) -> Iterator[ShardRows]:
    """Yield the clips of every extracted shard, in order."""
    older = superseded(corpus)

    def read(shard: int) -> tuple[pa.Table, str | None] | None:
        return _read(corpus, parts, shard)

    tables = in_parallel(corpus.store, read, range(corpus.shards))
    for (shard, listed), found in zip(rows_by_shard(corpus, list(LISTED)), tables, strict=True):
        if found is not None:
            yield _rows(shard, listed, *found, older)


def read_shard(corpus: Corpus, parts: Parts, shard: int, older: Superseded) -> ShardRows:
    """Return the clips of one shard that is extracted.

    Args:
        corpus: Opened corpus.
        parts: What it has.
        shard: Number of the shard.
        older: Superseded rows of the corpus.
    """
    found = _read(corpus, parts, shard)
    assert found is not None, f"shard {shard} is not extracted"
    return _rows(shard, corpus.table(shard).select(list(LISTED)), *found, older)


def _rows(shard: int, listed: pa.Table, clips: pa.Table, tar: str | None, older: Superseded) -> ShardRows:
    clips = clips.filter(pa.array(older.is_current(shard, clips["id"].to_pylist()), pa.bool_()))
    places = pc.index_in(clips["id"], listed["id"].combine_chunks())
    for name in LISTED[1:-1]:
        clips = clips.append_column(name, listed[name].take(places))
    return ShardRows(shard, clips, tar)


def _read(corpus: Corpus, parts: Parts, shard: int) -> tuple[pa.Table, str | None] | None:
    """Return the extracted clips of a shard with their facts, scores and page, and the tar; None if not extracted."""
    found = _table(corpus, parts, EXTRACT, shard, _OF_EXTRACT)
    if found is None:
        return None
    table, record = found
    clips = table.filter(pc.equal(table["state"], State.DONE.value)).drop_columns(["state"])
    for column in (FACTS, SCORE):
        beside = _table(corpus, parts, column, shard, joined_fields(column, _WANTED))
        empty = column.declared_schema.empty_table()
        clips = joined(clips, column, empty if beside is None else beside[0], _WANTED)
    pages = _table(corpus, parts, DOWNLOAD, shard, _OF_DOWNLOAD)
    if pages is None or "info" not in pages[0].column_names:
        info = pa.nulls(clips.num_rows, pa.string())
    else:
        info = pages[0]["info"].take(pc.index_in(clips["id"], pages[0]["id"].combine_chunks()))
    clips = clips.append_column("info", info)
    return clips, None if record.tar is None else f"{EXTRACT.folder}/{record.tar}"


def _table(
    corpus: Corpus, parts: Parts, column: Column, shard: int, fields: tuple[str, ...] | list[str]
) -> tuple[pa.Table, CommitRecord] | None:
    name = parts.name_of(column, shard)
    if name is None:
        return None
    data = corpus.store.read(name)
    try:
        return decode_table(data, fields)
    except TABLE_DAMAGE as error:
        raise damaged_table(corpus.store, name, error) from error


def as_floats(column: pa.ChunkedArray) -> np.ndarray:
    """Return numbers as float64, null values as NaN."""
    return column.cast(pa.float64()).to_numpy(zero_copy_only=False)
