"""A corpus: its folder, the settings it was created with, and its manifest. The driver and every worker open it.

The manifest grows in parts. The first part is `manifest.parquet`. Rows that a later manifest adds, and failed clips
that are tried again, become further parts with shards of their own. A part is created exclusively and never changes, so
a shard's rows are fixed once its part exists.
"""

from __future__ import annotations

import functools
import json
import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from vidaudio.config.corpus import LEFT_OUT, CorpusRecipe, CorpusSettings, PackBlock, stable_hash
from vidaudio.config.recipes import check
from vidaudio.corpus.corpus_file import CORPUS_FILE, FORMAT, read_corpus_file
from vidaudio.corpus.manifest_diff import new_rows
from vidaudio.corpus.manifest_parts import ListDamaged, ManifestPart, ManifestPartReader, create_part
from vidaudio.corpus.shard_plan import manifest_hash, plan_shards, planned_tables
from vidaudio.corpus.stored_recipe import RUN_SETTINGS
from vidaudio.corpus.tombstones import read_tombstones
from vidaudio.errors import CorpusError
from vidaudio.hashing import hashed
from vidaudio.manifest import Clip, clips_from_table
from vidaudio.manifest.source import RowSource, TableRows
from vidaudio.shards.open import open_store
from vidaudio.shards.store import Store
from vidaudio.text import is_utf8, shown_name

MANIFEST_FILE = "manifest.parquet"
PART_FILE = "manifest-{:06d}.parquet"
RECORDED_VERSIONS = ("vidaudio", "av", "pillow", "soundfile", "open_clip_torch", "torch", "webdataset", "yt-dlp")


@dataclass(frozen=True, slots=True)
class CorpusRef:
    """Reference with which a task opens its corpus in another process.

    Attributes:
        url: Folder or fsspec URL of the corpus.
        plan_hash: Plan hash of the corpus, over settings and first manifest part.
        list_digest: Digest of all manifest parts that existed. It distinguishes two corpora that were created at the
            same URL one after the other.
    """

    url: str
    plan_hash: str
    list_digest: str


@dataclass(frozen=True)
class Corpus:
    """An opened corpus.

    Attributes:
        store: Store of the corpus's files.
        settings: Settings that decide the corpus's bytes, as it was created, with the dtype resolved. The settings of a
            run are not part of a corpus (`vidaudio.config.corpus.RunSettings`).
        pack: Settings of a pack where no others are given.
        plan_hash: Hash of settings and first manifest part; every committed table contains it.
        parts: Parts of the manifest, in order.
        files: Reader of the parts.
    """

    store: Store
    settings: CorpusSettings
    pack: PackBlock
    plan_hash: str
    parts: tuple[ManifestPart, ...]
    files: ManifestPartReader = field(repr=False, compare=False)

    @property
    def shards(self) -> int:
        """Number of shards over all parts; shards are numbered from 0."""
        return self.parts[-1].first_shard + self.parts[-1].shards

    @property
    def clips(self) -> int:
        """Number of clips; a clip that is tried again counts once."""
        return sum(part.clips for part in self.parts if part.kind != "retry")

    @property
    def url(self) -> str:
        """Folder or URL of the corpus."""
        return self.store.url

    @property
    def ref(self) -> CorpusRef:
        """Reference with which a task opens the corpus."""
        return CorpusRef(self.url, self.plan_hash, self.list_digests()[-1])

    def list_digests(self) -> list[str]:
        """Return a digest of the manifest after each part, in order: that of part `n` covers parts 0 to `n`."""
        digests: list[str] = []
        for part in self.parts:
            digests.append(stable_hash([*digests[-1:], self.files[part.name].digest]))
        return digests

    def rows(self, shard: int) -> list[Clip]:
        """Return the manifest's rows of one shard, as clips."""
        return clips_from_table(self.table(shard))

    def table(self, shard: int) -> pa.Table:
        """Return the manifest's rows of one shard, as a table."""
        return self.files[self._part(shard).name].rows(shard)

    def is_retried(self, shard: int) -> bool:
        """Return whether a shard's clips were tried in an older shard before."""
        return self._part(shard).kind == "retry"

    def _part(self, shard: int) -> ManifestPart:
        return next(p for p in self.parts if p.first_shard <= shard < p.first_shard + p.shards)

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Yield the rows of every part, in order, by row groups; a clip that is tried again occurs once per try."""
        for part in self.parts:
            yield from self.files[part.name].tables(columns)

    def manifest(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return every clip once, completely in memory. A clip that was tried again has the row of its newest shard.

        Args:
            columns: Needed columns, `id` among them; all by default.
        """
        table = pa.concat_tables(self.tables(columns))
        if all(part.kind != "retry" for part in self.parts):
            return table
        # Compare hashes first: the texts of the millions of ids that occur once are not held.
        places = np.flatnonzero(pd.Series(hashed(table["id"])).duplicated(keep=False))
        older = table["id"].take(pa.array(places)).to_pandas().duplicated(keep="last").to_numpy(bool)
        kept = np.ones(table.num_rows, bool)
        kept[places[older]] = False
        return table.filter(pa.array(kept))

    def clips_by_shard(self) -> np.ndarray:
        """Return the number of rows of each shard, int64 `[shards]`."""
        return np.concatenate([self.files[part.name].shard_clips for part in self.parts])

    def grown(self, rows: RowSource, kind: str) -> Corpus:
        """Add a part with `rows` in new shards; return the corpus opened again.

        If another build adds a part at the same time, nothing is written, and the corpus is returned as that build left
        it.

        Args:
            rows: Rows of the new part.
            kind: Why the part is made: `added` or `retry`.
        """
        plan = plan_shards(rows, self.settings.shard_clips)
        name = PART_FILE.format(len(self.parts))
        part = ManifestPart(name, kind, self.shards, len(plan.clips), rows.num_rows)
        create_part(self.store, part, plan.clips, planned_tables(rows, plan, self.shards))
        return open_corpus(self.url)


def check_corpus_name(url: str) -> None:
    """Check that the name of the corpus's folder is UTF-8; Arrow could not open tables in it otherwise.

    Raises:
        CorpusError: When the name is not UTF-8.
    """
    place = str(url) if "://" in str(url) else os.path.abspath(url)
    if not is_utf8(place):
        raise CorpusError(f"the name of the folder {shown_name(place)} is not UTF-8, which a corpus needs; rename it")


def open_corpus(url: str) -> Corpus:
    """Open an existing corpus.

    Raises:
        CorpusError: When there is no corpus, or its format is another than this version reads.
        ListDamaged: When a part of its manifest is missing or cannot be read.
    """
    check_corpus_name(url)
    store = open_store(url)
    if not store.exists(CORPUS_FILE):
        store.list("")  # raises its own error where not even the bucket exists
        raise CorpusError(f"there is no corpus at {url} (no {CORPUS_FILE}); `vidaudio build` makes one")
    described = read_corpus_file(store)
    recipe = check(CorpusRecipe, described["recipe"], f"{url}/{CORPUS_FILE}")
    parts = [ManifestPart(MANIFEST_FILE, "list", 0, described["shards"], described["clips"])]
    sizes = store.list("")
    files = ManifestPartReader(store, sizes)
    further = [name for name in sizes if name.startswith("manifest-") and name.endswith(".parquet")]
    for number in range(1, len(further) + 1):
        # Counted, not listed: if a part were missing, all later shard numbers would mean other clips.
        name = PART_FILE.format(number)
        part = files[name].described
        if part.first_shard != parts[-1].first_shard + parts[-1].shards:
            raise ListDamaged(store.url, name, f"says that its shards begin at {part.first_shard}, which they do not")
        parts.append(part)
    return Corpus(store, recipe.corpus_settings(), recipe.pack, described["plan_hash"], tuple(parts), files)


@functools.lru_cache(maxsize=8)
def cached_corpus(ref: CorpusRef) -> Corpus:
    """Open a corpus, once per process: a worker runs thousands of tasks on the same corpus.

    Args:
        ref: Reference to the corpus that the task was made for; the corpus may have grown since.

    Raises:
        CorpusError: When another corpus exists at the URL by now.
    """
    corpus = open_corpus(ref.url)
    if corpus.plan_hash != ref.plan_hash or ref.list_digest not in corpus.list_digests():
        raise CorpusError(
            f"the corpus at {ref.url} is not the one this task belongs to; was it deleted and begun anew?"
        )
    return corpus


def create_or_open(url: str, recipe: CorpusRecipe, manifest: RowSource | pa.Table) -> Corpus:
    """Create a corpus, or open the existing one if it was created with the same settings.

    Rows of the manifest that the corpus does not have become new shards at its end.

    Args:
        url: Folder or URL of the corpus.
        recipe: Settings, with the dtype resolved.
        manifest: Rows of the manifest, or a table of them.

    Raises:
        CorpusError: When the corpus was created with other settings (the message names every difference), its rows are
            missing from the manifest or changed, or a build of another manifest has just begun or was interrupted
            there. Nothing is changed then.
    """
    check_corpus_name(url)
    store = open_store(url)
    rows = TableRows(manifest) if isinstance(manifest, pa.Table) else manifest
    plan = plan_shards(rows, recipe.shard_clips)
    list_hash = manifest_hash(planned_tables(rows, plan))
    settings = recipe.corpus_settings()
    described = {
        "format": FORMAT,
        "plan_hash": stable_hash({"settings": settings.identity(), "manifest": list_hash}),
        "recipe": recipe.model_dump(mode="json", exclude=RUN_SETTINGS),
        "identity": settings.identity(),
        "manifest_sha256": list_hash,
        "clips": rows.num_rows,
        "shards": len(plan.clips),
        "versions": {name: version(name) for name in RECORDED_VERSIONS},
        "machine": platform.machine(),
    }
    if not store.exists(CORPUS_FILE):
        # Write the manifest first: a corpus exists once corpus.json does, and must then be complete.
        part = ManifestPart(MANIFEST_FILE, "list", 0, len(plan.clips), rows.num_rows)
        first = create_part(store, part, plan.clips, planned_tables(rows, plan))
        if not first and _standing_hash(store) != list_hash and not store.exists(CORPUS_FILE):
            raise CorpusError(
                f"{url} holds the {MANIFEST_FILE} of another list and no {CORPUS_FILE}: a build has just begun there, "
                f"or was interrupted as it began; name another folder, or delete {MANIFEST_FILE}"
            )
        store.create(CORPUS_FILE, json.dumps(described, indent=2, sort_keys=True).encode() + b"\n")
    check_settings(url, settings)
    standing = read_corpus_file(store)
    corpus = open_corpus(url)
    if standing.get("manifest_sha256") == list_hash:
        return corpus
    while (added := new_rows(corpus.url, corpus.tables, rows, read_tombstones(store))) is not None:
        corpus = corpus.grown(added, "added")
    return corpus


def check_settings(url: str, settings: CorpusSettings) -> None:
    """Check that an existing corpus was created with these settings.

    Args:
        url: Folder or URL of the corpus.
        settings: Requested settings, with the dtype resolved.

    Raises:
        CorpusError: When it was created with other settings; the message names every difference.
    """
    check_corpus_name(url)
    standing = read_corpus_file(open_store(url))
    # Settings that the identity omits have their default value.
    was, now = (LEFT_OUT | _flat(values) for values in (standing.get("identity", {}), settings.identity()))
    lines = [f"{key}: {was.get(key)!r} there, {now.get(key)!r} now" for key in sorted(now) if was.get(key) != now[key]]
    if lines:
        raise CorpusError(
            f"the corpus at {url} was begun with other settings, and committed shards never change: "
            f"{'; '.join(lines)}. Name another folder, or take the settings back."
        )


def _standing_hash(store: Store) -> str:
    return manifest_hash(ManifestPartReader(store, store.list(""))[MANIFEST_FILE].tables())


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
