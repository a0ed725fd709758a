"""Checks of single files: a table's checksum, a tar against its table's record, a folder's files against its tables."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from vidaudio.corpus.columns import DOWNLOAD, column_of
from vidaudio.corpus.media_retention import DRAFT
from vidaudio.hashing import sha256_of
from vidaudio.maintenance.verify.findings import Findings, Sampler
from vidaudio.shards.checksum import checksum_ok
from vidaudio.shards.commit import TABLE_DAMAGE, CommitRecord, decode_table
from vidaudio.shards.links import NotFollowed
from vidaudio.shards.store import Store
from vidaudio.shards.tar import BadTar, Member, list_members
from vidaudio.text import first_line

BUILD_AGAIN = "delete it and build again: the same bytes come back"
BUILD_AGAIN_ALONE = "build again: the same bytes come back"
BUILD_BOTH_AGAIN = "delete it and its table and build again: the same bytes come back"
NOT_READ = "no reader sees it; delete it while no build is running"
# Errors that parsing damaged bytes may raise, depending on where the damage is.
DAMAGE = (*TABLE_DAMAGE, IndexError, OverflowError, NotFollowed)


@dataclass(frozen=True, slots=True)
class OpenTar:
    """A verified tar: the path of a local copy, and its members."""

    path: Path
    members: Mapping[str, Member]

    def read(self, member: Member) -> bytes:
        """Return the bytes of a member."""
        with self.path.open("rb") as file:
            file.seek(member.offset)
            return file.read(member.length)


def checked_table(
    store: Store, name: str, findings: Findings, remedy: str = BUILD_AGAIN
) -> tuple[pa.Table, CommitRecord] | None:
    """Read a committed table and its record; report a problem and return None if it is not intact."""
    findings.counts["tables"] += 1
    try:
        data = store.read(name)
    except FileNotFoundError:
        findings.add_problem(name, "is missing", remedy)
        return None
    except NotFollowed as error:
        findings.add_problem(name, str(error), remedy)
        return None
    if not checksum_ok(data):
        # Do not parse a damaged file: the parser's behaviour is undefined.
        findings.add_problem(name, "is damaged: its bytes do not give the hash it carries", remedy)
        return None
    try:
        return decode_table(data)
    except DAMAGE as error:
        findings.add_problem(name, f"is no table of ours ({first_line(error)})", remedy)
        return None


@contextlib.contextmanager
def open_tar(
    store: Store,
    folder: str,
    record: CommitRecord,
    sizes: Mapping[str, int],
    share: Sampler,
    findings: Findings,
    remedy: str = BUILD_BOTH_AGAIN,
) -> Iterator[OpenTar | None]:
    """Check a tar's presence, size, hash and headers; yield None if damaged, or if remote and not sampled."""
    findings.counts["tars"] += 1
    name = f"{folder}/{record.tar}"
    size = None if record.tar is None else sizes.get(record.tar)
    if size is None:
        findings.add_problem(name, "is missing, and its table still stands", remedy)
        yield None
        return
    if size != record.tar_bytes:
        findings.add_problem(name, f"has {size:,} bytes, and was committed with {record.tar_bytes:,}", remedy)
        yield None
        return
    try:
        local, hashed = store.local_path(name), share.selects(name)
    except NotFollowed as error:
        findings.add_problem(name, str(error), remedy)
        yield None
        return
    if local is None and not hashed:
        yield None
        return
    with contextlib.ExitStack() as stack:
        path = local
        if path is None:
            path = stack.enter_context(store.workspace()) / "copy.tar"
            store.download(name, path)
        if hashed:
            findings.counts["tars_hashed"] += 1
            findings.counts["bytes_hashed"] += size
            if sha256_of(path) != record.tar_sha256:
                findings.add_problem(name, "is damaged: its bytes do not give the hash in its table", remedy)
                yield None
                return
        found = _members(path, name, findings, remedy)
        yield None if found is None else OpenTar(path, found)


def compare_members(
    tar: OpenTar,
    expected: Mapping[str, tuple[int, int] | None],
    name: str,
    findings: Findings,
    remedy: str = BUILD_BOTH_AGAIN,
) -> None:
    """Check that a tar contains exactly `expected`, at the offsets and lengths given there (None: anywhere)."""
    missing, strange = sorted(set(expected) - set(tar.members)), sorted(set(tar.members) - set(expected))
    if missing:
        findings.add_problem(name, f"lacks {named(missing)}", remedy)
    if strange:
        findings.add_problem(name, f"holds {named(strange)}, which its table does not name", remedy)
    moved = [
        key
        for key, place in expected.items()
        if place is not None and key in tar.members and place != (tar.members[key].offset, tar.members[key].length)
    ]
    if moved:
        findings.add_problem(name, f"has {named(moved)} at another place than its table says", remedy)


def check_strays(
    folder: str, sizes: Mapping[str, int], shards: int, tars: Collection[str], findings: Findings, *, complete: bool
) -> None:
    """Report files in a stage's folder that belong to no shard of the corpus.

    Args:
        folder: Folder of the stage.
        sizes: Sizes of the folder's files, by name.
        shards: Number of shards of the corpus, numbered from 0.
        tars: Tars that the folder's tables name.
        findings: Findings that problems and notes are added to.
        complete: Whether every table could be read, so that `tars` names all of them.
    """
    for name in sorted(sizes):
        if name in tars or name == column_of(folder).description:
            continue
        stem, _, ending = name.partition(".")
        numbered = len(stem) == 6 and stem.isdigit()
        if name.endswith(".parquet") and numbered and ending == "parquet":
            if int(stem) >= shards:
                findings.add_problem(f"{folder}/{name}", f"is a stray shard: the list has {shards:,}", NOT_READ)
        elif name.endswith(".tar") and numbered:
            if complete:
                what = "is an orphan of an interrupted run: no table names it"
                findings.add_problem(f"{folder}/{name}", what, NOT_READ)
        elif folder == DOWNLOAD.folder and numbered and ending == "released":
            continue  # belongs to its table and is checked with it
        elif folder == DOWNLOAD.folder and DRAFT.fullmatch(name):
            if f"{stem}.parquet" in sizes:
                findings.add_problem(
                    f"{folder}/{name}", "is a draft of a table that stands", "the next build deletes it"
                )
            else:
                findings.notes.append(f"{folder}/{name} is of a shard that was being fetched; the next build uses it")
        else:
            findings.add_problem(f"{folder}/{name}", "does not belong here", NOT_READ)


def named(names: Collection[str]) -> str:
    """Return the first three names, and the number of the others."""
    shown = ", ".join(list(names)[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3:,} more"


def _members(path: Path, name: str, findings: Findings, remedy: str) -> dict[str, Member] | None:
    try:
        return list_members(path)
    except (BadTar, OSError) as error:
        findings.add_problem(name, f"is no tar of ours: {first_line(error)}", remedy)
        return None
