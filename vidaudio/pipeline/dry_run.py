"""`build --dry-run`: counts what a build would do, from the manifest and the committed shards, without doing it.

The manifest is read in pieces, as a build reads it; only a few numbers a row stay in memory.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any

import numpy as np

from vidaudio.config.corpus import CorpusRecipe
from vidaudio.corpus.columns import DOWNLOAD, EXTRACT, columns_in_order
from vidaudio.corpus.corpus import Corpus
from vidaudio.corpus.listing import Listings, list_stages
from vidaudio.corpus.manifest_diff import new_rows
from vidaudio.corpus.media_retention import drafted_shards, shards_without_media
from vidaudio.corpus.shard_plan import plan_shards
from vidaudio.corpus.tombstones import Tombstones, read_tombstones
from vidaudio.hashing import hashed
from vidaudio.manifest.source import RowSource
from vidaudio.packs.preview import PackPreview, fullest_models, plan_packing
from vidaudio.pipeline.preflight import Request, check_request, read_request
from vidaudio.pipeline.request_estimate import RequestEstimate, rows_to_fetch
from vidaudio.pipeline.retry import nothing_retried, retried_rows
from vidaudio.pipeline.shard_tasks import check_order
from vidaudio.pipeline.stages import PACK, use_vectors
from vidaudio.pipeline.stages.embed import check_encoder_named
from vidaudio.pipeline.up_to_date import is_up_to_date, request_hash
from vidaudio.shards.commit import committed_shards_in
from vidaudio.text import number_of

# Extracting the page and one transfer. Sites with separate audio and video need one transfer more; a deleted video
# needs none.
REQUESTS_PER_SOURCE = 2
_CLIPS_TAR = re.compile(r"(\d{6,})\.[0-9a-f]{8}\.tar")


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """What a build would do.

    Attributes:
        corpus: Folder or URL of the corpus.
        exists: Whether the corpus exists already.
        clips, sources, shards: Numbers of the whole corpus after the build's new rows are added.
        missing_shards: Number of uncommitted shards by stage.
        pack: What would be packed; None where packing is not requested.
        retried_clips: Number of failed clips that are planned once more, into shards of their own (`--retry-failed`).
        nothing_retried: Why no clip is retried; None where clips are retried or no retry is requested.
        without_media: Number of shards that would be extracted but whose media were not kept. The build refuses these
            and says how to fetch them again.
        requests: Estimated number of requests to sites for the shards that are not downloaded: a page and a file a
            source.
        requests_by_site: The same estimate by site, under the names that the rate limiter uses.
        web_sources: Number of sources that would be fetched from sites; their bytes are known only after the fetch.
        local_bytes: Bytes of the local files that would be read.
        missing_files: Number of local paths that do not exist.
        released_shards, released_bytes: Number and bytes of existing tars with raw media that would be deleted
            (`download.keep`).
    """

    corpus: str
    exists: bool
    clips: int
    sources: int
    shards: int
    missing_shards: dict[str, int]
    pack: PackPreview | None
    retried_clips: int
    nothing_retried: str | None
    without_media: int
    requests: int
    requests_by_site: dict[str, int]
    web_sources: int
    local_bytes: int
    missing_files: int
    released_shards: int
    released_bytes: int

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as a dictionary that JSON can hold."""
        return asdict(self)

    def __str__(self) -> str:
        lines = [
            f"{self.corpus}: {'goes on' if self.exists else 'would be begun'}; {number_of(self.clips, 'clip')} of "
            f"{number_of(self.sources, 'source')} in {number_of(self.shards, 'shard')}"
        ]
        if self.retried_clips:
            lines.append(f"  {'retry':<10}{_count(self.retried_clips, 'clip')} that failed, in shards of their own")
        if self.nothing_retried:
            lines.append(f"  {'retry':<10}{0:>9} clips: {self.nothing_retried}")
        for stage, shards in self.missing_shards.items():
            lines.append(f"  {stage:<10}{_count(shards, 'shard')} to do")
        if self.without_media:
            lines.append(
                f"  {'':<10}{self.without_media:>9,} of them to extract and without media (download.keep): the build "
                "says how they are fetched again"
            )
        if self.pack is not None:
            lines.append(f"  {'pack':<10}{self.pack}")
        sites = ", ".join(f"{site} {count:,}" for site, count in sorted(self.requests_by_site.items()))
        lines.append(f"  {'requests':<10}{self.requests:>9,} or so{f': {sites}' if sites else ''}")
        lines.append(f"  {'local':<10}{self.local_bytes / 1e6:>9,.0f} MB to read, {self.missing_files:,} files missing")
        if self.web_sources:
            sources = _count(self.web_sources, "source")
            lines.append(f"  {'web':<10}{sources} to fetch; their bytes are known once they are fetched")
        if self.released_shards:
            freed, released = f"{self.released_bytes / 1e6:>9,.0f} MB", number_of(self.released_shards, "shard")
            lines.append(f"  {'media':<10}{freed} of {released} would be deleted (download.keep)")
        return "\n".join(lines)


def _count(number: int, one: str) -> str:
    """Return `number_of` with the number right-aligned, so that the numbers of all lines form a column."""
    return f"{number:>9,}{number_of(number, one).removeprefix(f'{number:,}')}"


def dry_run(
    recipe: CorpusRecipe,
    manifest: str | None = None,
    corpus: str | None = None,
    *,
    only: str | Sequence[str] | None = None,
    retry_failed: str | Collection[str] | None = None,
) -> BuildPlan:
    """Count what a build would do; the arguments are those of `build`. Writes nothing and loads no encoder.

    Raises:
        ManifestError, CorpusError, RecipeError, EncoderError: When the build would raise them, by the same checks. Only
            two checks are left to the build: those that need an encoder's weights, and those of a pack over shards that
            do not exist yet.
    """
    from vidaudio.manifest.source import open_manifest

    request = read_request(recipe, manifest, corpus, only=only, retry_failed=retry_failed)
    listed = open_manifest(request.list_path)
    check_request(request)
    recipe, standing, stages = request.recipe, request.standing, request.stages
    if standing is None and use_vectors(stages):
        # check_request has compared an existing corpus's encoder with the recipe's already.
        check_encoder_named(recipe.corpus_settings())
    added: RowSource | None = listed
    retried: RowSource | None = None
    removed = Tombstones()
    listings: Listings = {}
    finished = False
    if standing is not None:
        asked = request_hash(recipe, request.list_path, stages)
        unchanged = is_up_to_date(standing, asked) if PACK in stages else None
        finished, listings = unchanged is not None, unchanged or list_stages(standing)
        removed = read_tombstones(standing.store)
        added = new_rows(standing.url, standing.tables, listed, removed)
        retried = retried_rows(standing, request.reasons) if request.reasons is not None else None
    new = [rows for rows in (added, retried) if rows is not None and rows.num_rows]
    old_shards = standing.shards if standing is not None else 0
    new_shards = sum(len(plan_shards(rows, recipe.shard_clips).clips) for rows in new)
    done = _done(standing, listings, old_shards, new_shards)
    check_order(stages, done)
    missing = {stage: ~done[stage] for stage in stages if stage != PACK}
    old_missing = {stage: shards[:old_shards] for stage, shards in missing.items()}
    fetches = RequestEstimate(
        functools.partial(rows_to_fetch, standing, old_missing.get(DOWNLOAD.stage), removed, new),
        recipe.download,
    )
    released = _released(recipe, listings, old_missing)
    packing = None
    if PACK in stages:
        packing = plan_packing(recipe, standing, listings, missing, done, finished=finished)
    return BuildPlan(
        corpus=request.where,
        exists=standing is not None,
        clips=(standing.clips if standing is not None else 0) + (added.num_rows if added is not None else 0),
        sources=_count_sources(standing, added),
        shards=old_shards + new_shards,
        missing_shards={stage: int(np.count_nonzero(shards)) for stage, shards in missing.items()},
        pack=packing,
        retried_clips=retried.num_rows if retried is not None else 0,
        nothing_retried=_why_nothing_is_retried(request, retried),
        without_media=_count_without_media(standing, listings, old_missing) if standing is not None else 0,
        requests=REQUESTS_PER_SOURCE * fetches.by_site.total(),
        requests_by_site={site: REQUESTS_PER_SOURCE * count for site, count in fetches.by_site.items()},
        web_sources=fetches.by_site.total(),
        local_bytes=fetches.local_bytes,
        missing_files=fetches.missing_files,
        released_shards=len(released),
        released_bytes=sum(released.values()),
    )


def _why_nothing_is_retried(request: Request, retried: RowSource | None) -> str | None:
    """Return why no clip is retried; None where clips are retried or no retry is requested."""
    if request.standing is None or request.reasons is None or (retried is not None and retried.num_rows):
        return None
    return nothing_retried(request.standing, request.reasons)


def _done(standing: Corpus | None, listings: Listings, shards: int, new_shards: int) -> dict[str, np.ndarray]:
    """Return by column's stage which shards of the future corpus are committed, bool `[shards + new_shards]`."""
    committed = _committed(standing, listings) if standing is not None else {}
    done = {}
    for column in columns_in_order():
        done[column.stage] = np.zeros(shards + new_shards, bool)
        done[column.stage][[shard for shard in committed.get(column.stage, ()) if shard < shards]] = True
    return done


def _committed(corpus: Corpus, listings: Listings) -> dict[str, set[int]]:
    """Return the shards that each stage has committed."""
    models = fullest_models(corpus, listings)
    known = [column for column in columns_in_order() if not column.per_model or column.stage in models]
    committed = {column.stage: committed_shards_in(listings[column.folder_for(models)]) for column in known}
    # A shard that was fetched and extracted in one task and killed between the two commits is not fetched again.
    return committed | {DOWNLOAD.stage: committed[DOWNLOAD.stage] | drafted_shards(corpus)}


def _count_sources(standing: Corpus | None, added: RowSource | None) -> int:
    """Return the number of distinct sources over old and new rows."""
    old = standing.tables(["source"]) if standing is not None else ()
    new = added.tables(["source"]) if added is not None else ()
    return len(np.unique(np.concatenate([hashed(table["source"]) for table in chain(old, new)])))


def _count_without_media(corpus: Corpus, listings: Listings, missing: Mapping[str, np.ndarray]) -> int:
    """Return the number of shards that would be extracted but whose media no longer exist."""
    if EXTRACT.stage not in missing:
        return 0
    downloaded = committed_shards_in(listings[DOWNLOAD.folder])
    return len(
        shards_without_media(corpus.store, sorted(downloaded & set(np.flatnonzero(missing[EXTRACT.stage]).tolist())))
    )


def _released(recipe: CorpusRecipe, listings: Listings, missing: Mapping[str, np.ndarray]) -> dict[int, int]:
    """Return the shards whose raw media would be deleted, because they are or will be extracted, and the bytes."""
    names = listings.get(DOWNLOAD.folder, {})
    standing = {int(match[1]): size for name, size in names.items() if (match := _CLIPS_TAR.fullmatch(name))}
    going = committed_shards_in(listings.get(EXTRACT.folder, {}))
    if recipe.download.keep == "all":
        # An interrupted deletion is finished whatever this run's own setting is.
        standing = {shard: size for shard, size in standing.items() if f"{shard:06d}.released" in names}
    elif EXTRACT.stage in missing:
        going |= set(np.flatnonzero(missing[EXTRACT.stage]).tolist())
    return {shard: size for shard, size in standing.items() if shard in going and f"{shard:06d}.parquet" in names}
