"""`--dry-run` counts what a build would do, and touches nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.media_world import MediaWorld, world_recipe
from tests.pipeline.test_build import contents
from vidaudio.errors import CorpusError
from vidaudio.manifest import Clip, clips_from_table, read_manifest, write_manifest
from vidaudio.pipeline.corpus import Corpus
from vidaudio.pipeline.dry_run import REQUESTS_PER_SOURCE, dry_run


def test_a_corpus_that_is_not_begun(media_world: MediaWorld, tiny_clip: Path, tmp_path: Path):
    plan = dry_run(world_recipe(tiny_clip), str(media_world.manifest), str(tmp_path / "corpus"))
    clips = clips_from_table(read_manifest(media_world.manifest))
    assert (plan.exists, plan.clips, plan.sources) == (False, 17, len({clip.source for clip in clips}))
    assert set(plan.missing_shards.values()) == {plan.shards}
    # Two of the served files are named, one of them by two clips; every other clip is a local file, one is gone.
    assert plan.requests == 2 * REQUESTS_PER_SOURCE
    local = {Path(clip.url) for clip in clips if "://" not in clip.url}
    assert plan.local_bytes == sum(path.stat().st_size for path in local if path.exists())
    assert plan.missing_files == 1
    assert not (tmp_path / "corpus").exists()


def test_a_finished_corpus_and_one_that_would_grow(
    built_corpus: Corpus, media_world: MediaWorld, tiny_clip: Path, tmp_path: Path
):
    recipe = world_recipe(tiny_clip)
    before = contents(built_corpus.url)
    finished = dry_run(recipe, str(media_world.manifest), built_corpus.url)
    assert finished.exists
    assert set(finished.missing_shards.values()) == {0}
    assert (finished.requests, finished.local_bytes) == (0, 0)

    clips = clips_from_table(read_manifest(media_world.manifest))
    new = [replace(clips[0], id=f"new{n}", source=f"web:new{n}", url=f"https://example.org/{n}.mp4") for n in range(5)]
    write_manifest([*clips, *new], tmp_path / "grown.parquet")
    grown = dry_run(recipe, str(tmp_path / "grown.parquet"), built_corpus.url)
    assert grown.clips == 22
    assert grown.missing_shards == {"download": 2, "extract": 2, "embed": 2}
    assert grown.requests_by_site == {"web": 5 * REQUESTS_PER_SOURCE}
    assert contents(built_corpus.url) == before


def test_only_the_stages_asked_for_are_counted(media_world: MediaWorld, tiny_clip: Path, tmp_path: Path):
    plan = dry_run(world_recipe(tiny_clip), str(media_world.manifest), str(tmp_path / "c"), only=["extract"])
    assert list(plan.missing_shards) == ["extract"]
    assert plan.requests == 0
    with pytest.raises(CorpusError, match="there is no stage extrct"):
        dry_run(world_recipe(tiny_clip), str(media_world.manifest), str(tmp_path / "c"), only=["extrct"])


def test_the_whole_of_youtube_is_counted_by_site(tiny_clip: Path, tmp_path: Path):
    clips = [
        Clip(f"v{n}_000000", f"youtube:v{n}", "made", f"https://www.youtube.com/watch?v=v{n}", end_seconds=10.0)
        for n in range(9)
    ]
    write_manifest(clips, tmp_path / "m.parquet")
    plan = dry_run(world_recipe(tiny_clip), str(tmp_path / "m.parquet"), str(tmp_path / "c"))
    assert plan.requests_by_site == {"youtube": 9 * REQUESTS_PER_SOURCE}
    assert "youtube 18" in str(plan)
