"""`build --dry-run`: what a build would do, counted from the list and from what is committed, without doing it.

The list is read in pieces, as a build reads it; what stays in memory are a few numbers a row.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vidaudio.manifest.source import RowSource, hashed
from vidaudio.pipeline.checks import check_run
from vidaudio.pipeline.corpus import CORPUS_FILE, Corpus, open_corpus
from vidaudio.pipeline.growth import added_rows, barred
from vidaudio.pipeline.keep import check_keep, drafted_shards
from vidaudio.pipeline.pack_plan import check_selection
from vidaudio.pipeline.plan import plan_shards
from vidaudio.pipeline.recipe import CorpusRecipe, required_paths, wanted_stages
from vidaudio.pipeline.released import shards_without_media
from vidaudio.pipeline.tombstones import Tombstones, read_tombstones
from vidaudio.shards.commit import committed_shards
from vidaudio.shards.store import open_store

# One extraction of the page and one transfer; sites with separate sound and picture take one transfer more.
REQUESTS_PER_SOURCE = 2
_CLIPS_TAR = re.compile(r"(\d{6,})\.[0-9a-f]{8}\.tar")
# Rows of a list, in pieces, as often as they are asked for.
Pieces = Callable[[], Iterator[pa.Table]]


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """What a build would do.

    Attributes:
        corpus: Where.
        exists: Whether it has been begun.
        clips, sources, shards: Of the list.
        missing_shards: By stage, those that are not committed.
        without_media: Shards that would be extracted, and whose media were not kept: the build says so, and how they
            are fetched again.
        requests: At least so many to sites, for the shards that are not downloaded.
        requests_by_site: The same by site.
        local_bytes: Of the local files that would be read.
        missing_files: Local paths that are not there.
        released_shards, released_bytes: Tars with raw media that stand, and would be deleted (`download.keep`).
    """

    corpus: str
    exists: bool
    clips: int
    sources: int
    shards: int
    missing_shards: dict[str, int]
    without_media: int
    requests: int
    requests_by_site: dict[str, int]
    local_bytes: int
    missing_files: int
    released_shards: int
    released_bytes: int

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)

    def __str__(self) -> str:
        lines = [
            f"{self.corpus}: {'goes on' if self.exists else 'would be begun'}; {self.clips:,} clips of "
            f"{self.sources:,} sources in {self.shards:,} shards"
        ]
        for stage, shards in self.missing_shards.items():
            lines.append(f"  {stage:<10}{shards:>9,} shards to do")
        if self.without_media:
            lines.append(
                f"  {'':<10}{self.without_media:>9,} of them to extract and without media (download.keep): the build "
                "says how they are fetched again"
            )
        sites = ", ".join(f"{site} {count:,}" for site, count in sorted(self.requests_by_site.items()))
        lines.append(f"  {'requests':<10}{self.requests:>9,} at least{f': {sites}' if sites else ''}")
        lines.append(f"  {'local':<10}{self.local_bytes / 1e6:>9,.0f} MB to read, {self.missing_files:,} files missing")
        if self.released_shards:
            lines.append(
                f"  {'media':<10}{self.released_bytes / 1e6:>9,.0f} MB of {self.released_shards:,} shards would be "
                "deleted (download.keep)"
            )
        return "\n".join(lines)


def dry_run(
    recipe: CorpusRecipe, manifest: str | None = None, corpus: str | None = None, *, only: Sequence[str] | None = None
) -> BuildPlan:
    """Count what a build would do; arguments as for `build`. Nothing is written and no encoder is loaded.

    Raises:
        ManifestError, CorpusError, RecipeError: As the build would, for a missing list, one that is not the corpus's,
            an unknown stage, options that nobody knows.
    """
    from vidaudio.manifest.source import open_manifest

    stages = wanted_stages(only)
    where, path = required_paths(recipe, manifest, corpus)
    listed = open_manifest(path)
    check_run(recipe, stages)
    if "pack" in stages:
        check_selection(recipe.pack)
    check_keep(recipe.download.keep, stages)
    standing = open_corpus(where) if open_store(where).exists(CORPUS_FILE) else None
    added: RowSource | None = listed
    removed = Tombstones()
    if standing is not None:
        removed = read_tombstones(standing.store)
        added = added_rows(standing.url, standing.tables, listed, removed)
    old_shards = standing.shards if standing is not None else 0
    new_shards = len(plan_shards(added, recipe.shard_clips).clips) if added is not None else 0
    missing = _missing(standing, [stage for stage in stages if stage != "pack"], old_shards)
    to_fetch = _Fetches(functools.partial(_to_fetch, standing, missing.get("download"), removed, added))
    released = _released(recipe, standing, missing) if standing is not None else {}
    return BuildPlan(
        corpus=where,
        exists=standing is not None,
        clips=(standing.clips if standing is not None else 0) + (added.num_rows if added is not None else 0),
        sources=_count_sources(standing, added),
        shards=old_shards + new_shards,
        missing_shards={stage: int(np.count_nonzero(shards)) + new_shards for stage, shards in missing.items()},
        without_media=_count_without_media(standing, missing) if standing is not None else 0,
        requests=REQUESTS_PER_SOURCE * to_fetch.by_site.total(),
        requests_by_site={site: REQUESTS_PER_SOURCE * count for site, count in to_fetch.by_site.items()},
        local_bytes=to_fetch.local_bytes,
        missing_files=to_fetch.missing_files,
        released_shards=len(released),
        released_bytes=sum(released.values()),
    )


def _missing(standing: Corpus | None, stages: Sequence[str], shards: int) -> dict[str, np.ndarray]:
    """By wanted stage, which of the shards that the corpus has are not committed: bool `[shards]`."""
    done = _committed(standing) if standing is not None else {}
    missing = {}
    for stage in stages:
        missing[stage] = np.ones(shards, bool)
        missing[stage][[shard for shard in done.get(stage, ()) if shard < shards]] = False
    return missing


def _committed(corpus: Corpus) -> dict[str, set[int]]:
    """Shards that each stage has committed; of several encoders the one that is furthest."""
    embedded = [committed_shards(corpus.store, f"embeddings/{name}") for name in corpus.store.folders("embeddings")]
    # What was fetched and extracted in one go and killed between the two commits is known, and not fetched again.
    return {
        "download": committed_shards(corpus.store, "clips") | drafted_shards(corpus),
        "extract": committed_shards(corpus.store, "av"),
        "embed": max(embedded, key=len, default=set()),
    }


def _to_fetch(
    standing: Corpus | None, missing: np.ndarray | None, removed: Tombstones, added: RowSource | None
) -> Iterator[pa.Table]:
    """Source and URL of the rows that a build would fetch; none where it does not download (`missing` None)."""
    if missing is None:
        return
    if standing is not None and missing.any():
        for table in standing.tables(["id", "source", "url", "shard"]):
            waiting = missing[table["shard"].to_numpy()]
            if removed:
                # A clip that was removed is never asked for again.
                waiting &= ~barred(table, removed)
            yield table.filter(pa.array(waiting)).select(["source", "url"])
    if added is not None:
        yield from added.tables(["source", "url"])


class _Fetches:
    """What fetching these rows asks of sites and of the disk: every source and URL once, every local file once.

    Attributes:
        by_site: Sources to ask.
        local_bytes, missing_files: Of the local files.
    """

    def __init__(self, pieces: Pieces) -> None:
        self.by_site: Counter[str] = Counter()
        self.local_bytes = self.missing_files = 0
        # By hashes, so that ten million of them take little memory: which row is the first of its kind.
        first = _first_of_each(_kind(table) for table in pieces())
        begin = 0
        for table in pieces():
            rows = table.filter(pa.array(first[begin : begin + table.num_rows]))
            begin += table.num_rows
            self._add(rows)

    def _add(self, rows: pa.Table) -> None:
        remote = pc.match_substring(rows["url"], "://")
        sites = pc.list_element(pc.split_pattern(rows["source"].filter(remote), ":", max_splits=1), 0)
        self.by_site.update(dict(_pairs(pc.value_counts(sites))))
        for url in rows["url"].filter(pc.invert(remote)).to_pylist():
            path = Path(url)
            if path.is_file():
                self.local_bytes += path.stat().st_size
            else:
                self.missing_files += 1


def _kind(table: pa.Table) -> np.ndarray:
    """A hash of what a row asks for: of a site, its source and URL; of the disk, its path. uint64 `[rows]`."""
    urls = hashed(table["url"])
    remote = pc.match_substring(table["url"], "://").to_numpy()
    return np.where(remote, urls ^ (hashed(table["source"]) * np.uint64(3)), urls)


def _first_of_each(pieces: Iterable[np.ndarray]) -> np.ndarray:
    """Which values come for the first time: bool over all pieces."""
    values = np.concatenate([np.zeros(0, np.uint64), *pieces])
    first = np.zeros(len(values), bool)
    first[np.unique(values, return_index=True)[1]] = True
    return first


def _pairs(counts: pa.StructArray) -> Iterator[tuple[str, int]]:
    return zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True)


def _count_sources(standing: Corpus | None, added: RowSource | None) -> int:
    """Sources over all rows, old and new."""
    old = standing.tables(["source"]) if standing is not None else ()
    new = added.tables(["source"]) if added is not None else ()
    return len(np.unique(np.concatenate([hashed(table["source"]) for table in chain(old, new)])))


def _count_without_media(corpus: Corpus, missing: Mapping[str, np.ndarray]) -> int:
    """Shards that would be extracted from media that are not there any more."""
    if "extract" not in missing:
        return 0
    downloaded = committed_shards(corpus.store, "clips")
    return len(
        shards_without_media(corpus.store, sorted(downloaded & set(np.flatnonzero(missing["extract"]).tolist())))
    )


def _released(recipe: CorpusRecipe, corpus: Corpus, missing: Mapping[str, np.ndarray]) -> dict[int, int]:
    """Shards with raw media that would be deleted, and bytes: they are extracted, or will be."""
    names = corpus.store.list("clips")
    standing = {int(match[1]): size for name, size in names.items() if (match := _CLIPS_TAR.fullmatch(name))}
    going = committed_shards(corpus.store, "av")
    if recipe.download.keep == "all":
        # A deletion that was interrupted is finished whatever the run's own setting is.
        standing = {shard: size for shard, size in standing.items() if f"{shard:06d}.released" in names}
    elif "extract" in missing:
        going |= set(np.flatnonzero(missing["extract"]).tolist())
    return {shard: size for shard, size in standing.items() if shard in going and f"{shard:06d}.parquet" in names}
