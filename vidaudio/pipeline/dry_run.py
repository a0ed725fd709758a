"""`build --dry-run`: what a build would do, counted from the list and from what is committed, without doing it.

The list is read in pieces, as a build reads it; what stays in memory are a few numbers a row.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any

import numpy as np

from vidaudio.config.corpus import STAGES, CorpusRecipe
from vidaudio.corpus.corpus import Corpus
from vidaudio.corpus.listing import Listings, list_stages
from vidaudio.corpus.manifest_diff import new_rows
from vidaudio.corpus.media_retention import shards_without_media
from vidaudio.corpus.shard_plan import plan_shards
from vidaudio.corpus.tombstones import Tombstones, read_tombstones
from vidaudio.manifest.source import RowSource, hashed
from vidaudio.packs.preview import PackPreview, fullest_encoder, plan_packing
from vidaudio.pipeline.preflight import Request, check_request, read_request
from vidaudio.pipeline.request_estimate import RequestEstimate, rows_to_fetch
from vidaudio.pipeline.retry import nothing_retried, retried_rows
from vidaudio.pipeline.shard_tasks import check_order
from vidaudio.pipeline.stages.embed import check_encoder_named
from vidaudio.pipeline.stages.fused import drafted_shards
from vidaudio.pipeline.up_to_date import is_up_to_date, request_hash
from vidaudio.shards.commit import committed_shards_in
from vidaudio.text import number_of

# The stages of a shard's chain; a pack is of the whole corpus.
CHAIN = STAGES[:-1]
# One extraction of the page and one transfer; sites with separate sound and picture take one transfer more, and a video
# that is gone takes none.
REQUESTS_PER_SOURCE = 2
_CLIPS_TAR = re.compile(r"(\d{6,})\.[0-9a-f]{8}\.tar")


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """What a build would do.

    Attributes:
        corpus: Where.
        exists: Whether it has been begun.
        clips, sources, shards: Of the list.
        missing_shards: By stage, those that are not committed.
        pack: What would be packed; None where packing is not asked for.
        retried_clips: That failed and are planned once more, into shards of their own (`--retry-failed`).
        nothing_retried: Why none are, where that was asked for.
        without_media: Shards that would be extracted, and whose media were not kept: the build says so, and how they
            are fetched again.
        requests: To sites, for the shards that are not downloaded: a page and a file a source.
        requests_by_site: The same by site, as budgets call it.
        web_sources: That would be fetched from sites; how many bytes they are is known only once they are fetched.
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
        """JSON-able."""
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
            freed, shards = f"{self.released_bytes / 1e6:>9,.0f} MB", number_of(self.released_shards, "shard")
            lines.append(f"  {'media':<10}{freed} of {shards} would be deleted (download.keep)")
        return "\n".join(lines)


def _count(number: int, one: str) -> str:
    """As `number_of`, with the numbers of all lines below one another."""
    return f"{number:>9,}{number_of(number, one).removeprefix(f'{number:,}')}"


def dry_run(
    recipe: CorpusRecipe,
    manifest: str | None = None,
    corpus: str | None = None,
    *,
    only: str | Sequence[str] | None = None,
    retry_failed: str | Collection[str] | None = None,
) -> BuildPlan:
    """Count what a build would do; arguments as for `build`. Nothing is written and no encoder is loaded.

    Raises:
        ManifestError, CorpusError, RecipeError, EncoderError: As the build would, by the same checks. Only what the
            weights of an encoder or a pack over shards that are not there yet would say is left to the build.
    """
    from vidaudio.manifest.source import open_manifest

    request = read_request(recipe, manifest, corpus, only=only, retry_failed=retry_failed)
    listed = open_manifest(request.list_path)
    check_request(request)
    recipe, standing, stages = request.recipe, request.standing, request.stages
    if standing is None and {"embed", "pack"} & set(stages):
        # The encoder of a corpus that stands is the one it was begun with, as has been checked by now.
        check_encoder_named(recipe.corpus_settings())
    added: RowSource | None = listed
    retried: RowSource | None = None
    removed = Tombstones()
    listings: Listings = {}
    finished = False
    if standing is not None:
        asked = request_hash(recipe, request.list_path, stages)
        unchanged = is_up_to_date(standing, asked) if "pack" in stages else None
        finished, listings = unchanged is not None, unchanged or list_stages(standing)
        removed = read_tombstones(standing.store)
        added = new_rows(standing.url, standing.tables, listed, removed)
        retried = retried_rows(standing, request.reasons) if request.reasons is not None else None
    new = [rows for rows in (added, retried) if rows is not None and rows.num_rows]
    old_shards = standing.shards if standing is not None else 0
    new_shards = sum(len(plan_shards(rows, recipe.shard_clips).clips) for rows in new)
    done = _done(standing, listings, old_shards, new_shards)
    check_order(CHAIN, np.array([stage in stages for stage in CHAIN]), np.stack([done[stage] for stage in CHAIN]))
    missing = {stage: ~done[stage] for stage in CHAIN if stage in stages}
    old_missing = {stage: shards[:old_shards] for stage, shards in missing.items()}
    fetches = RequestEstimate(
        functools.partial(rows_to_fetch, standing, old_missing.get("download"), removed, new),
        recipe.download,
    )
    released = _released(recipe, listings, old_missing)
    packing = None
    if "pack" in stages:
        packing = plan_packing(recipe, standing, listings, missing, done["embed"], finished=finished)
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
    if request.standing is None or request.reasons is None or (retried is not None and retried.num_rows):
        return None
    return nothing_retried(request.standing, request.reasons)


def _done(standing: Corpus | None, listings: Listings, shards: int, new_shards: int) -> dict[str, np.ndarray]:
    """By stage, which of the shards that the corpus would have are committed: bool `[shards + new_shards]`."""
    committed = _committed(standing, listings) if standing is not None else {}
    done = {}
    for stage in CHAIN:
        done[stage] = np.zeros(shards + new_shards, bool)
        done[stage][[shard for shard in committed.get(stage, ()) if shard < shards]] = True
    return done


def _committed(corpus: Corpus, listings: Listings) -> dict[str, set[int]]:
    """Shards that each stage has committed."""
    encoder = fullest_encoder(listings)
    # What was fetched and extracted in one go and killed between the two commits is known, and not fetched again.
    return {
        "download": committed_shards_in(listings["clips"]) | drafted_shards(corpus),
        "extract": committed_shards_in(listings["av"]),
        "embed": committed_shards_in(listings[f"embeddings/{encoder}"]) if encoder else set(),
    }


def _count_sources(standing: Corpus | None, added: RowSource | None) -> int:
    """Sources over all rows, old and new."""
    old = standing.tables(["source"]) if standing is not None else ()
    new = added.tables(["source"]) if added is not None else ()
    return len(np.unique(np.concatenate([hashed(table["source"]) for table in chain(old, new)])))


def _count_without_media(corpus: Corpus, listings: Listings, missing: Mapping[str, np.ndarray]) -> int:
    """Shards that would be extracted from media that are not there any more."""
    if "extract" not in missing:
        return 0
    downloaded = committed_shards_in(listings["clips"])
    return len(
        shards_without_media(corpus.store, sorted(downloaded & set(np.flatnonzero(missing["extract"]).tolist())))
    )


def _released(recipe: CorpusRecipe, listings: Listings, missing: Mapping[str, np.ndarray]) -> dict[int, int]:
    """Shards with raw media that would be deleted, and bytes: they are extracted, or will be."""
    names = listings.get("clips", {})
    standing = {int(match[1]): size for name, size in names.items() if (match := _CLIPS_TAR.fullmatch(name))}
    going = committed_shards_in(listings.get("av", {}))
    if recipe.download.keep == "all":
        # A deletion that was interrupted is finished whatever the run's own setting is.
        standing = {shard: size for shard, size in standing.items() if f"{shard:06d}.released" in names}
    elif "extract" in missing:
        going |= set(np.flatnonzero(missing["extract"]).tolist())
    return {shard: size for shard, size in standing.items() if shard in going and f"{shard:06d}.parquet" in names}
