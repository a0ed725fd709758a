"""Checks of one shard through all its columns, each against its declaration and the columns that it was made from."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from vidaudio.corpus.columns import DOWNLOAD, EMBED, EXTRACT, Column, columns_in_order, embedding_schema
from vidaudio.corpus.corpus import Corpus
from vidaudio.corpus.media_retention import fetch_again, release_name
from vidaudio.corpus.tombstones import Tombstones
from vidaudio.hashing import sha256_of
from vidaudio.maintenance.verify.encoders import StoredEncoder
from vidaudio.maintenance.verify.files import (
    BUILD_AGAIN,
    BUILD_BOTH_AGAIN,
    checked_table,
    compare_members,
    named,
    open_tar,
)
from vidaudio.maintenance.verify.findings import Findings, Sampler
from vidaudio.maintenance.verify.vector_digests import ShardVectors, shard_vectors
from vidaudio.shards.commit import CommitRecord, table_name
from vidaudio.text import shown_name

DONE, REMOVED = "done", "removed"
REMOVE_AGAIN = "run `vidaudio remove` with it again, or the next build: it is swept"
TOMBSTONES = "take the corpus's removed-*.parquet back from a copy, or remove the clip again"
FETCH_AGAIN = "put the file back, or take the clip out of the list and begin another corpus"
WRITE_AGAIN = "delete it and run the command that wrote it again"


@dataclass(slots=True)
class ShardResult:
    """Result of the check of one shard.

    Attributes:
        findings: Findings of all columns.
        tars: Names of the shard's tars, by folder, as its tables record them.
        unread: Folders whose table could not be read.
        vectors: By encoder, digests of the clips' vectors, if requested.
        media_kept: False if the shard's media were deleted on purpose or never stored in the corpus.
    """

    findings: Findings = field(default_factory=Findings)
    tars: dict[str, str] = field(default_factory=dict)
    unread: set[str] = field(default_factory=set)
    vectors: dict[str, ShardVectors] = field(default_factory=dict)
    media_kept: bool = True


def check_shard(
    corpus: Corpus,
    shard: int,
    listings: Mapping[str, Mapping[str, int]],
    encoders: Mapping[str, StoredEncoder],
    digested: Collection[str],
    share: Sampler,
    removed: Tombstones,
) -> ShardResult:
    """Check everything that exists of a shard.

    Args:
        corpus: Corpus to check.
        shard: Shard number.
        listings: Files and sizes, by stage folder.
        encoders: What is known of each encoder, by its name.
        digested: Encoders whose vector digests are requested.
        share: Share of the files to hash.
        removed: Clips and sources that must not occur anywhere.
    """
    listed = corpus.table(shard)
    ids, sources = (listed[name].to_pylist() for name in ("id", "source"))
    pairs = zip(ids, sources, strict=True) if removed else ()
    gone = frozenset(clip for clip, source in pairs if removed.covers(clip, source))
    view = _Shard(corpus, shard, ids, gone, listings, encoders, digested, share)
    view.result.findings.counts["clips"] += len(ids)
    view.result.media_kept = not view.has(release_name(shard))
    for column in columns_in_order():
        for folder in filter(column.owns, listings):
            schema = column.schema
            if column.stage == EMBED.stage:
                encoder = encoders.get(folder.partition("/")[2])
                if encoder is None:
                    continue  # nothing is known of this encoder, which is reported elsewhere
                schema = embedding_schema(encoder.input, encoder.dimensions)
            table = _ShardTable(view, column, folder, schema)
            if table.is_usable:
                _CHECKS.get(column.stage, _check_rows)(table, view)
    if not view.result.media_kept:
        _say_fetch_again(view.result.findings, shard)
    return view.result


@dataclass
class _Shard:
    """What the checks of a shard's columns share.

    Attributes:
        corpus, shard: The corpus and the number of the shard.
        ids: Ids of the shard's clips, in the manifest's order.
        removed: Those of them that must not occur anywhere.
        listings, encoders, digested, share: See `check_shard`.
        fetched: Ids of the clips that the download table has as fetched; None if unknown.
        pictures: Id and time of every extracted picture, in order; None if unknown.
    """

    corpus: Corpus
    shard: int
    ids: list[str]
    removed: frozenset[str]
    listings: Mapping[str, Mapping[str, int]]
    encoders: Mapping[str, StoredEncoder]
    digested: Collection[str]
    share: Sampler
    result: ShardResult = field(default_factory=ShardResult)
    fetched: list[str] | None = None
    pictures: tuple[list[str], list[float]] | None = None

    def missing_needs(self, column: Column) -> list[str]:
        """Return the tables that do not exist although those of `column` are made from them."""
        missing = []
        for need in (other for other in columns_in_order() if other.stage in column.needs):
            names = [table_name(folder, self.shard) for folder in filter(need.owns, self.listings)]
            if not any(self.has(name) for name in names):
                missing.append(names[0] if names else f"{need.folder}/")
        return missing

    def has(self, name: str) -> bool:
        """Return whether a file of a column's folder exists."""
        folder, _, file = name.rpartition("/")
        return file in self.listings[folder]


def _say_fetch_again(findings: Findings, shard: int) -> None:
    """Replace the remedy of av problems: without media, a rebuild alone does not restore these files."""
    findings.problems[:] = [
        replace(problem, remedy=fetch_again(shard))
        if problem.file.startswith(f"{EXTRACT.folder}/") and problem.remedy in (BUILD_AGAIN, BUILD_BOTH_AGAIN)
        else problem
        for problem in findings.problems
    ]


class _ShardTable:
    """A column's table of a shard, as far as it exists and can be read.

    Attributes:
        is_usable: Whether the table exists, can be read, and has the columns of its stage.
        table: The table, if it is usable.
        record: Record of the table, if the table can be read.
    """

    table: pa.Table
    record: CommitRecord

    def __init__(self, view: _Shard, column: Column, folder: str, schema: pa.Schema | None) -> None:
        self.store, self.column, self.folder = view.corpus.store, column, folder
        self.findings, self.sizes = view.result.findings, view.listings[folder]
        self.name = table_name(folder, view.shard)
        self._special = column.stage in _CHECKS
        self._remedy = BUILD_AGAIN if self._special else WRITE_AGAIN
        self.is_usable = False
        if not view.has(self.name):
            return
        read = checked_table(self.store, self.name, self.findings, self._remedy)
        if read is None:
            view.result.unread.add(folder)
            return
        table, self.record = read
        if self.record.tar is not None:
            view.result.tars[folder] = self.record.tar
        if not self._check_record(view, table) and not self._special:
            return  # of another shard or stage, as the problem says
        if not self._fits(table, schema):
            self.add_problem("has other columns than this version writes")
            return
        self.table, self.is_usable = table, True
        self._check_removed(table, view.removed)
        for missing in view.missing_needs(column):
            self.add_problem(f"stands without {missing}, which it was made from")

    @functools.cached_property
    def rows(self) -> list[dict[str, Any]]:
        """Rows of the table."""
        return self.table.to_pylist()

    def add_problem(self, what: str) -> None:
        """Add a problem of this table, to be fixed by writing it again."""
        self.findings.add_problem(self.name, what, self._remedy)

    def _fits(self, table: pa.Table, schema: pa.Schema | None) -> bool:
        """Return whether a table has the schema of its column; the fields added later may be missing together."""
        if schema is None:
            return "id" in table.column_names
        if set(self.column.added_later).isdisjoint(table.column_names):
            table = self.column.completed(table, self.column.added_later)
        return table.schema.remove_metadata() == schema

    def _check_removed(self, table: pa.Table, removed: Collection[str]) -> None:
        """Check that removed clips, and only these, are marked as removed."""
        ids = table["id"].to_pylist()
        states = table["state"].to_pylist() if "state" in table.column_names else [None] * len(ids)
        late = sorted({i for i, state in zip(ids, states, strict=True) if i in removed and state != REMOVED})
        if late:
            held = f"holds {named(late)}, which was removed"
            what = held if self._special else f"has rows of clips that were removed: {named(late)}"
            self.findings.add_problem(self.name, what, REMOVE_AGAIN)
        untold = [i for i, state in zip(ids, states, strict=True) if state == REMOVED and i not in removed]
        if untold:
            self.findings.add_problem(
                self.name, f"says that {named(untold)} was removed, and no tombstone does", TOMBSTONES
            )

    def _check_record(self, view: _Shard, table: pa.Table) -> bool:
        """Check the table's record; return whether the table is the one of this shard and stage."""
        record, stage = self.record, self.column.stage
        is_own = (record.stage, record.shard, record.rows) == (stage, view.shard, table.num_rows)
        if not is_own:
            self.add_problem(f"is the table of shard {record.shard} of {record.stage}, {record.rows:,} rows")
        if record.plan_hash != view.corpus.plan_hash:
            self.add_problem("was made under another plan: other settings or another list")
        # A download table has no tar either if the media were not kept.
        lacks_tar = record.tar is None and self.column.has_tars and stage != DOWNLOAD.stage
        if lacks_tar or (record.tar is not None and not self.column.has_tars):
            self.add_problem("names a tar where there should be none, or none where there should be one")
        elif record.tar is not None and record.tar != f"{view.shard:06d}.{(record.tar_sha256 or '')[:8]}.tar":
            self.add_problem(f"names the tar {record.tar}, which does not carry its number and hash")
        return is_own

    def check_tar(self, rows: Collection[Mapping[str, Any]], share: Sampler) -> None:
        """Check the tar, if the table has one: it must contain exactly the members of these rows."""
        if self.record.tar is None:
            return
        expected = {name: place for row in rows for name, place in self.column.members(row).items()}
        with open_tar(self.store, self.folder, self.record, self.sizes, share, self.findings) as tar:
            if tar is not None:
                compare_members(tar, expected, f"{self.folder}/{self.record.tar}", self.findings)


def _check_rows(table: _ShardTable, view: _Shard) -> None:
    """Check a table of which only the declaration is known: its clips are those of the shard, its tar is its own."""
    if strange := sorted(set(table.table["id"].to_pylist()).difference(view.ids)):
        table.add_problem(f"has rows of clips that the shard does not have: {named(strange)}")
    if table.column.has_tars:
        table.check_tar(table.rows, view.share)


def _check_clips(table: _ShardTable, view: _Shard) -> None:
    """Compare the raw media with the manifest; note which clips were fetched, and whether media were kept."""
    rows, record = table.rows, table.record
    if [row["id"] for row in rows] != view.ids:
        table.add_problem("does not hold exactly the clips that the list gives this shard")
    for row in rows:
        nowhere = row["member"] is None and row["path"] is None and record.tar is None
        if row["state"] == DONE and (row["member"] is None) == (row["path"] is None) and not nowhere:
            table.add_problem(f"says neither or twice where the media of {row['id']} is")
    if not view.has(release_name(view.shard)):
        table.check_tar(rows, view.share)
        if record.tar is None and any(row["state"] == DONE and row["path"] is None for row in rows):
            view.result.media_kept = False
    elif record.tar is not None and record.tar in table.sizes:
        what = "was to be deleted once it was extracted, and a run was interrupted before that"
        table.findings.add_problem(f"{table.folder}/{record.tar}", what, "the next build deletes it")
    _check_local_files(table, view.share)
    view.fetched = [row["id"] for row in rows if row["state"] == DONE]


def _check_local_files(table: _ShardTable, share: Sampler) -> None:
    """Check that local files exist with the recorded size and, for those in the share, contents."""
    known = {row["path"]: row for row in table.rows if row["path"] is not None}
    for path, row in known.items():
        table.findings.counts["local_files"] += 1
        shown = shown_name(path)
        if row["size_bytes"] is None:
            table.add_problem(f"refers to {shown}, and does not say how many bytes it had when the corpus was begun")
        # `Path.is_file` would raise an error for a name that is too long.
        elif not os.path.isfile(path):
            table.findings.add_problem(shown, f"is gone, and {table.name} refers to it", FETCH_AGAIN)
        elif (size := os.path.getsize(path)) != row["size_bytes"]:
            what = f"has {size:,} bytes, and had {row['size_bytes']:,} when the corpus was begun"
            table.findings.add_problem(shown, what, FETCH_AGAIN)
        elif share.selects(path):
            table.findings.counts["local_files_hashed"] += 1
            table.findings.counts["bytes_hashed"] += row["size_bytes"]
            if row["sha256"] is not None and sha256_of(Path(path)) != row["sha256"]:
                table.findings.add_problem(shown, "has other contents than when the corpus was begun", FETCH_AGAIN)


def _check_av(table: _ShardTable, view: _Shard) -> None:
    """Compare pictures and sound with the raw media; note id and time of every picture, in order."""
    rows = table.rows
    clips_at = table_name(DOWNLOAD.folder, view.shard)
    if view.fetched is not None and [row["id"] for row in rows if row["state"] != REMOVED] != view.fetched:
        table.add_problem(f"does not hold exactly the clips that {clips_at} has fetched")
    paired = []
    for row in (row for row in rows if row["state"] == DONE):
        lists = [row[name] for name in ("frame_seconds", "grid_seconds", "frame_offsets", "frame_lengths")]
        if any(values is None for values in lists) or len({len(values) for values in lists}) != 1:
            table.add_problem(f"has times and places of {row['id']} that do not pair up")
        else:
            paired.append(row)
    table.check_tar(paired, view.share)
    ids = [row["id"] for row in paired for _ in row["frame_seconds"]]
    view.pictures = ids, [seconds for row in paired for seconds in row["frame_seconds"]]


def _check_vectors(table: _ShardTable, view: _Shard) -> None:
    """Compare vectors with the clips that they are of; note digests of the vectors if they are requested."""
    ids = table.table["id"].to_pylist()
    encoder = table.folder.partition("/")[2]
    av_at = table_name(EXTRACT.folder, view.shard)
    if view.pictures is not None and view.encoders[encoder].input == "frames":
        if (ids, table.table["frame_seconds"].to_pylist()) != view.pictures:
            table.add_problem(f"does not hold exactly the pictures that {av_at} has")
    elif view.pictures is not None and (strange := sorted(set(ids) - set(view.pictures[0]))):
        table.add_problem(f"holds vectors of {named(strange)}, which {av_at} does not have")
    flat = table.table["embedding"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    if not np.isfinite(flat).all():
        table.add_problem("holds values that are no numbers")
    if encoder in view.digested:
        vectors = flat.reshape(len(ids), -1) if ids else flat.reshape(0, 1)
        view.result.vectors[encoder] = shard_vectors(view.ids, ids, vectors)


# Checks of the columns whose contents are known, by stage.
_CHECKS: Mapping[str, Callable[[_ShardTable, _Shard], None]] = {
    DOWNLOAD.stage: _check_clips,
    EXTRACT.stage: _check_av,
    EMBED.stage: _check_vectors,
}
