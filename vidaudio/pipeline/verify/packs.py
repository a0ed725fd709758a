"""Training shards: one pack against its index, its tars, and the columns it was made from."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from vidaudio.errors import VidaudioError
from vidaudio.pipeline.card import CARD_FILE
from vidaudio.pipeline.corpus import Corpus
from vidaudio.pipeline.pack_plan import PACK_FILE, plan_pack
from vidaudio.pipeline.recipe import PackBlock
from vidaudio.pipeline.sample import sound_format
from vidaudio.pipeline.tombstones import Tombstones
from vidaudio.pipeline.verify.files import DAMAGE, NOT_READ, OpenTar, compare_members, named, open_tar, sealed_table
from vidaudio.pipeline.verify.listed import ListedClips
from vidaudio.pipeline.verify.report import Findings, Share
from vidaudio.pipeline.verify.shard import DIGEST_BYTES, REMOVE_AGAIN, vector_digest
from vidaudio.shards.commit import CommitRecord
from vidaudio.shards.seal import file_seal_holds, seal_holds
from vidaudio.stream.index import INDEX_FILE, SAMPLE_SCHEMA, read_index

PACK_AGAIN = "delete the pack's folder and pack again"
SHARD_AGAIN = "delete it, its table or tar, and the index, and pack again: the same bytes come back"
TABLE_SCHEMA = pa.schema([entry for entry in SAMPLE_SCHEMA if entry.name != "shard"])
# What a sample's own description repeats of its row.
DESCRIBED = ("id", "source", "dataset", "split", "labels", "captions", "samples", "audio_start_seconds")
DESCRIBED += ("frame_seconds", "grid_seconds")


@dataclass(slots=True)
class Pack:
    """A pack as its description has it, and its files.

    Attributes:
        folder: `training/NAME`.
        described: The contents of `pack.json`.
        sizes: Files and their sizes.
        encoder: What the encoder's own folder says of it.
        vectors: By clip, digests of its vectors; empty where no such column could be read.
        facts: The list's rows.
        plan: By training shard, the sample keys that the plan gives it; None where it cannot be made again.
        removed: Clips of which there must be no sample.
        tars: By training shard, the tar that its table names.
        tables: By training shard, its rows.
        last_shard: By training shard, the corpus's last shard that one of its clips is in.
    """

    folder: str
    described: dict[str, Any]
    sizes: Mapping[str, int]
    encoder: dict[str, Any] | None
    vectors: Mapping[str, bytes]
    facts: ListedClips
    plan: dict[str, list[str]] | None = None
    removed: Tombstones = field(default_factory=Tombstones)
    tars: dict[str, str] = field(default_factory=dict)
    tables: dict[str, pa.Table] = field(default_factory=dict)
    last_shard: dict[str, int] = field(default_factory=dict)

    @property
    def audio(self) -> str:
        return sound_format(self.described["settings"]["audio"])


def describe_pack(corpus: Corpus, folder: str, findings: Findings) -> dict[str, Any] | None:
    """The contents of `pack.json`; None, and a problem, where they are not those of a pack."""
    name = f"{folder}/{PACK_FILE}"
    try:
        described = json.loads(corpus.store.read(name))
        PackBlock(**described["settings"])
        complete = all(isinstance(described[key], str) for key in ("plan_hash", "encoder")) and described["shards"]
    except (*DAMAGE, UnicodeDecodeError) as error:
        findings.wrong(name, f"is no description of a pack ({type(error).__name__})", PACK_AGAIN)
        return None
    if not complete:
        findings.wrong(name, "is no description of a pack", PACK_AGAIN)
        return None
    return described


def planned_samples(
    corpus: Corpus, folder: str, described: dict[str, Any], findings: Findings
) -> dict[str, list[str]] | None:
    """The sample keys of every training shard, planned once more; None where the same plan does not come out."""
    try:
        plan = plan_pack(corpus, PackBlock(**described["settings"]), described["encoder"])
    except VidaudioError as error:
        findings.notes.append(f"the plan of {folder} cannot be made again ({error})")
        return None
    if plan.plan_hash != described["plan_hash"]:
        findings.notes.append(
            f"the plan of {folder} comes out otherwise now: the corpus has grown or lost clips since, or another "
            "version packed it"
        )
        return None
    return {task.name: [sample.key for sample in task.samples] for task in plan.tasks}


def check_training_shard(corpus: Corpus, pack: Pack, name: str, share: Share) -> Findings:
    """One training shard: its table, its tar, every sample in it."""
    findings = Findings()
    table_at = f"{pack.folder}/{name}.parquet"
    if f"{name}.parquet" not in pack.sizes:
        return findings
    read = sealed_table(corpus.store, table_at, findings, SHARD_AGAIN)
    if read is None:
        return findings
    table, record = read
    split, _, number = name.rpartition("-")
    # The second name is that of a tar which was written anew when clips were removed.
    own = record.tar in (f"{name}.tar", f"{name}.{(record.tar_sha256 or '')[:8]}.tar")
    if (record.stage, record.rows) != ("pack", table.num_rows) or not own or number != f"{record.shard:06d}":
        findings.wrong(table_at, f"is the table of {record.tar}, {record.rows:,} rows", SHARD_AGAIN)
    if record.plan_hash != pack.described["plan_hash"]:
        findings.wrong(table_at, f"was made under another plan than {PACK_FILE} names", PACK_AGAIN)
    if table.schema.remove_metadata() != TABLE_SCHEMA:
        findings.wrong(table_at, "has other columns than this version writes", SHARD_AGAIN)
        return findings
    pack.tables[name] = table.replace_schema_metadata(None)
    pack.tars[name] = record.tar
    rows = table.to_pylist()
    late = [row["key"] for row in rows if pack.removed.covers(row["id"], row["source"])]
    if late:
        findings.wrong(table_at, f"holds samples of clips that were removed: {named(late)}", REMOVE_AGAIN)
    findings.counts["training_samples"] += len(rows)
    keys = [row["key"] for row in rows]
    if pack.plan is not None and keys != pack.plan.get(name):
        findings.wrong(table_at, "does not hold the samples that the plan gives it", SHARD_AGAIN)
    listed = pack.facts.of(row["id"] for row in rows)
    pack.last_shard[name] = max((clip["shard"] for clip in listed.values()), default=0)
    for row in rows:
        for complaint in _against_the_list(row, listed.get(row["id"]), split):
            findings.wrong(table_at, f"sample {row['key']} {complaint}", PACK_AGAIN)
    _check_tar(corpus, pack, record, rows, share, findings)
    return findings


def check_index(corpus: Corpus, pack: Pack, findings: Findings) -> None:
    """The index must be the training shards' tables, one after another, and describe them as they are."""
    name = f"{pack.folder}/{INDEX_FILE}"
    remedy = "delete it and pack again: it is made from the tables"
    names = pack.described["shards"]
    absent = [n for n in names if f"{n}.parquet" not in pack.sizes]
    if INDEX_FILE not in pack.sizes:
        if not absent:
            findings.notes.append(f"{pack.folder} has no index yet; the same pack command writes it")
        return
    if absent:
        findings.wrong(f"{pack.folder}/{absent[0]}.parquet", "is missing, and the index stands", SHARD_AGAIN)
        return
    with tempfile.TemporaryDirectory(prefix="vidaudio-") as scratch:
        path = corpus.store.local_path(name)
        if path is None:
            path = Path(scratch) / INDEX_FILE
            corpus.store.download(name, path)
        if not file_seal_holds(path):
            findings.wrong(name, "is damaged: its bytes do not give the hash it carries", remedy)
            return
        try:
            with pa.memory_map(str(path)) as source:
                table, described = read_index(source)
                _compare_index(pack, name, table, described, corpus, findings, remedy)
        except DAMAGE as error:
            findings.wrong(name, f"is no index of ours ({type(error).__name__})", remedy)


def check_pack_strays(pack: Pack, findings: Findings) -> None:
    """Files that the pack's description does not account for, and tars without a table."""
    planned = set(pack.described["shards"])
    for name in sorted(pack.sizes):
        stem, _, ending = name.partition(".")
        if ending in ("parquet", "tar") and stem not in planned:
            findings.wrong(f"{pack.folder}/{name}", f"is a stray shard: {PACK_FILE} does not name it", NOT_READ)
        elif ending == "tar" and f"{stem}.parquet" not in pack.sizes:
            what = "has no table: packing was interrupted here"
            findings.wrong(f"{pack.folder}/{name}", what, "pack again with the same command: it goes on from there")
        elif ending.endswith("tar") and stem in pack.tars and name != pack.tars[stem]:
            what = "is the tar of a shard from which clips were removed since: the removal was interrupted"
            findings.wrong(f"{pack.folder}/{name}", what, REMOVE_AGAIN)


def check_card(corpus: Corpus, pack: Pack, findings: Findings) -> None:
    """The card as it was written: it is for people, and no reader depends on it."""
    name = f"{pack.folder}/{CARD_FILE}"
    if CARD_FILE in pack.sizes and not seal_holds(corpus.store.read(name)):
        findings.wrong(name, "was changed since it was written", "delete it and run the same pack command again")


def check_sources(pack: Pack, findings: Findings) -> None:
    """A source that the list gives no split must not be on two sides."""
    sides: dict[str, str] = {}
    for name, table in pack.tables.items():
        listed = pack.facts.of(table["id"].to_pylist())
        for clip, source, split in zip(*(table[c].to_pylist() for c in ("id", "source", "split")), strict=True):
            if clip in listed and listed[clip]["split"] is None and sides.setdefault(source, split) != split:
                what = f"has {source} in {split}, which is in {sides[source]} too"
                findings.wrong(f"{pack.folder}/{name}.parquet", what, PACK_AGAIN)


def _compare_index(
    pack: Pack,
    name: str,
    table: pa.Table,
    described: dict[str, Any],
    corpus: Corpus,
    findings: Findings,
    remedy: str,
) -> None:
    names = pack.described["shards"]
    extract = corpus.recipe.extract
    wanted = {
        "tars": [pack.tars.get(n, f"{n}.tar") for n in names],
        "audio": pack.audio,
        "sample_rate": extract.sample_rate,
        "frames_per_second": extract.frames_per_second,
        "plan_hash": pack.described["plan_hash"],
        "generation": pack.described.get("generation"),
        "removed_samples": pack.described.get("removed_samples"),
        "encoder": pack.encoder if pack.encoder is not None else described.get("encoder"),
    }
    wrong = [key for key, value in wanted.items() if described.get(key) != value]
    if wrong:
        findings.wrong(name, f"says otherwise than the pack of {named(wrong)}", remedy)
    if set(pack.tables) == set(names):
        numbered = [
            pack.tables[n].append_column("shard", pa.array(np.full(pack.tables[n].num_rows, number), pa.int32()))
            for number, n in enumerate(names)
        ]
        whole = pa.concat_tables(each.select(SAMPLE_SCHEMA.names) for each in numbered)
        if not table.replace_schema_metadata(None).equals(whole):
            findings.wrong(name, "does not hold the rows of the tables, one after another", remedy)


def _against_the_list(row: Mapping[str, Any], facts: Mapping[str, Any] | None, split: str) -> list[str]:
    """What is wrong with a sample's row, beside the list's row of its clip."""
    if facts is None:
        return [f"is of the clip {row['id']}, which the list does not have"]
    complaints = []
    if not row["key"].startswith(row["id"]):
        complaints.append(f"bears another name than its clip {row['id']}")
    if any(row[key] != facts[key] for key in ("source", "dataset")):
        complaints.append("has another source or dataset than the list")
    if any(row[key] != (facts[key] or []) for key in ("labels", "captions")):
        complaints.append("has other labels or captions than the list")
    if row["split"] != split or (facts["split"] and facts["split"] != split):
        complaints.append(f"is in the split {split}, and belongs in {facts['split'] or row['split']}")
    return complaints


def _check_tar(
    corpus: Corpus, pack: Pack, record: CommitRecord, rows: list[dict[str, Any]], share: Share, findings: Findings
) -> None:
    with open_tar(corpus.store, pack.folder, record, pack.sizes, share, findings, SHARD_AGAIN) as tar:
        if tar is None:
            return
        name = f"{pack.folder}/{record.tar}"
        expected: dict[str, tuple[int, int] | None] = {}
        for row in rows:
            key = row["key"]
            expected[f"{key}.{pack.audio}"] = (row["audio_offset"], row["audio_length"])
            expected[f"{key}.clip.npy"] = (row["vectors_offset"], row["vectors_length"])
            expected[f"{key}.json"] = None
            if pack.described["settings"]["frames"]:
                expected |= {f"{key}.{number:03d}.jpg": None for number in range(len(row["frame_seconds"]))}
        before = len(findings.problems)
        compare_members(tar, expected, name, findings, SHARD_AGAIN)
        if len(findings.problems) > before or not share.takes(name):
            return
        for row in rows:
            complaint = _sample_complaint(tar, row, pack)
            if complaint:
                findings.wrong(name, f"sample {row['key']} {complaint}", PACK_AGAIN)


def _sample_complaint(tar: OpenTar, row: Mapping[str, Any], pack: Pack) -> str | None:
    try:
        described = json.loads(tar.read(tar.members[f"{row['key']}.json"]))
        data = io.BytesIO(tar.read(tar.members[f"{row['key']}.clip.npy"]))
        vectors = np.lib.format.read_array(data, allow_pickle=False)
    except DAMAGE as error:
        return f"cannot be read ({type(error).__name__})"
    if {key: described.get(key) for key in DESCRIBED} != {key: row[key] for key in DESCRIBED}:
        return "describes itself otherwise than its row"
    if vectors.dtype != np.float16 or vectors.ndim != 2 or len(vectors) != len(row["frame_seconds"]):
        return f"has vectors {vectors.dtype} {list(vectors.shape)} for {len(row['frame_seconds'])} pictures"
    own = pack.vectors.get(row["id"])
    whole = row["key"] == row["id"]
    digests = b"".join(vector_digest(vector) for vector in vectors)
    if own is not None and (digests != own if whole else not _contains(own, digests)):
        return f"has other vectors than {row['id']} in embeddings/{pack.described['encoder']}"
    return None


def _contains(all_digests: bytes, some: bytes) -> bool:
    """Whether `some` stand in `all_digests` one after another."""
    places = range(0, len(all_digests) - len(some) + 1, DIGEST_BYTES)
    return any(all_digests[place : place + len(some)] == some for place in places)
