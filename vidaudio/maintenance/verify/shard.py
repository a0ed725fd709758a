"""Checks of one shard through all its columns: manifest rows, raw media, pictures and sound, vectors."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from vidaudio.corpus.columns import AV_SCHEMA, CLIPS_SCHEMA, completed, embedding_schema
from vidaudio.corpus.corpus import Corpus
from vidaudio.corpus.media_retention import fetch_again, release_name
from vidaudio.corpus.tombstones import Tombstones
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
from vidaudio.maintenance.verify.model_columns import check_model_table
from vidaudio.maintenance.verify.vector_digests import ShardVectors, shard_vectors
from vidaudio.shards.commit import CommitRecord, table_name
from vidaudio.shards.tar import sha256_of
from vidaudio.stream.vector_columns import VectorInput
from vidaudio.text import shown_name

DONE, REMOVED = "done", "removed"
REMOVE_AGAIN = "run `vidaudio remove` with it again, or the next build: it is swept"
TOMBSTONES = "take the corpus's removed-*.parquet back from a copy, or remove the clip again"
FETCH_AGAIN = "put the file back, or take the clip out of the list and begin another corpus"


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
    result = ShardResult()
    listed = corpus.table(shard)
    ids, sources = (listed[name].to_pylist() for name in ("id", "source"))
    result.findings.counts["clips"] += len(ids)
    pairs = zip(ids, sources, strict=True) if removed else ()
    gone = frozenset(clip for clip, source in pairs if removed.covers(clip, source))
    clips = _Column(corpus, shard, "clips", "download", CLIPS_SCHEMA, listings, result, gone)
    av = _Column(corpus, shard, "av", "extract", AV_SCHEMA, listings, result, gone)
    fetched = _check_clips(clips, ids, share) if clips.rows is not None else None
    done = _check_av(av, clips, fetched, share) if av.rows is not None else None
    for encoder, described in encoders.items():
        schema = embedding_schema(described.input, described.dimensions)
        column = _Column(corpus, shard, f"embeddings/{encoder}", "embed", schema, listings, result, gone)
        if column.table is None:
            continue
        vectors = _check_vectors(column, av, done, described.input)
        if encoder in digested:
            result.vectors[encoder] = shard_vectors(ids, column.table["id"].to_pylist(), vectors)
    for folder in listings:
        # Vectors were checked above if their encoder is known.
        checked = folder in ("clips", "av") or folder.startswith("embeddings/")
        if not checked and f"{shard:06d}.parquet" in listings[folder]:
            check_model_table(corpus, shard, folder, ids, gone, result.findings)
    result.media_kept = not _media_not_kept(clips, shard)
    if not result.media_kept:
        _say_fetch_again(result.findings, shard)
    return result


def _media_not_kept(clips: _Column, shard: int) -> bool:
    """Return whether the shard's media were deleted on purpose or never stored in the corpus."""
    if release_name(shard).partition("/")[2] in clips.sizes:
        return True
    if clips.record is None or clips.rows is None or clips.record.tar is not None:
        return False
    return any(row["state"] == DONE and row["path"] is None for row in clips.rows)


def _say_fetch_again(findings: Findings, shard: int) -> None:
    """Replace the remedy of av problems: without media, a rebuild alone does not restore these files."""
    findings.problems[:] = [
        replace(problem, remedy=fetch_again(shard))
        if problem.file.startswith("av/") and problem.remedy in (BUILD_AGAIN, BUILD_BOTH_AGAIN)
        else problem
        for problem in findings.problems
    ]


class _Column:
    """One stage's table of a shard, as far as it exists and can be read."""

    def __init__(
        self,
        corpus: Corpus,
        shard: int,
        folder: str,
        stage: str,
        schema: pa.Schema,
        listings: Mapping[str, Mapping[str, int]],
        result: ShardResult,
        removed: frozenset[str],
    ) -> None:
        self.store, self.folder, self.removed = corpus.store, folder, removed
        self.findings = result.findings
        self.name = table_name(folder, shard)
        self.sizes = listings[folder]
        self.stands = self.name.rsplit("/", 1)[1] in self.sizes
        self.table: pa.Table | None = None
        self.record: CommitRecord | None = None
        self.rows: list[dict[str, Any]] | None = None
        if not self.stands:
            return
        read = checked_table(corpus.store, self.name, self.findings)
        if read is None:
            result.unread.add(folder)
            return
        table, self.record = read
        if self.record.tar is not None:
            result.tars[folder] = self.record.tar
        self._check_record(stage, shard, corpus.plan_hash, table)
        # Columns that later versions added may be missing, but only all of them together.
        known = completed(table) if stage == "extract" and "time_jumps" not in table.column_names else table
        if known.schema.remove_metadata() != schema:
            self.add_problem("has other columns than this version writes")
            return
        self.table = table
        if stage != "embed":
            self.rows = table.to_pylist()
        self._check_removed(table)

    def add_problem(self, what: str) -> None:
        """Add a problem of this table, to be fixed by building it again."""
        self.findings.add_problem(self.name, what, BUILD_AGAIN)

    def _check_removed(self, table: pa.Table) -> None:
        """Check that removed clips, and only these, are marked as removed."""
        ids = table["id"].to_pylist()
        states = table["state"].to_pylist() if "state" in table.column_names else [None] * len(ids)
        late = sorted({i for i, state in zip(ids, states, strict=True) if i in self.removed and state != REMOVED})
        if late:
            self.findings.add_problem(self.name, f"holds {named(late)}, which was removed", REMOVE_AGAIN)
        untold = [i for i, state in zip(ids, states, strict=True) if state == REMOVED and i not in self.removed]
        if untold:
            self.findings.add_problem(
                self.name, f"says that {named(untold)} was removed, and no tombstone does", TOMBSTONES
            )

    def _check_record(self, stage: str, shard: int, plan_hash: str, table: pa.Table) -> None:
        record = self.record
        if (record.stage, record.shard, record.rows) != (stage, shard, table.num_rows):
            self.add_problem(f"is the table of shard {record.shard} of {record.stage}, {record.rows:,} rows")
        if record.plan_hash != plan_hash:
            self.add_problem("was made under another plan: other settings or another list")
        # A download table has no tar either if the media were not kept.
        if (record.tar is not None and stage == "embed") or (record.tar is None and stage == "extract"):
            self.add_problem("names a tar where there should be none, or none where there should be one")
        elif record.tar is not None and record.tar != f"{shard:06d}.{record.tar_sha256[:8]}.tar":
            self.add_problem(f"names the tar {record.tar}, which does not carry its number and hash")


def _check_clips(column: _Column, ids: Sequence[str], share: Sampler) -> list[str]:
    """Compare the raw media with the manifest; return the ids that were fetched."""
    rows = column.rows
    if [row["id"] for row in rows] != list(ids):
        column.add_problem("does not hold exactly the clips that the list gives this shard")
    expected: dict[str, tuple[int, int] | None] = {}
    for row in rows:
        nowhere = row["member"] is None and row["path"] is None and column.record.tar is None
        if row["state"] == DONE and (row["member"] is None) == (row["path"] is None) and not nowhere:
            column.add_problem(f"says neither or twice where the media of {row['id']} is")
        if row["member"] is not None:
            expected[row["member"]] = (row["offset"], row["length"])
            expected[f"{row['id']}.json"] = None
    mark = f"{column.name.rsplit('/', 1)[1].removesuffix('.parquet')}.released"
    if mark not in column.sizes:
        _with_tar(column, expected, share)
    elif column.record.tar in column.sizes:
        what = "was to be deleted once it was extracted, and a run was interrupted before that"
        column.findings.add_problem(f"{column.folder}/{column.record.tar}", what, "the next build deletes it")
    _check_local_files(column, share)
    return [row["id"] for row in rows if row["state"] == DONE]


def _check_local_files(column: _Column, share: Sampler) -> None:
    """Check that local files exist with the recorded size and, for those in the share, contents."""
    known = {row["path"]: row for row in column.rows if row["path"] is not None}
    for path, row in known.items():
        column.findings.counts["local_files"] += 1
        shown = shown_name(path)
        if row["size_bytes"] is None:
            column.add_problem(f"refers to {shown}, and does not say how many bytes it had when the corpus was begun")
        # `Path.is_file` would raise an error for a name that is too long.
        elif not os.path.isfile(path):
            column.findings.add_problem(shown, f"is gone, and {column.name} refers to it", FETCH_AGAIN)
        elif (size := os.path.getsize(path)) != row["size_bytes"]:
            what = f"has {size:,} bytes, and had {row['size_bytes']:,} when the corpus was begun"
            column.findings.add_problem(shown, what, FETCH_AGAIN)
        elif share.selects(path):
            column.findings.counts["local_files_hashed"] += 1
            column.findings.counts["bytes_hashed"] += row["size_bytes"]
            if row["sha256"] is not None and sha256_of(Path(path)) != row["sha256"]:
                column.findings.add_problem(shown, "has other contents than when the corpus was begun", FETCH_AGAIN)


def _check_av(
    column: _Column, clips: _Column, fetched: Sequence[str] | None, share: Sampler
) -> tuple[list[str], list[float]]:
    """Compare pictures and sound with the raw media; return id and time of every picture, in order."""
    rows = column.rows
    if not clips.stands:
        column.add_problem(f"stands without {clips.name}, which it was made from")
    elif fetched is not None and [row["id"] for row in rows if row["state"] != REMOVED] != list(fetched):
        column.add_problem(f"does not hold exactly the clips that {clips.name} has fetched")
    expected: dict[str, tuple[int, int] | None] = {}
    ids: list[str] = []
    seconds: list[float] = []
    for row in rows:
        if row["state"] != DONE:
            continue
        lists = [row[name] for name in ("frame_seconds", "grid_seconds", "frame_offsets", "frame_lengths")]
        if any(values is None for values in lists) or len({len(values) for values in lists}) != 1:
            column.add_problem(f"has times and places of {row['id']} that do not pair up")
            continue
        clip = row["id"]
        expected[f"{clip}.flac"] = (row["audio_offset"], row["audio_length"])
        expected[f"{clip}.json"] = None
        for number, place in enumerate(zip(row["frame_offsets"], row["frame_lengths"], strict=True)):
            expected[f"{clip}.{number:03d}.jpg"] = place
        ids += [clip] * len(row["frame_seconds"])
        seconds += row["frame_seconds"]
    _with_tar(column, expected, share)
    return ids, seconds


def _check_vectors(
    column: _Column, av: _Column, done: tuple[list[str], list[float]] | None, kind: VectorInput
) -> np.ndarray:
    """Compare vectors with the clips that they are of; return the vectors, float16 `[vectors, dimensions]`."""
    table = column.table
    ids = table["id"].to_pylist()
    if not av.stands:
        column.add_problem(f"stands without {av.name}, which it was made from")
    elif done is not None and kind == "frames" and (ids, table["frame_seconds"].to_pylist()) != done:
        column.add_problem(f"does not hold exactly the pictures that {av.name} has")
    elif done is not None and (strange := sorted(set(ids) - set(done[0]))):
        column.add_problem(f"holds vectors of {named(strange)}, which {av.name} does not have")
    flat = table["embedding"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    if not np.isfinite(flat).all():
        column.add_problem("holds values that are no numbers")
    return flat.reshape(len(ids), -1) if ids else flat.reshape(0, 1)


def _with_tar(column: _Column, expected: Mapping[str, tuple[int, int] | None], share: Sampler) -> None:
    if column.record.tar is None:
        return
    with open_tar(column.store, column.folder, column.record, column.sizes, share, column.findings) as tar:
        if tar is not None:
            compare_members(tar, expected, f"{column.folder}/{column.record.tar}", column.findings)
