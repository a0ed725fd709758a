"""`build --dry-run`: what a build would do, counted from the list and from what is committed, without doing it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vidaudio.pipeline.checks import check_run
from vidaudio.pipeline.corpus import CORPUS_FILE, Corpus, open_corpus
from vidaudio.pipeline.growth import barred
from vidaudio.pipeline.keep import check_keep
from vidaudio.pipeline.pack_plan import check_selection
from vidaudio.pipeline.plan import assign_shards
from vidaudio.pipeline.recipe import CorpusRecipe, required_paths, wanted_stages
from vidaudio.pipeline.tombstones import read_tombstones
from vidaudio.shards.commit import committed_shards
from vidaudio.shards.store import open_store

# One extraction of the page and one transfer; sites with separate sound and picture take one transfer more.
REQUESTS_PER_SOURCE = 2


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """What a build would do.

    Attributes:
        corpus: Where.
        exists: Whether it has been begun.
        clips, sources, shards: Of the list.
        missing_shards: By stage, those that are not committed.
        requests: At least so many to sites, for the shards that are not downloaded.
        requests_by_site: The same by site.
        local_bytes: Of the local files that would be read.
        missing_files: Local paths that are not there.
    """

    corpus: str
    exists: bool
    clips: int
    sources: int
    shards: int
    missing_shards: dict[str, int]
    requests: int
    requests_by_site: dict[str, int]
    local_bytes: int
    missing_files: int

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
        sites = ", ".join(f"{site} {count:,}" for site, count in sorted(self.requests_by_site.items()))
        lines.append(f"  {'requests':<10}{self.requests:>9,} at least{f': {sites}' if sites else ''}")
        lines.append(f"  {'local':<10}{self.local_bytes / 1e6:>9,.0f} MB to read, {self.missing_files:,} files missing")
        return "\n".join(lines)


def dry_run(
    recipe: CorpusRecipe, manifest: str | None = None, corpus: str | None = None, *, only: Sequence[str] | None = None
) -> BuildPlan:
    """Count what a build would do; arguments as for `build`. Nothing is written and no encoder is loaded.

    Raises:
        ManifestError, CorpusError, RecipeError: As the build would, for a missing list, an unknown stage, options that
            nobody knows.
    """
    from vidaudio.manifest import read_manifest

    stages = wanted_stages(only)
    where, path = required_paths(recipe, manifest, corpus)
    listed = read_manifest(path)
    check_run(recipe, stages)
    if "pack" in stages:
        check_selection(recipe.pack)
    check_keep(recipe.download.keep, stages)
    standing = open_corpus(where) if open_store(where).exists(CORPUS_FILE) else None
    planned = _planned(listed, standing, recipe.shard_clips)
    shards = planned["shard"].to_numpy()
    everything = set(np.unique(shards).tolist())
    done = _committed(standing) if standing is not None else {}
    missing = {stage: everything - done.get(stage, set()) for stage in stages if stage != "pack"}

    waiting = np.isin(shards, sorted(missing.get("download", ())))
    if standing is not None and (removed := read_tombstones(standing.store)):
        # A clip that was removed is never asked for again.
        waiting &= ~barred(planned, removed)
    rows = planned.filter(pa.array(waiting))
    wanted = set(zip(rows["source"].to_pylist(), rows["url"].to_pylist(), strict=True))
    by_site = Counter(source.partition(":")[0] for source, url in wanted if "://" in url)
    files = {Path(url) for _, url in wanted if "://" not in url}
    present = [file for file in files if file.is_file()]
    return BuildPlan(
        corpus=where,
        exists=standing is not None,
        clips=planned.num_rows,
        sources=pc.count_distinct(planned["source"]).as_py(),
        shards=len(everything),
        missing_shards={stage: len(numbers) for stage, numbers in missing.items()},
        requests=REQUESTS_PER_SOURCE * by_site.total(),
        requests_by_site={site: REQUESTS_PER_SOURCE * count for site, count in by_site.items()},
        local_bytes=sum(file.stat().st_size for file in present),
        missing_files=len(files) - len(present),
    )


def _planned(listed: pa.Table, standing: Corpus | None, shard_clips: int) -> pa.Table:
    """Every clip in the shard it has or would have."""
    if standing is None:
        return assign_shards(listed, shard_clips)
    there = standing.manifest()
    added = listed.filter(pc.invert(pc.is_in(listed["id"], there["id"].combine_chunks())))
    if removed := read_tombstones(standing.store):
        added = added.filter(pa.array(~barred(added, removed)))
    if not added.num_rows:
        return there
    planned = assign_shards(added, shard_clips)
    moved = pc.add(planned["shard"], standing.shards).cast(pa.int32())
    return pa.concat_tables([there, planned.set_column(planned.schema.get_field_index("shard"), "shard", moved)])


def _committed(corpus: Corpus) -> dict[str, set[int]]:
    """Shards that each stage has committed; of several encoders the one that is furthest."""
    embedded = [committed_shards(corpus.store, f"embeddings/{name}") for name in corpus.store.folders("embeddings")]
    return {
        "download": committed_shards(corpus.store, "clips"),
        "extract": committed_shards(corpus.store, "av"),
        "embed": max(embedded, key=len, default=set()),
    }
