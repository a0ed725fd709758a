"""`keep-list`: the clips of a pack as a list in VGGSound's form, to publish or to build elsewhere.

A row is `YouTube id, start in seconds, label, split`, without a header; every clip is 10 s long. A pack with clips of
another kind is refused whole, because the form cannot describe them. `vidaudio manifest vggsound` reads the list.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from vidaudio.corpus.corpus import Corpus, open_corpus
from vidaudio.corpus.superseded import superseded
from vidaudio.errors import CorpusError, PackError, UsageError
from vidaudio.files import atomic_write
from vidaudio.hashing import find_hashes, hashed
from vidaudio.manifest.vggsound import CLIP_SECONDS
from vidaudio.manifest.youtube import VIDEO_ID
from vidaudio.packs.description import PACK_FILE, read_pack_file
from vidaudio.paths import local_target
from vidaudio.shards.parallel_read import read_tables
from vidaudio.text import number_of

SPLITS = ("train", "val", "test")
_COLUMNS = ("id", "source", "start_seconds", "end_seconds", "labels", "shard")


@dataclass(frozen=True, slots=True)
class KeepList:
    """A written list.

    Attributes:
        path: Path of the file.
        clips: Number of its rows.
    """

    path: str
    clips: int

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-serializable dict for `--json`."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.path}: {number_of(self.clips, 'clip')}"


def keep_list(corpus: str, path: str | Path, *, pack: str = "default") -> KeepList:
    """Write the clips of a pack, with their splits there, as a list in VGGSound's form; manifest order.

    Args:
        corpus: Folder or fsspec URL of the corpus.
        path: File to write; an existing one is replaced when the new one is complete.
        pack: Name of the pack.

    Raises:
        CorpusError: When there is no such corpus or pack, or a clip cannot be said in this form: one that is not from
            YouTube, is not 10 s long, has not exactly one label, or is in a split other than train, val and test.
            Nothing is written then.
        UsageError: When the file cannot be written, or is at a URL.
    """
    opened = open_corpus(corpus)
    target = local_target(path, "keep-lists")
    splits = _PackedClips(opened, pack)
    clips = 0
    try:
        with atomic_write(target) as temporary, temporary.open("w", newline="", encoding="utf-8") as sink:
            table = csv.writer(sink, lineterminator="\n")
            for row, split in splits.rows():
                table.writerow(_line(row, split))
                clips += 1
    except OSError as error:
        raise UsageError(f"cannot write {target}: {error.strerror}; name another file") from error
    return KeepList(str(target), clips)


class _PackedClips:
    """The clips of a pack: a hash of each id and its split, some ten bytes a clip."""

    def __init__(self, corpus: Corpus, name: str) -> None:
        folder = f"training/{name}"
        if "/" in name or not corpus.store.exists(f"{folder}/{PACK_FILE}"):
            names = ", ".join(corpus.store.folders("training")) or "none"
            raise PackError(f"{corpus.url} has no pack {name!r}; its packs are: {names}")
        self._corpus = corpus
        hashes: list[np.ndarray] = []
        codes: list[np.ndarray] = []
        self._names: list[str] = []
        shards = read_pack_file(corpus.store, folder).shards
        tables = read_tables(corpus.store, (f"{folder}/{shard}.parquet" for shard in shards), columns=("id", "split"))
        for table, _ in tables:
            hashes.append(hashed(table["id"]))
            codes.append(np.array([self._code(split) for split in table["split"].to_pylist()], np.int16))
        # A clip may have several samples, all of one split.
        self._hashes, first = np.unique(np.concatenate([np.zeros(0, np.uint64), *hashes]), return_index=True)
        self._codes = np.concatenate([np.zeros(0, np.int16), *codes])[first]

    def _code(self, split: str) -> int:
        if split not in self._names:
            self._names.append(split)
        return self._names.index(split)

    def rows(self) -> Iterator[tuple[dict[str, Any], str]]:
        """Yield the manifest row and the split of every clip, in manifest order."""
        if not len(self._hashes):
            return
        older = superseded(self._corpus)
        for table in self._corpus.tables(list(_COLUMNS)):
            places, found = find_hashes(self._hashes, hashed(table["id"]))
            own = table.filter(pa.array(found)).to_pylist()
            for row, place in zip(own, places[found].tolist(), strict=True):
                if older.is_current(row["shard"], [row["id"]])[0]:
                    yield row, self._names[self._codes[place]]


def _line(row: dict[str, Any], split: str) -> tuple[str, str, str, str]:
    site, _, video = row["source"].partition(":")
    start, end, labels = row["start_seconds"], row["end_seconds"], row["labels"] or []
    if site != "youtube" or not VIDEO_ID.fullmatch(video):
        raise _cannot_say(row, f"is of {row['source'][:80]}, which is no YouTube video")
    if end is None or abs(end - start - CLIP_SECONDS) > 1e-6:
        raise _cannot_say(row, "has no end" if end is None else f"is {end - start:g} s long")
    if len(labels) != 1:
        raise _cannot_say(row, f"has {number_of(len(labels), 'label')}")
    if split not in SPLITS:
        raise _cannot_say(row, f"is in the split {split!r}")
    (label,) = labels
    return video, str(int(start)) if start == int(start) else repr(start), label, split


def _cannot_say(row: dict[str, Any], what: str) -> CorpusError:
    return CorpusError(
        f"no list in VGGSound's form can hold these clips: {row['id']} {what}, and a row there is a YouTube id, the "
        "start of 10 s, one label, and train, val or test; `vidaudio export` writes a csv of any clips"
    )
