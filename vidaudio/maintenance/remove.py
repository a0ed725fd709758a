"""`remove`: deletes clips from a corpus for good, from every column and pack, so that they are never fetched again.

The tombstones are written first. An interrupted removal is finished by the same command, by the next build or by any
other removal. Data that a simultaneous build commits late is removed in the same way. A damaged file does not stop the
removal: it is reported at the end, and its part is done after it is repaired.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from tqdm import tqdm

from vidaudio.corpus.columns import tar_folders
from vidaudio.corpus.corpus import Corpus, open_corpus
from vidaudio.corpus.media_retention import settle_drafts
from vidaudio.corpus.search_files import drop_search_indices
from vidaudio.corpus.tombstones import read_tombstones, write_tombstones
from vidaudio.errors import CorpusError, UsageError
from vidaudio.maintenance.outcome_counts import SNAPSHOT_FILE
from vidaudio.maintenance.purge_packs import purge_packs
from vidaudio.maintenance.purge_shards import purge_shard
from vidaudio.maintenance.removal_errors import RemovalIncomplete
from vidaudio.manifest import CLIP_ID
from vidaudio.packs.input_cache import drop_all_sources
from vidaudio.shards.corruption import CorruptionLog
from vidaudio.shards.maintenance_lock import maintenance_lock
from vidaudio.shards.orphans import sweep_orphans
from vidaudio.shards.scratch import sweep_scratch
from vidaudio.text import number_of

# Unknown entries shown in messages; `--json` contains all of them.
SHOWN = 20
HASH_IS_PART = "a # in a source that has spaces is part of its name: give the comment a line of its own"
_COMMENT = re.compile(r"\s+#")
# A file may be named `a #2.mp4`, so after a file a comment needs whitespace on both sides of `#`: nobody names a file
# `a # 2.mp4`. No site uses whitespace and `#` in a video id.
_COMMENT_BEHIND_A_FILE = re.compile(r"\s+#(?=\s|$)")


@dataclass(frozen=True, slots=True)
class Removal:
    """Result of a removal.

    Attributes:
        corpus: URL of the corpus.
        clips: Number of clips in the corpus that the entries name.
        newly: Number of these clips that were not removed before.
        tables: Number of column tables that were replaced.
        samples: Number of samples removed from packs.
        unknown: Entries that match nothing in the corpus.
    """

    corpus: str
    clips: int
    newly: int
    tables: int
    samples: int
    unknown: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-serializable dict for `--json`."""
        return asdict(self) | {"unknown": list(self.unknown)}

    def __str__(self) -> str:
        text = (
            f"{self.corpus}: {number_of(self.clips, 'clip is', 'clips are')} removed, {self.newly:,} of them now: "
            f"{number_of(self.tables, 'table was', 'tables were')} replaced, "
            f"{number_of(self.samples, 'training sample is', 'training samples are')} gone"
        )
        if not self.unknown:
            return text
        entries = number_of(len(self.unknown), "entry names", "entries name")
        text = f"{text}\n  {entries} nothing in this corpus, of which nothing was removed: {_first_of(self.unknown)}"
        if any("#" in entry for entry in self.unknown):
            text += f"\n  {HASH_IS_PART}"
        return text


def read_ids(path: str | Path) -> list[str]:
    """Read a list of clips to remove or export: one clip id or source per line, with `#` for comments.

    After an id or a source, a comment begins at a `#` with whitespace before it (for files, on both sides). If the
    source itself contains whitespace, the whole line is the source.

    Raises:
        UsageError: When the file cannot be read, is not text, names no clip, or has a line that is neither a clip id
            nor a source; the message names the line.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is no text file (UTF-8): one clip id or source a line is wanted") from error
    entries: dict[str, None] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        entry = _without_comment(line.strip())
        if not entry or entry.startswith("#"):
            continue
        if not CLIP_ID.fullmatch(entry) and not _is_source(entry):
            raise UsageError(
                f"{path}, line {number}: {entry[:80]!r} is neither a clip id (letters, digits, _ and -) nor a source "
                "(site:video)"
            )
        entries[entry] = None
    if not entries:
        raise UsageError(f"{path} names no clips: one clip id or source (site:id) a line is wanted")
    return list(entries)


def _without_comment(line: str) -> str:
    bare = _COMMENT.split(line, maxsplit=1)[0]
    if CLIP_ID.fullmatch(bare):
        return bare
    behind = _COMMENT_BEHIND_A_FILE if line.startswith("file:") else _COMMENT
    bare = behind.split(line, maxsplit=1)[0]
    return bare if _is_source(bare) and not re.search(r"\s", bare) else line


def remove(
    corpus: str,
    entries: Sequence[str],
    *,
    note: str | None = None,
    ignore_unknown: bool = False,
    progress: bool = True,
) -> Removal:
    """Remove clips from a corpus for good.

    Args:
        corpus: Folder or fsspec URL of the corpus.
        entries: Clip ids, and sources (`site:video id`) for all clips of a video, including those of later manifests.
        note: Reason for the removal, stored with the tombstones.
        ignore_unknown: Whether to accept that no entry matches anything, so that one list can serve several corpora.
        progress: Whether to show a progress bar.

    Returns:
        Counts of what was removed. Callers that must be sure check `unknown`, the entries for which nothing was done.

    Raises:
        CorpusError: When the corpus does not exist, no entry matches anything in it, or another process holds its
            maintenance lock.
        RemovalIncomplete: When files that may contain the clips are damaged; everything else is done.
    """
    opened = open_corpus(corpus)
    with maintenance_lock(opened.store):
        before = read_tombstones(opened.store)
        ids = frozenset(entry for entry in entries if not _is_source(entry))
        sources = frozenset(entries) - ids
        found = {clip: source for clip, source, _ in _rows(opened, ids, sources)}
        known = {*found, *found.values(), *before.ids, *before.sources}
        unknown = tuple(entry for entry in entries if entry not in known)
        if len(unknown) == len(entries) and not ignore_unknown:
            raise CorpusError(
                f"{corpus} has nothing of what is to be removed ({_first_of(unknown)}); nothing was changed. An entry "
                "is a clip id as the list, the tables and the training samples have it, or a source (site:video)"
                f"{f'. {HASH_IS_PART}' if any('#' in entry for entry in unknown) else ''}"
            )
        new = {clip: source for clip, source in found.items() if clip not in before.ids}
        new_sources = sorted((sources & set(found.values())) - before.sources)
        if new or new_sources:
            write_tombstones(opened.store, new, new_sources, note)
        tables, samples = _enforce(opened, progress=progress)
    return Removal(opened.url, len(found), len(new), tables, samples, unknown)


def enforce_removals(corpus: Corpus) -> None:
    """Finish what earlier removals left undone in a corpus.

    Call only while holding `maintenance_lock`. The call is cheap if nothing was ever removed.

    Raises:
        RemovalIncomplete: As for `remove`.
    """
    if read_tombstones(corpus.store):
        _enforce(corpus, progress=False)


def _enforce(corpus: Corpus, *, progress: bool) -> tuple[int, int]:
    """Purge every shard and pack of removed clips; return the tables replaced and the samples removed."""
    removed = read_tombstones(corpus.store)
    drop_search_indices(corpus.store, removed.tables)
    by_shard: dict[int, set[str]] = {}
    for clip, _, shard in _rows(corpus, removed.ids, removed.sources):
        by_shard.setdefault(shard, set()).add(clip)
    tables = 0
    damage = CorruptionLog()
    for shard in tqdm(sorted(by_shard), desc="removing", unit="shard", disable=not progress, dynamic_ncols=True):
        with damage.collecting():
            settle_drafts(corpus, shard)
        tables += purge_shard(corpus, shard, by_shard[shard], damage)
    samples = purge_packs(corpus, removed, damage)
    drop_all_sources(corpus.store)
    # Delete old tars that interrupted purges left, and what dead processes still hold of the clips.
    for folder in tar_folders(corpus.store):
        with damage.collecting():
            sweep_orphans(corpus.store, folder)
    root = corpus.store.local_path("")
    if root is not None:
        sweep_scratch(root)
    if tables or samples:
        # The cached counts are of tables that were replaced; `status` counts again.
        corpus.store.remove(SNAPSHOT_FILE)
    if damage.found:
        raise RemovalIncomplete(corpus, damage.found)
    return tables, samples


def _rows(corpus: Corpus, ids: Collection[str], sources: Collection[str]) -> Iterator[tuple[str, str, int]]:
    """Yield id, source and shard of the named manifest rows; a clip that was tried again has several rows."""
    wanted_ids, wanted_sources = pa.array(sorted(ids), pa.string()), pa.array(sorted(sources), pa.string())
    for table in corpus.tables(["id", "source", "shard"]):
        rows = table.filter(pc.or_(pc.is_in(table["id"], wanted_ids), pc.is_in(table["source"], wanted_sources)))
        yield from zip(*(rows[name].to_pylist() for name in ("id", "source", "shard")), strict=True)


def _first_of(entries: Sequence[str]) -> str:
    return ", ".join(entries[:SHOWN]) + (" ..." if len(entries) > SHOWN else "")


def _is_source(entry: str) -> bool:
    site, colon, video = entry.partition(":")
    return bool(site and colon and video) and entry.isprintable()
