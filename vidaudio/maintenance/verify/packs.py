"""Checks of a whole pack: its description, its plan (made again), its card, and files that do not belong to it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from vidaudio.corpus.columns import EMBED, SCORE, Column
from vidaudio.corpus.corpus import Corpus
from vidaudio.corpus.tombstones import Tombstones
from vidaudio.errors import RecipeError, VidaudioError
from vidaudio.maintenance.verify.encoders import StoredEncoder
from vidaudio.maintenance.verify.files import DAMAGE, NOT_READ, named
from vidaudio.maintenance.verify.findings import Findings
from vidaudio.maintenance.verify.manifest_lookup import ListedClips
from vidaudio.maintenance.verify.shard import REMOVE_AGAIN
from vidaudio.maintenance.verify.vector_digests import ClipVectors
from vidaudio.packs.card import CARD_FILE
from vidaudio.packs.choice import NOT_EXTRACTED
from vidaudio.packs.description import PACK_FILE, PackDamaged, PackDescription, read_pack_file
from vidaudio.packs.left_out import LEFT_OUT_FILE, left_out_clips, names_removed, open_left_out, rows_digest
from vidaudio.packs.plan import PackPlan, plan_pack
from vidaudio.packs.sample_format import sound_format
from vidaudio.packs.selection import pack_columns
from vidaudio.shards.checksum import checksum_ok
from vidaudio.stream.index import INDEX_FILE
from vidaudio.text import first_line

PACK_AGAIN = "delete the pack's folder and pack again"
LIST_AGAIN = "delete it and run the same pack command again: it is made from the plan"
SHARD_AGAIN = "delete it, its table or tar, and the index, and pack again: the same bytes come back"


def pack_models(described: PackDescription) -> dict[str, str]:
    """Return the models that a pack was made with by stage, as far as its description has them."""
    scorer = described.settings.scorer
    return {EMBED.stage: described.encoder} | ({} if scorer is None else {SCORE.stage: scorer})


@dataclass(frozen=True, slots=True)
class RebuiltPlan:
    """A pack's plan, made again.

    Attributes:
        keys: By training shard, `keys_digest` of its samples; None if the plan is not reproduced.
        left_out: `rows_digest` of the clips that it leaves out; None if the plan or their number is not reproduced.
        why_not: Reason that the plan is not reproduced.
        refused: Whether planning failed altogether, perhaps because tables it needs are lost.
    """

    keys: Mapping[str, bytes] | None = None
    left_out: bytes | None = None
    why_not: str = ""
    refused: bool = False


@dataclass(slots=True)
class Pack:
    """A pack to check: its description, its files, and what is known of its corpus.

    Attributes:
        folder: Folder of the pack, `training/NAME`.
        described: Contents of `pack.json`.
        sizes: Sizes of the pack's files, by name.
        encoders: What is known of the encoders of the corpus, by name.
        vectors: Digests of the clips' vectors, by encoder; without those of encoders that are not checked.
        facts: Manifest rows, as `listed_clips` returns them.
        plan: The plan, made again.
        removed: Clips and sources that must have no sample.
        tars: Tar that its table names, by training shard.
        last_shard: Last shard of the corpus that contributes a clip to the pack.
    """

    folder: str
    described: PackDescription
    sizes: Mapping[str, int]
    encoders: Mapping[str, StoredEncoder]
    vectors: Mapping[str, ClipVectors]
    facts: ListedClips
    plan: RebuiltPlan
    removed: Tombstones = field(default_factory=Tombstones)
    tars: dict[str, str] = field(default_factory=dict)
    last_shard: int = 0

    @property
    def audio(self) -> str:
        """File ending of the members with sound: `wav` or `flac`."""
        return sound_format(self.described.settings.audio)

    @property
    def columns(self) -> list[Column]:
        """Columns that the pack was planned from besides extract; without its selection where that is not valid."""
        try:
            return pack_columns(self.described.settings)
        except RecipeError:
            return pack_columns(self.described.settings.model_copy(update={"where": None}))


def describe_pack(corpus: Corpus, folder: str, findings: Findings) -> PackDescription | None:
    """Read `pack.json`; report a problem and return None if it does not describe a pack of a corpus."""
    try:
        described = read_pack_file(corpus.store, folder)
        if not described.encoder:
            raise ValueError("describes packed sounds, which are no pack of a corpus")
        if described.unknown_settings:
            raise ValueError(f"settings of a later version: {', '.join(described.unknown_settings)}")
    except (PackDamaged, *DAMAGE) as error:
        cause = error.__cause__ if isinstance(error, PackDamaged) else error
        what = f"is no description of a pack ({type(cause).__name__})"
        findings.add_problem(f"{folder}/{PACK_FILE}", what, PACK_AGAIN)
        return None
    return described


def plan_again(corpus: Corpus, folder: str, described: PackDescription) -> RebuiltPlan:
    """Make the plan of a pack again from its description."""
    try:
        plan = plan_pack(corpus, described.settings, pack_models(described))
        left_out = rows_digest(left_out_clips(corpus, plan)) if _decided(plan) == _decided(described) else None
    except VidaudioError as error:
        return RebuiltPlan(why_not=f"the plan of {folder} cannot be made again ({error})", refused=True)
    if plan.plan_hash != described.plan_hash:
        return RebuiltPlan(
            why_not=f"the plan of {folder} comes out otherwise now: the corpus has grown or lost clips since, or "
            "another version packed it"
        )
    keys = {task.name: keys_digest([sample.key for sample in task.samples], task.weights) for task in plan.tasks}
    return RebuiltPlan(keys, left_out)


def _decided(pack: PackPlan | PackDescription) -> dict[str, int]:
    """Return how many clips are left out by cause, except those without usable media, which retries change."""
    return {cause: number for cause, number in pack.left_out.items() if cause != NOT_EXTRACTED}


def keys_digest(keys: Sequence[str], weights: Sequence[float] | None = None) -> bytes:
    """Return the SHA-256 of the keys of a training shard's samples, in order, and of their weights if they have any."""
    return hashlib.sha256(json.dumps([list(keys), weights and list(weights)]).encode()).digest()


def check_pack_strays(pack: Pack, findings: Findings) -> None:
    """Report files that the pack's description does not account for, and tars without a table."""
    planned = set(pack.described.shards)
    for name in sorted(pack.sizes):
        stem, _, ending = name.partition(".")
        if name == LEFT_OUT_FILE:
            continue  # is checked on its own
        if ending in ("parquet", "tar") and stem not in planned:
            findings.add_problem(f"{pack.folder}/{name}", f"is a stray shard: {PACK_FILE} does not name it", NOT_READ)
        elif ending == "tar" and f"{stem}.parquet" not in pack.sizes:
            what = "has no table: packing was interrupted here"
            findings.add_problem(
                f"{pack.folder}/{name}", what, "pack again with the same command: it goes on from there"
            )
        elif ending.endswith("tar") and stem in pack.tars and name != pack.tars[stem]:
            what = "is the tar of a shard from which clips were removed since: the removal was interrupted"
            findings.add_problem(f"{pack.folder}/{name}", what, REMOVE_AGAIN)
        elif not (ending.endswith("tar") or ending == "parquet" or name in (PACK_FILE, INDEX_FILE, CARD_FILE)):
            findings.add_problem(f"{pack.folder}/{name}", "does not belong here", NOT_READ)


def check_samples(pack: Pack, findings: Findings) -> None:
    """Compare the recorded number of samples with the tables, in which no other problem was found."""
    described = pack.described
    found = findings.counts["training_samples"]
    is_complete = all(f"{name}.parquet" in pack.sizes for name in described.shards)
    if is_complete and found != described.samples - described.removed_samples:
        gone = f", less {described.removed_samples:,} that were removed" if described.removed_samples else ""
        what = f"names {described.samples:,} samples{gone}, and its tables hold {found:,}"
        findings.add_problem(f"{pack.folder}/{PACK_FILE}", what, PACK_AGAIN)


def check_left_out(corpus: Corpus, pack: Pack, findings: Findings) -> None:
    """Check the list of clips that are left out, or note that it is missing; no reader of the pack needs it."""
    name = f"{pack.folder}/{LEFT_OUT_FILE}"
    if LEFT_OUT_FILE not in pack.sizes:
        if INDEX_FILE in pack.sizes:
            findings.notes.append(f"{pack.folder} has no {LEFT_OUT_FILE}; the same pack command writes it")
        return
    findings.counts["tables"] += 1
    try:
        with open_left_out(corpus.store, pack.folder) as file:
            own = file.plan_hash == pack.described.plan_hash
            late = [row.id for row in file.rows() if names_removed(row, pack.removed)]
            same = pack.plan.left_out in (None, rows_digest(file.rows()))
    except DAMAGE as error:
        findings.add_problem(name, f"is damaged ({first_line(error)})", LIST_AGAIN)
        return
    if late:
        findings.add_problem(name, f"holds clips that were removed: {named(late)}", REMOVE_AGAIN)
    elif not own or not same:
        findings.add_problem(name, "does not hold the clips that the plan leaves out", LIST_AGAIN)


def check_card(corpus: Corpus, pack: Pack, findings: Findings) -> None:
    """Check the card's checksum, or note that it is missing; the card is for people, and no reader needs it."""
    name = f"{pack.folder}/{CARD_FILE}"
    if CARD_FILE not in pack.sizes:
        if INDEX_FILE in pack.sizes:
            findings.notes.append(f"{pack.folder} has no {CARD_FILE}; the same pack command writes it")
    elif not checksum_ok(corpus.store.read(name)):
        findings.add_problem(name, "was changed since it was written", "delete it and run the same pack command again")
