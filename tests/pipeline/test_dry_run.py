"""`--dry-run` counts what a build would do, and touches nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.media_world import MediaWorld, world_recipe
from tests.pipeline.killed_life import fetch_and_extract
from tests.pipeline.test_build import contents
from vidaudio.errors import CorpusError
from vidaudio.manifest import Clip, clips_from_table, read_manifest, source, write_manifest
from vidaudio.pipeline.corpus import Corpus, create_or_continue, open_corpus
from vidaudio.pipeline.dry_run import REQUESTS_PER_SOURCE, BuildPlan, dry_run
from vidaudio.pipeline.released import draft_name
from vidaudio.pipeline.remove import remove
from vidaudio.shards.commit import read_record, table_name


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


# --- a long list -----------------------------------------------------------------------------------------------------


def test_a_list_that_is_read_in_pieces_gives_the_same_counts(
    built_corpus: Corpus, media_world: MediaWorld, tiny_clip: Path, tmp_path: Path, monkeypatch
):
    clips = clips_from_table(read_manifest(media_world.manifest))
    # A file and a page of two clips each, far apart in the list; of one page there are two sources.
    new = [
        replace(clips[0], id=f"new{n}", source=f"web:new{n % 5}", url=f"https://example.org/{n % 3}.mp4")
        for n in range(15)
    ]
    write_manifest([*clips, *new], tmp_path / "grown.parquet")

    def counted() -> list[BuildPlan]:
        lists = [(media_world.manifest, tmp_path / "c"), (tmp_path / "grown.parquet", Path(built_corpus.url))]
        return [dry_run(world_recipe(tiny_clip), str(path), str(where)) for path, where in lists]

    whole = counted()
    assert whole[1].requests_by_site == {"web": 15 * REQUESTS_PER_SOURCE}
    monkeypatch.setattr(source, "WHOLE_ROWS", 0)
    monkeypatch.setattr(source, "PIECE_ROWS", 2)
    # Whoever reads the list whole fails.
    monkeypatch.delattr(source, "read_manifest")
    monkeypatch.delattr(Corpus, "manifest")
    assert counted() == whole


def test_a_list_that_the_build_would_refuse_is_refused(
    built_corpus: Corpus, media_world: MediaWorld, tiny_clip: Path, tmp_path: Path
):
    write_manifest(clips_from_table(read_manifest(media_world.manifest))[1:], tmp_path / "shorter.parquet")
    with pytest.raises(CorpusError, match="1 are not in this list"):
        dry_run(world_recipe(tiny_clip), str(tmp_path / "shorter.parquet"), built_corpus.url)


# --- media that are not kept -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kept(media_world: MediaWorld, tiny_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of two shards that are extracted, and their list; the media are copies and in the corpus."""
    folder = tmp_path_factory.mktemp("kept")
    clips = [c for c in clips_from_table(read_manifest(media_world.manifest)) if c.id in ("brief", "mute", "bars")]
    write_manifest(clips, folder / "list.parquet")
    recipe = world_recipe(tiny_clip, "download.copy_local=true", "shard_clips=2")
    create_or_continue(str(folder / "corpus"), recipe, read_manifest(folder / "list.parquet"))
    fetch_and_extract(str(folder / "corpus"), "all")
    return folder


@pytest.fixture
def planned(kept: Path, tiny_clip: Path, tmp_path: Path) -> Callable[..., BuildPlan]:
    """Plans of a build of download and extract in a copy of that corpus."""
    corpus = shutil.copytree(kept / "corpus", tmp_path / "corpus")

    def plan(keep: str, **options) -> BuildPlan:
        settings = ("download.copy_local=true", "shard_clips=2", f"download.keep={keep}")
        before = contents(corpus)
        options = {"only": ["download", "extract"]} | options
        planned = dry_run(world_recipe(tiny_clip, *settings), str(kept / "list.parquet"), str(corpus), **options)
        assert contents(corpus) == before
        return planned

    return plan


def test_media_that_a_build_would_let_go_are_counted(planned, tmp_path: Path):
    corpus = tmp_path / "corpus"
    tars = [path.stat().st_size for path in (corpus / "clips").glob("*.tar")]
    assert (planned("all").released_shards, planned("all").released_bytes) == (0, 0)
    for keep in ("until_extracted", "none"):
        plan = planned(keep)
        assert (plan.released_shards, plan.released_bytes) == (2, sum(tars))
        assert "would be deleted (download.keep)" in str(plan)
    # One is not extracted yet: its media go behind that, where it is asked for.
    (corpus / "av" / "000001.parquet").unlink()
    assert planned("until_extracted").released_shards == 2
    assert planned("until_extracted", only=["download"]).released_shards == 1
    fetch_and_extract(str(corpus), "until_extracted")
    assert not list((corpus / "clips").glob("*.tar"))
    for keep in ("all", "until_extracted"):
        plan = planned(keep)
        assert (plan.released_shards, plan.without_media, plan.local_bytes) == (0, 0, 0)
        assert plan.missing_shards == {"download": 0, "extract": 0}


@pytest.mark.parametrize("keep", ["until_extracted", "none"])
def test_shards_whose_media_were_not_kept_are_named_as_such(planned, tmp_path: Path, keep: str):
    corpus = tmp_path / "corpus"
    if keep == "none":
        for path in [*(corpus / "clips").iterdir(), *(corpus / "av").iterdir()]:
            path.unlink()
    fetch_and_extract(str(corpus), keep)
    (corpus / "av" / "000001.parquet").unlink()
    plan = planned(keep)
    assert plan.missing_shards == {"download": 0, "extract": 1}
    assert (plan.without_media, plan.local_bytes) == (1, 0)
    assert "without media (download.keep)" in str(plan)
    with pytest.raises(CorpusError, match=r"were not kept \(download.keep\)"):
        fetch_and_extract(str(corpus), keep)
    # As the build says: then both of its stages are to do, from files that are counted.
    (corpus / "clips" / "000001.parquet").unlink()
    plan = planned(keep)
    assert (plan.missing_shards, plan.without_media) == ({"download": 1, "extract": 1}, 0)
    assert plan.local_bytes > 0


def test_outcomes_that_are_laid_down_are_not_fetched_again(planned, tmp_path: Path):
    folder = tmp_path / "corpus"
    corpus = open_corpus(str(folder))
    sha = read_record(corpus.store, table_name("av", 0)).tar_sha256
    (folder / "clips" / "000000.parquet").rename(folder / "clips" / draft_name(0, sha))
    plan = planned("none")
    assert (plan.missing_shards["download"], plan.local_bytes) == (0, 0)
    # One that belongs to other pictures is none.
    (folder / "clips" / draft_name(0, sha)).rename(folder / "clips" / draft_name(0, "0" * 64))
    assert planned("none").missing_shards["download"] == 1


def test_removed_clips_are_not_fetched_again(planned, tmp_path: Path):
    folder = tmp_path / "corpus"
    for path in folder.glob("*/000000.parquet"):
        path.unlink()
    before = planned("all")
    remove(str(folder), ["bars"], progress=False)
    after = planned("all")
    assert after.missing_shards == before.missing_shards == {"download": 1, "extract": 1}
    assert after.local_bytes < before.local_bytes
