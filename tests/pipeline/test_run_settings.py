"""Settings of a run reach every request of that run: of a first build, a retry, a growth and the pack behind them.

A corpus stores only what decides its bytes. Whatever opens it again must not bring back older settings of a run.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.media.site.server import LoopbackSite
from tests.media_world import render
from vidaudio.config.corpus import (
    CorpusRecipe,
    CorpusSettings,
    DownloadBlock,
    ExtractBlock,
    ExtractedMedia,
    ExtractLimits,
    FetchedMedia,
    FetchPolicy,
    load_corpus_recipe,
)
from vidaudio.corpus.corpus import Corpus, create_or_open, open_corpus
from vidaudio.errors import CorpusError
from vidaudio.manifest import Clip, read_manifest, write_manifest
from vidaudio.pipeline.build import build
from vidaudio.pipeline.dry_run import dry_run
from vidaudio.pipeline.stages.download import download_shard

INTERVAL_SECONDS = 0.2


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("video") / "a.mp4"
    render(path, 5)
    return path.read_bytes()


@pytest.fixture
def listed(site: LoopbackSite, video: bytes, tmp_path: Path):
    """Write a manifest of some paths of the site, which serves a real video at `a.mp4`."""
    (site.folder / "a.mp4").write_bytes(video)

    def write(name: str, *paths: str) -> str:
        clips = [Clip(id=Path(path).stem, source=f"s:{path}", dataset="d", url=site.url(path)) for path in paths]
        write_manifest(clips, tmp_path / f"{name}.parquet")
        return str(tmp_path / f"{name}.parquet")

    return write


def recipe(tmp_path: Path, tiny_clip: Path, *settings: str, interval: float = 0.0) -> CorpusRecipe:
    rate = f"{{folder: '{tmp_path}/budget', minimum_interval_seconds: {interval}}}"
    return load_corpus_recipe(
        "folder",
        (
            f"embed.encoder={{architecture: '{tiny_clip}', pretrained: null, precision: float32, batch_size: 8}}",
            "extract.frame_size=96",
            "dask.workers=1",
            f"download={{tries: 1, rate: {rate}}}",
            *settings,
        ),
    )


def begun(chosen: CorpusRecipe, manifest: str, folder: str) -> None:
    """Do what a build of the download stage does, in this process."""
    corpus = create_or_open(folder, chosen, read_manifest(manifest))
    download_shard(corpus, 0, "clips", chosen.run_settings())


def reasons(corpus: str) -> dict[str, str | None]:
    """The newest reason of every clip at download."""
    from vidaudio.shards.commit import committed_shards, read_table, table_name

    opened = open_corpus(corpus)
    found = {}
    for shard in sorted(committed_shards(opened.store, "clips")):
        table, _ = read_table(opened.store, table_name("clips", shard))
        found |= dict(zip(table["id"].to_pylist(), table["reason"].to_pylist(), strict=True))
    return found


def test_a_retry_goes_out_with_the_settings_it_is_made_for(site: LoopbackSite, listed, tiny_clip: Path, tmp_path: Path):
    corpus, manifest = str(tmp_path / "corpus"), listed("list", "a.mp4", "two/a2.mp4", "three/a3.mp4")
    site.moved = {"/two/a2.mp4": "/a.mp4", "/three/a3.mp4": "/a.mp4"}
    begun(recipe(tmp_path, tiny_clip), manifest, corpus)
    assert set(reasons(corpus).values()) == {"unsupported"}, "addresses of this machine are closed by default"
    assert not site.heard

    opened = (
        "download.allow_private_addresses=true",
        "download.ytdlp.http_headers={User-Agent: Retry/2}",
    )
    chosen = recipe(tmp_path, tiny_clip, *opened, interval=INTERVAL_SECONDS)
    plan = dry_run(chosen, manifest, corpus, retry_failed="all")
    assert plan.retried_clips == 3
    assert not site.heard, "a dry run asks nobody"
    build(chosen, manifest, corpus, retry_failed="all", progress=False)
    assert set(reasons(corpus).values()) == {None}
    assert {heard["User-Agent"] for heard in site.heard} == {"Retry/2"}
    times = sorted(site.times)
    assert len(times) >= 6
    # From first to last: a server on a busy machine may hear one request late and the next in time.
    assert times[-1] - times[0] > 0.8 * (len(times) - 1) * INTERVAL_SECONDS, "the rate limit of the retry holds"
    assert open_corpus(corpus).store.exists("training/default/pack.json")


def test_a_retry_goes_through_its_proxy(site: LoopbackSite, listed, tiny_clip: Path, tmp_path: Path):
    corpus, manifest = str(tmp_path / "corpus"), listed("list", "a.mp4")
    begun(recipe(tmp_path, tiny_clip), manifest, corpus)
    with LoopbackSite(site.folder) as proxy:
        through = ("download.allow_private_addresses=true", f"download.ytdlp.proxy={proxy.url('')}")
        chosen = recipe(tmp_path, tiny_clip, *through)
        build(chosen, manifest, corpus, only=["download"], retry_failed="all", progress=False)
        assert proxy.heard
    assert not site.heard
    assert set(reasons(corpus).values()) == {None}


def test_rows_that_are_added_are_fetched_with_the_settings_of_the_run_that_adds_them(
    site: LoopbackSite, listed, tiny_clip: Path, tmp_path: Path
):
    corpus = str(tmp_path / "corpus")
    before = recipe(tmp_path, tiny_clip, "download.allow_private_addresses=true")
    begun(before, listed("first", "a.mp4"), corpus)
    site.heard.clear()
    site.moved = {"/more/b.mp4": "/a.mp4"}
    grown = listed("grown", "a.mp4", "more/b.mp4")
    build(
        recipe(tmp_path, tiny_clip, "download.allow_private_addresses=true",
               "download.ytdlp.http_headers={User-Agent: Grown/1}"),
        grown, corpus, only=["download"], progress=False,
    )  # fmt: skip
    assert {heard["User-Agent"] for heard in site.heard} == {"Grown/1"}
    assert reasons(corpus) == {"a": None, "b": None}


def test_what_the_corpus_was_begun_with_is_not_what_a_later_run_may_do(
    site: LoopbackSite, listed, tiny_clip: Path, tmp_path: Path
):
    """A permission is one run's: the next run that does not give it has none."""
    corpus, opened = str(tmp_path / "corpus"), ("download.allow_private_addresses=true",)
    site.moved = {"/more/b.mp4": "/a.mp4"}
    begun(recipe(tmp_path, tiny_clip, *opened), listed("list", "a.mp4"), corpus)
    site.heard.clear()
    grown = listed("grown", "a.mp4", "more/b.mp4")
    build(recipe(tmp_path, tiny_clip), grown, corpus, only=["download"], progress=False)
    assert reasons(corpus)["b"] == "unsupported"
    assert not site.heard


def test_every_setting_belongs_to_the_corpus_or_to_the_run_and_to_one_of_them_only():
    assert set(FetchedMedia.model_fields).isdisjoint(FetchPolicy.model_fields)
    assert set(DownloadBlock.model_fields) == set(FetchedMedia.model_fields) | set(FetchPolicy.model_fields)
    assert set(ExtractedMedia.model_fields).isdisjoint(ExtractLimits.model_fields)
    assert set(ExtractBlock.model_fields) == set(ExtractedMedia.model_fields) | set(ExtractLimits.model_fields)
    # No attribute of an opened corpus can carry a setting of a run.
    assert Corpus.__dataclass_fields__["settings"].type == CorpusSettings.__name__
    assert not set(CorpusSettings.model_fields) & {"dask"}
    with pytest.raises(AttributeError):
        _ = CorpusSettings().download.rate


def test_settings_that_decide_bytes_are_the_corpus_s_whatever_a_run_says(
    site: LoopbackSite, listed, tiny_clip: Path, tmp_path: Path
):
    corpus, manifest = str(tmp_path / "corpus"), listed("list", "a.mp4")
    opened = ("download.allow_private_addresses=true",)
    begun(recipe(tmp_path, tiny_clip, *opened), manifest, corpus)
    with pytest.raises(CorpusError, match=r"extract\.jpeg_quality: 92 there, 50 now"):
        build(recipe(tmp_path, tiny_clip, *opened, "extract.jpeg_quality=50"), manifest, corpus, progress=False)
