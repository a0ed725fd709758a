"""`--dry-run` counts what a build would do, and touches nothing."""

from __future__ import annotations

import functools
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.media_world import MediaWorld, world_recipe
from tests.pipeline.killed_life import fetch_and_extract
from tests.pipeline.test_build import contents
from vidaudio.config.corpus import CorpusRecipe
from vidaudio.corpus.corpus import Corpus, create_or_open, open_corpus
from vidaudio.corpus.media_retention import draft_name
from vidaudio.errors import CorpusError, UsageError, VidaudioError
from vidaudio.maintenance.remove import remove
from vidaudio.manifest import Clip, clips_from_table, read_manifest, source, write_manifest
from vidaudio.media.outcomes import Reason
from vidaudio.packs import preview
from vidaudio.packs.preview import PackPreview
from vidaudio.pipeline.build import build
from vidaudio.pipeline.dry_run import REQUESTS_PER_SOURCE, BuildPlan, dry_run
from vidaudio.pipeline.retry import plan_retry
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
    assert grown.missing_shards == {"download": 2, "extract": 2, "facts": 2, "embed": 2}
    assert grown.requests_by_site == {"example.org": 5 * REQUESTS_PER_SOURCE}
    assert contents(built_corpus.url) == before


def test_only_the_stages_asked_for_are_counted(media_world: MediaWorld, tiny_clip: Path, tmp_path: Path):
    plan = dry_run(world_recipe(tiny_clip), str(media_world.manifest), str(tmp_path / "c"), only=["download"])
    assert list(plan.missing_shards) == ["download"]
    assert plan.pack is None
    assert "pack" not in str(plan)
    with pytest.raises(UsageError, match="there is no stage extrct"):
        dry_run(world_recipe(tiny_clip), str(media_world.manifest), str(tmp_path / "c"), only=["extrct"])


def test_an_address_that_is_none_and_a_path_like_one_are_counted(tiny_clip: Path, tmp_path: Path):
    urls = ["http://[bad/x.mp4", f"{tmp_path}/at://x.mp4", "data:video/mp4;base64,AA"]
    clips = [Clip(f"v{n}", f"web:{n}", "made", url, end_seconds=3.0) for n, url in enumerate(urls)]
    write_manifest(clips, tmp_path / "m.parquet")
    plan = dry_run(world_recipe(tiny_clip), str(tmp_path / "m.parquet"), str(tmp_path / "c"))
    assert (plan.requests_by_site, plan.missing_files) == ({"generic": REQUESTS_PER_SOURCE}, 2)


def test_the_whole_of_youtube_is_counted_by_site(tiny_clip: Path, tmp_path: Path):
    clips = [
        Clip(f"v{n}_000000", f"youtube:v{n}", "made", f"https://www.youtube.com/watch?v=v{n}", end_seconds=10.0)
        for n in range(9)
    ]
    write_manifest(clips, tmp_path / "m.parquet")
    plan = dry_run(world_recipe(tiny_clip), str(tmp_path / "m.parquet"), str(tmp_path / "c"))
    assert plan.requests_by_site == {"youtube": 9 * REQUESTS_PER_SOURCE}
    assert "youtube 18" in str(plan)


@pytest.mark.parametrize("source", ["web", "youtube", "mine"])
def test_links_go_by_the_name_that_their_budget_has_whatever_the_list_calls_them(
    source: str, tiny_clip: Path, tmp_path: Path
):
    links = [
        "https://vimeo.com/1234",
        "https://www.example.org/a.mp4",
        "https://example.org/b.mp4",
        "http://b.net:81/c",
    ]
    clips = [Clip(f"v{n}", f"{source}:{n}", "made", link, end_seconds=10.0) for n, link in enumerate(links)]
    write_manifest(clips, tmp_path / "m.parquet")
    plan = dry_run(world_recipe(tiny_clip), str(tmp_path / "m.parquet"), str(tmp_path / "c"))
    asked = {"vimeo": 1, "example.org": 2, "b.net:81": 1}
    assert plan.requests_by_site == {site: REQUESTS_PER_SOURCE * sources for site, sources in asked.items()}
    assert plan.web_sources == 4
    assert "4 sources to fetch; their bytes are known once they are fetched" in str(plan)


def test_file_urls_are_no_requests_and_are_read_only_where_they_are_let_in(
    media_world: MediaWorld, tiny_clip: Path, tmp_path: Path
):
    file = media_world.folder / "bars.mp4"
    clips = [Clip(f"v{n}", f"web:{n}", "made", url, end_seconds=3.0) for n, url in enumerate((file.as_uri(), "FILE:x"))]
    write_manifest(clips, tmp_path / "m.parquet")
    for allowed, size in ((False, 0), (True, file.stat().st_size)):
        recipe = world_recipe(tiny_clip, f"download.allow_file_urls={allowed}")
        plan = dry_run(recipe, str(tmp_path / "m.parquet"), str(tmp_path / "c"))
        assert (plan.requests, plan.web_sources, plan.local_bytes, plan.missing_files) == (0, 0, size, 0)


# --- the same door as the build's ------------------------------------------------------------------------------------


def refusals(recipe: CorpusRecipe, manifest: Path, corpus: str | Path, **options) -> list[str]:
    """What the build and its dry run say when both refuse."""
    said = []
    for run in (dry_run, functools.partial(build, progress=False)):
        with pytest.raises(VidaudioError) as refused:
            run(recipe, str(manifest), str(corpus), **options)
        said.append(str(refused.value))
    return said


@pytest.mark.parametrize(
    ("setting", "options", "words"),
    [
        ("extract.jpeg_quality=80", {}, r"extract\.jpeg_quality: 92 there, 80 now"),
        ("pack.audio=pcm16", {}, r"training/default was packed otherwise \(audio: 'flac' there, 'pcm16' now\)"),
        ("pack.where=loud", {}, "is not a selection over the columns"),
        ("download.ytdlp={proxi: x}", {}, "yt-dlp has no option proxi"),
        ("download.keep=none", {"only": ["download"]}, "must name both download and extract"),
        ("name=a", {"only": [""]}, "--only names no stage"),
        ("name=a", {"only": []}, "--only names no stage"),
        ("name=a", {"only": ["pack", "", "extract"]}, "--only=pack,,extract has a comma too many"),
        ("name=a", {"retry_failed": "nonsense"}, "knows no reason 'nonsense'"),
        ("name=a", {"retry_failed": ""}, "names no reason"),
        ("name=a", {"retry_failed": "all", "only": ["pack"]}, "--only must name download, too"),
    ],
)
def test_what_the_build_refuses_is_refused_in_the_same_words(
    built_corpus: Corpus, media_world: MediaWorld, tiny_clip: Path, setting: str, options: dict, words: str
):
    before = contents(built_corpus.url)
    said = refusals(world_recipe(tiny_clip, setting), media_world.manifest, built_corpus.url, **options)
    assert said[0] == said[1]
    assert re.search(words, said[0])
    assert contents(built_corpus.url) == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"only": ["embed"]}, "embed needs what download and extract would leave there"),
        ({"only": ["download", "embed"]}, "embed needs what extract would leave there"),
        ({"only": ["download", "extract", "pack"]}, "pack needs what embed would leave there"),
        ({"only": ["pack"], "retry_failed": "all"}, "so nothing of it has failed"),
        ({"retry_failed": "transient"}, "so nothing of it has failed"),
    ],
)
def test_a_refused_build_leaves_nothing_where_nothing_was(
    media_world: MediaWorld, tiny_clip: Path, tmp_path: Path, options: dict, words: str
):
    corpus = tmp_path / "a" / "tpyo"
    said = refusals(world_recipe(tiny_clip), media_world.manifest, corpus, **options)
    assert said[0] == said[1]
    assert said[0].startswith(f"there is no corpus at {corpus}")
    assert words in said[0]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("embed.encoder.architecture=ViT-B-23", "open_clip knows no architecture 'ViT-B-23'.*did you mean ViT-B-32"),
        ("embed.encoder={architecture: ViT-B-32, pretrained: opnai}", "'opnai' is neither a weights file nor a tag"),
        ("embed.encoder.architecture=local-dir:nowhere", "nowhere has no open_clip_config.json"),
        ("extract.frame_size=48", "wants pictures of 64 px and the corpus keeps 48"),
    ],
)
def test_an_encoder_that_cannot_be_had_is_named_before_it_is_loaded(
    media_world: MediaWorld, tiny_clip: Path, tmp_path: Path, setting: str, words: str
):
    said = refusals(world_recipe(tiny_clip, setting), media_world.manifest, tmp_path / "c")
    assert said[0] == said[1]
    assert re.search(words, said[0])
    assert list(tmp_path.iterdir()) == []


def test_stages_that_new_shards_would_want_are_missed_as_by_the_build(
    built_corpus: Corpus, media_world: MediaWorld, tiny_clip: Path, tmp_path: Path
):
    clips = clips_from_table(read_manifest(media_world.manifest))
    write_manifest([*clips, replace(clips[0], id="new", source="file:new")], tmp_path / "grown.parquet")
    for only, words in (
        (["extract"], "extract reads what download writes"),
        (["pack"], "1 of 5 shards .* not embedded"),
    ):
        corpus = shutil.copytree(built_corpus.url, tmp_path / only[0])
        said = refusals(world_recipe(tiny_clip), tmp_path / "grown.parquet", corpus, only=only)
        assert said[0] == said[1]
        assert re.search(words, said[0])


# --- clips that are tried again --------------------------------------------------------------------------------------


def test_retried_clips_are_new_shards(built_corpus: Corpus, media_world: MediaWorld, tiny_clip: Path, tmp_path: Path):
    plan = dry_run(world_recipe(tiny_clip), str(media_world.manifest), built_corpus.url, retry_failed="not_found")
    assert (plan.retried_clips, plan.clips, plan.nothing_retried) == (2, 17, None)
    corpus = open_corpus(str(shutil.copytree(built_corpus.url, tmp_path / "corpus")))
    grown = plan_retry(corpus, {Reason.NOT_FOUND})
    assert plan.shards == grown.shards == built_corpus.shards + 1
    assert plan.missing_shards == {"download": 1, "extract": 1, "facts": 1, "embed": 1}
    # One is a file that is gone, the other a link.
    assert (plan.requests, plan.missing_files) == (REQUESTS_PER_SOURCE, 1)
    assert "2 clips that failed, in shards of their own" in str(plan)
    # Planned by then, they wait there: nothing is planned twice, by either.
    again = dry_run(world_recipe(tiny_clip), str(media_world.manifest), grown.url, retry_failed="not_found")
    assert (again.retried_clips, again.shards, again.requests) == (0, grown.shards, REQUESTS_PER_SOURCE)


def test_where_nothing_is_tried_again_it_is_said_why(
    built_corpus: Corpus, media_world: MediaWorld, tiny_clip: Path, capsys: pytest.CaptureFixture
):
    before = contents(built_corpus.url)
    for reasons, words in (
        ("corrupt", "stands as failed for corrupt; 1 clip was dropped for what is in the media"),
        ("no_audio,no_video", "stands as failed for no_audio, no_video; 2 clips were dropped"),
        ("timeout", "stands as failed for timeout"),
    ):
        plan = dry_run(world_recipe(tiny_clip), str(media_world.manifest), built_corpus.url, retry_failed=reasons)
        assert (plan.retried_clips, set(plan.missing_shards.values())) == (0, {0})
        assert words in plan.nothing_retried
        assert plan.nothing_retried in str(plan)
        capsys.readouterr()
        build(
            world_recipe(tiny_clip), str(media_world.manifest), built_corpus.url, retry_failed=reasons, progress=False
        )
        assert capsys.readouterr().err.strip() == plan.nothing_retried
    assert "dropped" not in plan.nothing_retried
    assert contents(built_corpus.url) == before


# --- the pack --------------------------------------------------------------------------------------------------------


def test_what_would_be_packed_is_known_where_the_shards_are_done(
    built_corpus: Corpus, media_world: MediaWorld, tiny_clip: Path, tmp_path: Path
):
    def planned(corpus: str | Path, *settings: str, manifest: Path = media_world.manifest) -> PackPreview | None:
        plan = dry_run(world_recipe(tiny_clip, *settings), str(manifest), str(corpus))
        assert str(plan.pack) in str(plan)
        return plan.pack

    assert planned(tmp_path / "new") == PackPreview("training/default", "after_shards")
    assert planned(built_corpus.url) == PackPreview("training/default", "now", 0, 0)
    described = json.loads((Path(built_corpus.url) / "training/default/pack.json").read_text())
    shards, samples = len(described["shards"]), described["samples"]
    assert planned(built_corpus.url, "pack.name=other") == PackPreview("training/other", "now", shards, samples)

    corpus = shutil.copytree(built_corpus.url, tmp_path / "corpus")
    (corpus / "training/default/train-000000.parquet").unlink()
    assert planned(corpus).shards == 1
    (corpus / "training/default/pack.json").write_text(json.dumps(described | {"plan_hash": "of fewer clips"}))
    assert planned(corpus) == PackPreview("training/default", "never")
    next(corpus.glob("embeddings/*/000001.parquet")).unlink()
    assert planned(corpus) == PackPreview("training/default", "stands")
    assert planned(corpus, "pack.name=other") == PackPreview("training/other", "after_shards")


def test_a_build_that_came_to_its_end_is_known_without_a_look_at_its_clips(
    built_corpus: Corpus, media_world: MediaWorld, tiny_clip: Path, tmp_path: Path, monkeypatch
):
    corpus = shutil.copytree(built_corpus.url, tmp_path / "corpus")
    request = (world_recipe(tiny_clip), str(media_world.manifest), str(corpus))
    looked_at = dry_run(*request)
    build(*request, progress=False)

    def planned(*arguments):
        raise AssertionError("the clips were looked at")

    with monkeypatch.context() as patch:
        patch.setattr(preview, "plan_pack", planned)
        assert dry_run(*request) == looked_at
        assert looked_at.pack == PackPreview("training/default", "now", 0, 0)
        # What was not built so far, or is there no more, is planned.
        for name in ("train-000000.parquet", "index.arrow"):
            path = corpus / "training" / "default" / name
            kept = path.read_bytes()
            path.unlink()
            with pytest.raises(AssertionError, match="were looked at"):
                dry_run(*request)
            path.write_bytes(kept)
        with pytest.raises(AssertionError, match="were looked at"):
            dry_run(world_recipe(tiny_clip, "pack.name=other"), *request[1:])
        assert dry_run(*request) == looked_at


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
    assert whole[1].requests_by_site == {"example.org": 15 * REQUESTS_PER_SOURCE}
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
    create_or_open(str(folder / "corpus"), recipe, read_manifest(folder / "list.parquet"))
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
