"""Checks of one training shard of a pack: its table, its tar, every sample in it, and the origin of its clips."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vidaudio.corpus.columns import EMBED
from vidaudio.corpus.corpus import Corpus
from vidaudio.json_values import parse_object
from vidaudio.maintenance.verify.files import DAMAGE, OpenTar, checked_table, compare_members, named, open_tar
from vidaudio.maintenance.verify.findings import Findings, Sampler
from vidaudio.maintenance.verify.index import PackIndex
from vidaudio.maintenance.verify.manifest_lookup import origin_digest, words_digest
from vidaudio.maintenance.verify.packs import PACK_AGAIN, SHARD_AGAIN, Pack, keys_digest
from vidaudio.maintenance.verify.shard import REMOVE_AGAIN
from vidaudio.maintenance.verify.split_leaks import sources_by_side
from vidaudio.maintenance.verify.vector_digests import DIGEST_BYTES, vector_digest
from vidaudio.packs.description import PACK_FILE
from vidaudio.shards.commit import CommitRecord
from vidaudio.stream.index import WEIGHT, table_schema
from vidaudio.stream.vector_columns import VectorColumn
from vidaudio.stream.vector_files import read_vectors

# Fields of a sample's JSON member that repeat its table row.
DESCRIBED = (
    *("id", "source", "dataset", "split", "labels", "captions", "samples", "audio_start_seconds"),
    *("frame_seconds", "grid_seconds"),
)
# What vectors are of, in words.
_OF = {"frames": "pictures", "sound": "windows of time", "text": "texts"}


@dataclass(slots=True)
class TrainingShard:
    """Result of the check of one training shard.

    Attributes:
        findings: Findings of its table and tar.
        tar: Name of the tar that its table records; None if the table could not be read.
        last_shard: Last shard of the corpus that contributes a clip.
        sides: Hashes of sources, by split; see `sources_by_side`.
    """

    findings: Findings = field(default_factory=Findings)
    tar: str | None = None
    last_shard: int = 0
    sides: dict[str, np.ndarray] = field(default_factory=dict)


def check_training_shard(
    corpus: Corpus, pack: Pack, index: PackIndex | None, number: int, share: Sampler
) -> TrainingShard:
    """Check one training shard.

    Args:
        corpus: Corpus of the pack.
        pack: Pack of the training shard.
        index: The pack's index; None if it cannot be compared.
        number: Number of the training shard within the pack.
        share: Share of the files to hash.
    """
    result = TrainingShard()
    findings = result.findings
    name = pack.described.shards[number]
    table_at = f"{pack.folder}/{name}.parquet"
    if f"{name}.parquet" not in pack.sizes:
        return result
    read = checked_table(corpus.store, table_at, findings, SHARD_AGAIN)
    if read is None:
        return result
    table, record = read
    split, _, place = name.rpartition("-")
    # The second name is of a tar that was rewritten when clips were removed.
    own = record.tar in (f"{name}.tar", f"{name}.{(record.tar_sha256 or '')[:8]}.tar")
    if (record.stage, record.rows) != ("pack", table.num_rows) or not own or place != f"{record.shard:06d}":
        findings.add_problem(table_at, f"is the table of {record.tar}, {record.rows:,} rows", SHARD_AGAIN)
    if record.plan_hash != pack.described.plan_hash:
        findings.add_problem(table_at, f"was made under another plan than {PACK_FILE} names", PACK_AGAIN)
    weighted = pack.described.settings.weight is not None
    if table.schema.remove_metadata() != table_schema(pack.described.vector_columns, weighted=weighted):
        findings.add_problem(table_at, "has other columns than this version writes", SHARD_AGAIN)
        return result
    result.tar = record.tar
    if index is not None:
        index.compare(number, table.replace_schema_metadata(None))
    rows = table.to_pylist()
    late = [row["key"] for row in rows if pack.removed.covers(row["id"], row["source"])]
    if late:
        findings.add_problem(table_at, f"holds samples of clips that were removed: {named(late)}", REMOVE_AGAIN)
    findings.counts["training_samples"] += len(rows)
    keys = [row["key"] for row in rows]
    weights = table[WEIGHT].to_pylist() if weighted else None
    if pack.plan.keys is not None and keys_digest(keys, weights) != pack.plan.keys.get(name):
        findings.add_problem(table_at, "does not hold the samples that the plan gives it", SHARD_AGAIN)
    listed = pack.facts.of(row["id"] for row in rows)
    result.last_shard = max((clip["shard"] for clip in listed.values()), default=0)
    result.sides = sources_by_side(rows, listed)
    for row in rows:
        for complaint in _against_the_list(row, listed.get(row["id"]), split):
            findings.add_problem(table_at, f"sample {row['key']} {complaint}", PACK_AGAIN)
    _check_tar(corpus, pack, record, rows, share, findings)
    return result


def _against_the_list(row: Mapping[str, Any], facts: Mapping[str, Any] | None, split: str) -> list[str]:
    """Return what is wrong with a sample's row, compared with the manifest row of its clip."""
    if facts is None:
        return [f"is of the clip {row['id']}, which the list does not have"]
    complaints = []
    if not row["key"].startswith(row["id"]):
        complaints.append(f"bears another name than its clip {row['id']}")
    if origin_digest(row["source"], row["dataset"]) != facts["origin"]:
        complaints.append("has another source or dataset than the list")
    if words_digest(row["labels"], row["captions"]) != facts["words"]:
        complaints.append("has other labels or captions than the list")
    if row["split"] != split or (facts["split"] and facts["split"] != split):
        complaints.append(f"is in the split {split}, and belongs in {facts['split'] or row['split']}")
    return complaints


def _check_tar(
    corpus: Corpus, pack: Pack, record: CommitRecord, rows: list[dict[str, Any]], share: Sampler, findings: Findings
) -> None:
    with open_tar(corpus.store, pack.folder, record, pack.sizes, share, findings, SHARD_AGAIN) as tar:
        if tar is None:
            return
        name = f"{pack.folder}/{record.tar}"
        expected: dict[str, tuple[int, int] | None] = {}
        for row in rows:
            key = row["key"]
            expected[f"{key}.{pack.audio}"] = (row["audio_offset"], row["audio_length"])
            for column in pack.described.vector_columns:
                expected[f"{key}.{column.member}"] = (row[column.offset], row[column.length])
            expected[f"{key}.json"] = None
            if pack.described.settings.frames:
                expected |= {f"{key}.{number:03d}.jpg": None for number in range(len(row["frame_seconds"]))}
        before = len(findings.problems)
        compare_members(tar, expected, name, findings, SHARD_AGAIN)
        if len(findings.problems) > before or not share.selects(name):
            return
        listed = pack.facts.places(row["id"] for row in rows)
        for row in rows:
            for complaint in _sample_complaints(tar, row, pack, listed.get(row["id"], ())):
                findings.add_problem(name, f"sample {row['key']} {complaint}", PACK_AGAIN)


def _sample_complaints(tar: OpenTar, row: Mapping[str, Any], pack: Pack, listed: Sequence[int]) -> Iterator[str]:
    """Yield what is wrong with a sample; `listed` are the rows of its clip in the manifest."""
    try:
        described = parse_object(tar.read(tar.members[f"{row['key']}.json"]))
    except DAMAGE as error:
        yield f"cannot be read ({type(error).__name__})"
        return
    repeated = [*DESCRIBED, *([WEIGHT] if WEIGHT in row else [])]
    if {key: described.get(key) for key in repeated} != {key: row[key] for key in repeated}:
        yield "describes itself otherwise than its row"
    for column in pack.described.vector_columns:
        digests = pack.vectors.get(column.encoder)
        own = digests.of(row["id"], listed) if digests is not None else None
        complaint = _vectors_complaint(tar, row, described, column, own)
        if complaint is not None:
            yield complaint


def _vectors_complaint(
    tar: OpenTar, row: Mapping[str, Any], described: Mapping[str, Any], column: VectorColumn, own: bytes | None
) -> str | None:
    """Return what is wrong with a sample's vectors of one encoder; None if nothing is.

    Args:
        tar: The sample's tar.
        row: The sample's table row.
        described: Contents of the sample's JSON member.
        column: Vector column of the pack.
        own: Digests of the vectors of the sample's clip; None if unknown.
    """
    try:
        vectors = read_vectors(tar.read(tar.members[f"{row['key']}.{column.member}"]))
        told = _told_of(row, described, column)
    except DAMAGE as error:
        return f"cannot be read: its vectors of {column.encoder} ({type(error).__name__})"
    shaped = vectors.dtype == np.float16 and vectors.ndim == 2
    if not shaped or len(vectors) != told or (column.dimensions and vectors.shape[1] != column.dimensions):
        return f"has vectors of {column.encoder} {vectors.dtype} {list(vectors.shape)} for {told} {_OF[column.input]}"
    digests = b"".join(vector_digest(vector) for vector in vectors)
    whole = row["key"] == row["id"] or column.input == "text"
    if own is not None and (digests != own if whole else not _contains(own, digests)):
        return f"has other vectors than {row['id']} in {EMBED.model_folder(column.encoder)}"
    return None


def _told_of(row: Mapping[str, Any], described: Mapping[str, Any], column: VectorColumn) -> int:
    """Return how many pictures, windows of time or texts a sample says that its vectors are of.

    Raises:
        ValueError: When its row and its JSON member name different windows of time; or another of `DAMAGE`.
    """
    if column.input == "frames":
        return len(row["frame_seconds"])
    told = described["vectors_seconds" if column.input == "sound" else "vectors_texts"][column.encoder]
    if column.input == "sound" and told != row[column.seconds]:
        raise ValueError("its windows of time are others than its row's")
    return len(told)


def _contains(all_digests: bytes, some: bytes) -> bool:
    """Return whether the digests `some` occur consecutively in `all_digests`."""
    places = range(0, len(all_digests) - len(some) + 1, DIGEST_BYTES)
    return any(all_digests[place : place + len(some)] == some for place in places)
