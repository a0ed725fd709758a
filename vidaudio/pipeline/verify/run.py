"""The whole of a corpus: its list, every shard, every pack, a sample of pictures; side by side where it can be."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from vidaudio.errors import CorpusError
from vidaudio.pipeline.corpus import CORPUS_FILE, MANIFEST_FILE, Corpus, open_corpus
from vidaudio.pipeline.pack_plan import PACK_FILE
from vidaudio.pipeline.plan import manifest_hash
from vidaudio.pipeline.recipe import stable_hash
from vidaudio.pipeline.tombstones import Tombstones, read_tombstones
from vidaudio.pipeline.verify.files import DAMAGE, NOT_READ, check_strays
from vidaudio.pipeline.verify.listed import ListedClips
from vidaudio.pipeline.verify.owed import Owed
from vidaudio.pipeline.verify.packs import (
    Pack,
    check_card,
    check_index,
    check_pack_strays,
    check_sources,
    check_training_shard,
    describe_pack,
    planned_samples,
)
from vidaudio.pipeline.verify.reencode import encode_again
from vidaudio.pipeline.verify.report import Findings, Share, VerifyReport
from vidaudio.pipeline.verify.shard import ShardResult, check_shard
from vidaudio.shards.scratch import PREFIX, owner_lives
from vidaudio.shards.seal import seal_holds

LIST_AGAIN = "take it back from a copy of the corpus, or begin another one with the same list and settings"
# Files in flight from an object store, where waiting is most of the time.
REMOTE_THREADS = 8
COUNTS = ("clips", "tables", "tars", "tars_hashed", "bytes_hashed", "local_files", "local_files_hashed")
COUNTS += ("training_samples", "frames_encoded_again")


def verify_corpus(url: str, *, sample: float = 1.0, progress: bool = True) -> VerifyReport:
    """Check everything that is committed in a corpus; nothing is changed.

    Every table is read and checked against its seal and its neighbours; of tars and local files the names and sizes
    always, the bytes of a share. Remote tars outside the share are not opened.

    Args:
        url: Folder or fsspec URL of the corpus.
        sample: The share of tars and local files to hash, 0 to 1: the same ones each time.
        progress: Show a progress bar.

    Raises:
        CorpusError: There is no corpus at `url`, or its `corpus.json` cannot be read at all.
    """
    if not 0 <= sample <= 1:
        raise CorpusError(f"the share of files to hash is between 0 and 1, not {sample}")
    findings = Findings()
    try:
        corpus = open_corpus(url)
    except DAMAGE as error:
        what = f"the corpus cannot be opened: a part of its list is damaged ({type(error).__name__})"
        findings.wrong(MANIFEST_FILE, what, LIST_AGAIN)
        return _report(url, findings)
    share = Share(sample)
    ids = _check_list(corpus, findings)
    if ids is not None:
        _check_columns(corpus, ids, share, _tombstones(corpus, findings), findings, progress)
    _check_leftovers(corpus, findings)
    return _report(corpus.url, findings)


def _report(url: str, findings: Findings) -> VerifyReport:
    counts = {name: findings.counts[name] for name in COUNTS}
    return VerifyReport(url, tuple(findings.problems), tuple(dict.fromkeys(findings.notes)), counts)


def _check_list(corpus: Corpus, findings: Findings) -> list[pa.Array] | None:
    """Settings and list against their hashes; returns every shard's ids in order, None where they are unknown."""
    described = json.loads(corpus.store.read(CORPUS_FILE))
    settings = {"settings": described.get("identity"), "manifest": described.get("manifest_sha256")}
    if stable_hash(settings) != corpus.plan_hash or not _within(described["identity"], corpus.recipe.identity()):
        findings.wrong(CORPUS_FILE, "is damaged: its settings and list do not give the plan it names", LIST_AGAIN)
    ids: list[pa.Array] = []
    for number, part in enumerate(corpus.parts):
        try:
            data = corpus.store.read(part.name)
            file = pq.ParquetFile(io.BytesIO(data))
            table = file.read()
            table.validate(full=True)
            shards = table["shard"].to_numpy()
            bounds = np.searchsorted(shards, np.arange(part.first_shard, part.first_shard + part.shards + 1))
            fits = seal_holds(data) and table.num_rows == part.clips and bounds[0] == 0 and bounds[-1] == part.clips
            fits = fits and bool((np.diff(bounds) > 0).all() and (np.diff(shards) >= 0).all())
            fits = fits and (number > 0 or manifest_hash(table) == described["manifest_sha256"])
            fits = fits and _bounds_are_true(file, shards)
        except FileNotFoundError:
            findings.wrong(part.name, "is missing: it is the list, and says which clips are in which shard", LIST_AGAIN)
            findings.notes.append("without its list nothing else of the corpus could be looked at")
            return None
        except DAMAGE as error:
            findings.wrong(part.name, f"is damaged ({type(error).__name__})", LIST_AGAIN)
            return None
        if not fits:
            findings.wrong(part.name, "is damaged: it is not the list that the corpus was made from", LIST_AGAIN)
            return None
        column = table["id"].combine_chunks()
        ids += [column.slice(first, last - first) for first, last in pairwise(bounds)]
    return ids


def _within(recorded: Any, now: Any) -> bool:
    """Whether all that was recorded is so now; a later version may know settings that did not exist then."""
    if isinstance(recorded, dict) and isinstance(now, dict):
        return all(key in now and _within(value, now[key]) for key, value in recorded.items())
    return recorded == now


def _bounds_are_true(file: pq.ParquetFile, shards: np.ndarray) -> bool:
    """A search for a shard's rows skips row groups by the bounds that the file gives of them."""
    place = file.schema_arrow.get_field_index("shard")
    first = 0
    for number in range(file.num_row_groups):
        group = file.metadata.row_group(number)
        # Columns of lists come before: the place among the leaves is found by name.
        column = next(c for c in map(group.column, range(place, group.num_columns)) if c.path_in_schema == "shard")
        own = shards[first : first + group.num_rows]
        first += group.num_rows
        if column.statistics is not None and (column.statistics.min, column.statistics.max) != (own.min(), own.max()):
            return False
    return True


def _tombstones(corpus: Corpus, findings: Findings) -> Tombstones:
    try:
        return read_tombstones(corpus.store)
    except CorpusError as error:
        findings.wrong("removed-*.parquet", str(error), "the tombstones are part of what this corpus promises")
        return Tombstones()


def _check_columns(
    corpus: Corpus, ids: list[pa.Array], share: Share, removed: Tombstones, findings: Findings, progress: bool
) -> None:
    encoders = _encoders(corpus, findings)
    folders = ["clips", "av", *(f"embeddings/{name}" for name in encoders)]
    listings = {folder: corpus.store.list(folder) for folder in folders}
    packs = _packs(corpus, findings)
    total = corpus.shards + sum(len(described["shards"]) for described, _ in packs.values())
    remote = corpus.store.local_path(CORPUS_FILE) is None
    threads = REMOTE_THREADS if remote else max(2, len(os.sched_getaffinity(0)))
    dimensions = {name: described["dimensions"] for name, described in encoders.items()}
    with (
        tqdm(total=total, desc="verifying", unit="shard", disable=not progress, dynamic_ncols=True) as bar,
        ThreadPoolExecutor(threads) as pool,
    ):

        def one(shard: int) -> ShardResult:
            result = check_shard(corpus, shard, ids[shard].to_pylist(), listings, dimensions, share, removed)
            bar.update()
            return result

        results = list(pool.map(one, range(corpus.shards)))
        for result in results:
            findings.merge(result.findings)
        for folder in folders:
            tars = {result.tars[folder] for result in results if folder in result.tars}
            complete = not any(folder in result.unread for result in results)
            check_strays(folder, listings[folder], corpus.shards, tars, findings, complete=complete)
        columns_are_sound = not findings.problems
        owed = Owed(corpus, listings)
        facts = _facts(corpus) if packs else None
        for folder, (described, sizes) in packs.items():
            vectors = _vectors(results, described["encoder"])
            plan = planned_samples(corpus, folder, described, findings) if columns_are_sound else None
            pack = Pack(folder, described, sizes, encoders.get(described["encoder"]), vectors, facts, plan, removed)

            def training(name: str, pack: Pack = pack) -> Findings:
                found = check_training_shard(corpus, pack, name, share)
                bar.update()
                return found

            for found in pool.map(training, described["shards"]):
                findings.merge(found)
            check_index(corpus, pack, findings)
            check_sources(pack, findings)
            check_pack_strays(pack, findings)
            check_card(corpus, pack, findings)
            owed.add(pack)
        owed.tell(results, findings)
    encode_again(corpus, encoders, _sound_shards(corpus, encoders, listings, results), findings)


def _sound_shards(
    corpus: Corpus, encoders: Iterable[str], listings: dict[str, dict[str, int]], results: list[ShardResult]
) -> dict[str, list[int]]:
    """By encoder, the shards that are embedded and have nothing wrong in any column."""
    return {
        name: [
            shard
            for shard, result in enumerate(results)
            if not result.findings.problems and f"{shard:06d}.parquet" in listings[f"embeddings/{name}"]
        ]
        for name in encoders
    }


def _encoders(corpus: Corpus, findings: Findings) -> dict[str, dict[str, Any]]:
    """What every folder of embeddings says of its encoder."""
    found = {}
    for name in corpus.store.folders("embeddings"):
        at = f"embeddings/{name}/encoder.json"
        try:
            described = json.loads(corpus.store.read(at))
            if not isinstance(described["dimensions"], int):
                raise TypeError("dimensions is no whole number")
        except (*DAMAGE, UnicodeDecodeError) as error:
            remedy = "delete it and build again: the encoder describes itself anew"
            findings.wrong(at, f"is missing or damaged ({type(error).__name__})", remedy)
            continue
        found[name] = described
    return found


def _packs(corpus: Corpus, findings: Findings) -> dict[str, tuple[dict[str, Any], dict[str, int]]]:
    """Description and files of every pack."""
    found = {}
    for name in corpus.store.folders("training"):
        folder = f"training/{name}"
        sizes = corpus.store.list(folder)
        if PACK_FILE not in sizes:
            remedy = "delete the folder while no pack is running, and pack again"
            findings.wrong(f"{folder}/{PACK_FILE}", "is missing", remedy)
            continue
        described = describe_pack(corpus, folder, findings)
        if described is not None:
            found[folder] = described, sizes
    return found


def _vectors(results: list[ShardResult], encoder: str) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for result in results:
        found |= result.vectors.get(encoder, {})
    return found


def _facts(corpus: Corpus) -> ListedClips:
    return ListedClips(corpus.manifest(["id", "source", "dataset", "split", "labels", "captions", "shard"]))


def _check_leftovers(corpus: Corpus, findings: Findings) -> None:
    """What interrupted commands left in the corpus's own folder."""
    names = [*corpus.store.folders(""), *corpus.store.list("")]
    for name in sorted(name for name in names if name.startswith(PREFIX)):
        if owner_lives(name):
            findings.notes.append(f"{name} belongs to a command that is running")
        else:
            findings.wrong(name, "is a leftover of an interrupted command", NOT_READ)
