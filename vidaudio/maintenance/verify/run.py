"""The full check of a corpus: manifest, every shard, every pack and sampled pictures, in parallel where possible."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from tqdm import tqdm

from vidaudio.corpus.columns import EMBED, PACKS, belongs, columns_in_order
from vidaudio.corpus.corpus import CORPUS_FILE, MANIFEST_FILE, Corpus, open_corpus
from vidaudio.corpus.manifest_parts import ListDamaged
from vidaudio.corpus.tombstones import Tombstones, read_tombstones
from vidaudio.errors import CorpusError, StoreError, UsageError
from vidaudio.maintenance.verify.encoders import described_encoders
from vidaudio.maintenance.verify.files import DAMAGE, NOT_READ, check_strays, named
from vidaudio.maintenance.verify.findings import Findings, Sampler, VerifyReport
from vidaudio.maintenance.verify.index import check_index, opened_index
from vidaudio.maintenance.verify.lost_tables import LostTables
from vidaudio.maintenance.verify.manifest_files import LIST_AGAIN, check_list
from vidaudio.maintenance.verify.manifest_lookup import listed_clips
from vidaudio.maintenance.verify.packs import (
    Pack,
    RebuiltPlan,
    check_card,
    check_left_out,
    check_pack_strays,
    check_samples,
    describe_pack,
    plan_again,
)
from vidaudio.maintenance.verify.reencode import encode_again
from vidaudio.maintenance.verify.shard import ShardResult, check_shard
from vidaudio.maintenance.verify.split_leaks import SplitLeakCheck
from vidaudio.maintenance.verify.training_shard import TrainingShard, check_training_shard
from vidaudio.maintenance.verify.vector_digests import ClipVectors
from vidaudio.packs.description import PACK_FILE, PackDescription
from vidaudio.shards.links import NotFollowed
from vidaudio.shards.parallel_read import in_order
from vidaudio.shards.process_identity import parse_identity
from vidaudio.shards.scratch import PREFIX, is_left_over, owner_lives

# Shards checked at a time on an object store, where waiting takes most of the time.
REMOTE_THREADS = 8
COUNTS = (
    *("clips", "tables", "tars", "tars_hashed", "bytes_hashed", "local_files", "local_files_hashed"),
    *("training_samples", "frames_encoded_again"),
)


def verify_corpus(url: str, *, sample: float = 1.0, trust_encoder: bool = False, progress: bool = True) -> VerifyReport:
    """Check everything that is committed in a corpus, without changing anything.

    Every table is read and checked against its checksum and the tables it was made from. The names and sizes of tars
    and local files are always checked, their bytes for a share of the files. Remote tars outside the share are not
    opened.

    Args:
        url: Folder or fsspec URL of the corpus.
        sample: Share of tars and local files to hash, 0 to 1; the same files are chosen each time.
        trust_encoder: Whether to load the encoder that the corpus names even if it must be fetched or read from a local
            path that the user has not named. By default such an encoder is not loaded and no picture is encoded again.
        progress: Whether to show a progress bar.

    Raises:
        UsageError, CorpusError: When there is no corpus at `url`, its `corpus.json` cannot be read at all, or `sample`
            is out of range.
    """
    if not 0 <= sample <= 1:
        raise UsageError(f"the share of files to hash is between 0 and 1, not {sample}")
    findings = Findings()
    try:
        corpus = open_corpus(url)
    except ListDamaged as error:
        findings.add_problem(error.name, error.what, LIST_AGAIN)
        return _report(url, findings)
    except NotFollowed as error:
        findings.add_problem(error.file, str(error), LIST_AGAIN)
        return _report(url, findings)
    except DAMAGE as error:
        what = f"the corpus cannot be opened: a part of its list is damaged ({type(error).__name__})"
        findings.add_problem(MANIFEST_FILE, what, LIST_AGAIN)
        return _report(url, findings)
    share = Sampler(sample)
    if check_list(corpus, findings):
        _check_columns(corpus, share, _tombstones(corpus, findings), findings, progress, trust_encoder)
    _check_leftovers(corpus, findings)
    return _report(corpus.url, findings)


def _report(url: str, findings: Findings) -> VerifyReport:
    counts = {name: findings.counts[name] for name in COUNTS}
    return VerifyReport(url, tuple(findings.problems), tuple(dict.fromkeys(findings.notes)), counts)


def _tombstones(corpus: Corpus, findings: Findings) -> Tombstones:
    try:
        return read_tombstones(corpus.store)
    except (CorpusError, StoreError) as error:
        findings.add_problem("removed-*.parquet", str(error), "the tombstones are part of what this corpus promises")
        return Tombstones()


def _check_columns(
    corpus: Corpus, share: Sampler, removed: Tombstones, findings: Findings, progress: bool, trusted: bool
) -> None:
    folders = [folder for column in columns_in_order() for folder in column.folders(corpus.store)]
    listings = {folder: corpus.store.list(folder) for folder in folders}
    encoders = described_encoders(corpus, listings, findings, trusted=trusted)
    packs = _packs(corpus, findings)
    total = corpus.shards + sum(len(described.shards) for described, _ in packs.values())
    remote = corpus.store.local_path(CORPUS_FILE) is None
    threads = REMOTE_THREADS if remote else max(2, len(os.sched_getaffinity(0)))
    # Samples are compared with their vectors only if their tar is hashed.
    packed = [column.encoder for described, _ in packs.values() for column in described.vector_columns]
    digested = set(packed) if share.fraction > 0 else set()
    seen = _Columns(corpus, folders, digested)
    with (
        tqdm(total=total, desc="verifying", unit="shard", disable=not progress, dynamic_ncols=True) as bar,
        ThreadPoolExecutor(threads) as pool,
    ):
        side_by_side = functools.partial(in_order, pool, ahead=2 * threads)

        def one(shard: int) -> ShardResult:
            result = check_shard(corpus, shard, listings, encoders, digested, share, removed)
            bar.update()
            return result

        for shard, result in enumerate(side_by_side(one, range(corpus.shards))):
            seen.add(shard, result)
            findings.merge(result.findings)
        for folder in folders:
            complete = folder not in seen.unread
            check_strays(folder, listings[folder], corpus.shards, seen.tars[folder], findings, complete=complete)
        sound = not findings.problems
        # Make the plans before loading the manifest rows, since each plan needs memory of its own.
        plans = {
            folder: plan_again(corpus, folder, described) if sound else RebuiltPlan()
            for folder, (described, _) in packs.items()
        }
        facts = listed_clips(corpus) if packs else None
        owed = LostTables(corpus, listings)
        looked_at: list[tuple[Pack, Findings]] = []
        for folder, (described, sizes) in packs.items():
            assert facts is not None
            pack = Pack(folder, described, sizes, encoders, seen.vectors, facts, plans[folder], removed)
            looked_at.append((pack, _check_pack(corpus, pack, share, side_by_side, bar)))
            owed.add(pack)
        for pack, found in looked_at:
            _tell_plan(plans[pack.folder], pack, owed, findings)
            findings.merge(found)
        owed.report_to(seen.media_kept.tolist(), findings)
    sound_shards = _sound_shards(corpus, encoders, listings, seen.problems)
    encode_again(corpus, encoders, sound_shards, findings, trusted=trusted)


class _Columns:
    """Facts about the shards' columns that are kept after all shards are checked.

    Attributes:
        problems: By shard, whether any column has a problem.
        media_kept: By shard, see `ShardResult`.
        tars: By folder, the tars that its tables name.
        unread: Folders in which some table could not be read.
        vectors: By encoder, digests of the clips' vectors.
    """

    def __init__(self, corpus: Corpus, folders: Iterable[str], digested: Iterable[str]) -> None:
        self.problems = np.zeros(corpus.shards, bool)
        self.media_kept = np.ones(corpus.shards, bool)
        self.tars: dict[str, set[str]] = {folder: set() for folder in folders}
        self.unread: set[str] = set()
        self.vectors = {name: ClipVectors(corpus.clips_by_shard()) for name in digested}

    def add(self, shard: int, result: ShardResult) -> None:
        """Add the result of one shard."""
        self.problems[shard] = bool(result.findings.problems)
        self.media_kept[shard] = result.media_kept
        for folder, tar in result.tars.items():
            self.tars[folder].add(tar)
        self.unread |= result.unread
        for encoder, vectors in result.vectors.items():
            self.vectors[encoder].add(shard, vectors)


def _check_pack(corpus: Corpus, pack: Pack, share: Sampler, side_by_side: Callable, bar: tqdm) -> Findings:
    """Check every training shard of a pack, and then the pack as a whole."""
    findings, of_index = Findings(), Findings()
    sides = SplitLeakCheck()
    names = pack.described.shards
    with opened_index(corpus, pack, of_index) as index:

        def training(number: int) -> TrainingShard:
            result = check_training_shard(corpus, pack, index, number, share)
            bar.update()
            return result

        for name, result in zip(names, side_by_side(training, range(len(names))), strict=True):
            findings.merge(result.findings)
            pack.last_shard = max(pack.last_shard, result.last_shard)
            if result.tar is not None:
                pack.tars[name] = result.tar
            sides.add(name, result.sides)
        findings.merge(of_index)
        if index is not None:
            check_index(corpus, pack, index, findings)
    sides.report_to(corpus.store, pack, findings)
    check_pack_strays(pack, findings)
    if not findings.problems:
        check_samples(pack, findings)
    check_left_out(corpus, pack, findings)
    check_card(corpus, pack, findings)
    return findings


def _tell_plan(plan: RebuiltPlan, pack: Pack, owed: LostTables, findings: Findings) -> None:
    """Note why a pack's plan was not reproduced; lost tables, each also a problem of its own, are named."""
    lost = owed.lost(pack) if plan.refused else []
    if lost:
        findings.notes.append(f"the plan of {pack.folder} could not be made again without {named(lost)}")
    elif plan.why_not:
        findings.notes.append(plan.why_not)


def _sound_shards(
    corpus: Corpus, encoders: Iterable[str], listings: dict[str, dict[str, int]], problems: np.ndarray
) -> dict[str, list[int]]:
    """Return, by encoder, the shards that are embedded and have no problem in any column."""
    return {
        name: [
            shard
            for shard in np.flatnonzero(~problems).tolist()
            if f"{shard:06d}.parquet" in listings[EMBED.model_folder(name)]
        ]
        for name in encoders
    }


def _packs(corpus: Corpus, findings: Findings) -> dict[str, tuple[PackDescription, dict[str, int]]]:
    """Return the description and file sizes of every pack, by folder; report the others as problems."""
    found = {}
    for name in corpus.store.folders(PACKS):
        folder = f"{PACKS}/{name}"
        sizes = corpus.store.list(folder)
        if PACK_FILE not in sizes:
            remedy = "delete the folder while no pack is running, and pack again"
            findings.add_problem(f"{folder}/{PACK_FILE}", "is missing", remedy)
            continue
        described = describe_pack(corpus, folder, findings)
        if described is not None:
            found[folder] = described, sizes
    return found


def _check_leftovers(corpus: Corpus, findings: Findings) -> None:
    """Report what interrupted commands left in the corpus's root folder."""
    names, root = [*corpus.store.folders(""), *corpus.store.list("")], corpus.store.local_path("")
    for name in sorted(name for name in names if name.startswith(PREFIX)):
        if owner_lives(name):
            findings.notes.append(f"{name} belongs to a command that is running")
        elif root is not None and parse_identity(name.removeprefix(PREFIX)) and not is_left_over(root / name):
            findings.notes.append(f"{name} belongs to a command of another machine or container that may be running")
        else:
            findings.add_problem(name, "is a leftover of an interrupted command", NOT_READ)
    strays = sorted(name for name in names if not name.startswith(PREFIX) and not belongs(name))
    if strays:
        # These may be a user's own notes, or a file meant for a subfolder: that is no problem.
        findings.notes.append(f"{named(strays)} in the corpus's own folder: not of the corpus, and never read")
