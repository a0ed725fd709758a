"""Corpora that grow: added rows and retried clips go into new shards, and what was committed stays as it was."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.media_world import render, world_recipe
from tests.pipeline.test_build import contents
from vidaudio.corpus.corpus import create_or_open, open_corpus
from vidaudio.demo.serve import FolderServer
from vidaudio.errors import UsageError
from vidaudio.maintenance.status import corpus_status
from vidaudio.manifest import TableOptions, read_manifest, read_table, write_manifest
from vidaudio.media.outcomes import TRANSIENT, Reason
from vidaudio.pipeline.build import build
from vidaudio.pipeline.retry import failed_clips, parse_reasons, plan_retry
from vidaudio.stream.index import open_index


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FolderServer]:
    """A web site with three videos; a fourth turns up later."""
    folder = tmp_path_factory.mktemp("site")
    for number, picture in enumerate(("testsrc2", "smptebars", "rgbtestsrc")):
        render(folder / f"v{number}.mp4", 4, picture=picture, pitch=300 + 100 * number)
    with FolderServer(folder) as server:
        server.folder = folder
        yield server


def listed(path: Path, server: FolderServer, names: list[str]) -> str:
    """A manifest of these videos of the site."""
    with path.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "url", "label", "split"])
        writer.writerows([name, f"{server.url}/{name}.mp4", name, "train"] for name in names)
    listing = read_table(path.with_suffix(".csv"), options=TableOptions(dataset="site"))
    write_manifest(listing.clips, path)
    return str(path)


def test_added_rows_become_new_shards_and_a_retried_clip_speaks_from_its_new_one(
    site: FolderServer, tiny_clip: Path, tmp_path: Path
):
    recipe = world_recipe(tiny_clip, "shard_clips=2", "dask.workers=1")
    corpus = str(tmp_path / "corpus")
    first = listed(tmp_path / "first.parquet", site, ["v0", "late"])
    build(recipe, first, corpus, progress=False)
    status = corpus_status(corpus).as_dict()
    (other,) = status["stages"]["download"]["others"]
    assert (other["state"], other["reason"], other["clips"]) == ("failed", "not_found", 1)
    before = contents(corpus)

    # Rows are added, in front and behind: they go into shards of their own.
    grown = listed(tmp_path / "grown.parquet", site, ["v1", "v0", "late", "v2"])
    build(recipe, grown, corpus, progress=False)
    assert {name: data for name, data in contents(corpus).items() if name in before} == before
    assert open_corpus(corpus).shards == 2
    assert [clip.id for clip in open_corpus(corpus).rows(1)] == ["v1", "v2"]
    assert corpus_status(corpus).as_dict()["stages"]["embed"]["done"] == 3

    # A plain build leaves the failed clip alone; the video turns up; asked for by its reason, it is tried again.
    shutil.copy(site.folder / "v0.mp4", site.folder / "late.mp4")
    build(recipe, grown, corpus, progress=False)
    assert open_corpus(corpus).shards == 2
    build(recipe, grown, corpus, retry_failed="transient", progress=False)
    assert open_corpus(corpus).shards == 2
    build(recipe, grown, corpus, retry_failed="not_found", progress=False)
    status = corpus_status(corpus).as_dict()
    assert (status["clips"], status["shards"]) == (4, 3)
    assert status["stages"]["download"] == {"shards": 3, "done": 4, "others": []}
    assert status["stages"]["extract"]["done"] == status["stages"]["embed"]["done"] == 4
    assert {name: data for name, data in contents(corpus).items() if name in before} == before
    # Nothing is left to retry, and nothing is planned for it.
    build(recipe, grown, corpus, retry_failed="all", progress=False)
    assert open_corpus(corpus).shards == 3

    # The pack made at first stands as it was; another holds every clip once.
    assert open_index(f"{corpus}/training/default").table["id"].to_pylist() == ["v0"]
    from vidaudio.config.corpus import PackBlock
    from vidaudio.pipeline.build import pack

    pack(corpus, PackBlock(name="all"), progress=False)
    assert sorted(open_index(f"{corpus}/training/all").table["id"].to_pylist()) == ["late", "v0", "v1", "v2"]


def test_two_builds_that_add_the_same_rows_at_once_add_them_once(site: FolderServer, tiny_clip: Path, tmp_path: Path):
    recipe = world_recipe(tiny_clip)
    corpus = str(tmp_path / "corpus")
    create_or_open(corpus, recipe, read_manifest(listed(tmp_path / "a.parquet", site, ["v0"])))
    grown = read_manifest(listed(tmp_path / "b.parquet", site, ["v0", "v1", "v2"]))
    with ThreadPoolExecutor(8) as pool:
        opened = list(pool.map(lambda _: create_or_open(corpus, recipe, grown), range(8)))
    assert {len(o.parts) for o in opened} == {2}
    assert open_corpus(corpus).manifest()["id"].to_pylist() == ["v0", "v1", "v2"]
    assert open_corpus(corpus).clips == 3


def test_clips_that_wait_in_an_unfinished_shard_are_not_planned_twice(
    site: FolderServer, tiny_clip: Path, tmp_path: Path
):
    recipe = world_recipe(tiny_clip, "dask.workers=1")
    corpus = str(tmp_path / "corpus")
    manifest = listed(tmp_path / "a.parquet", site, ["v0", "never"])
    build(recipe, manifest, corpus, only=["download"], progress=False)
    opened = open_corpus(corpus)
    assert failed_clips(opened, {Reason.NOT_FOUND}) == ["never"]
    once = plan_retry(opened, {Reason.NOT_FOUND})
    assert once.shards == 2
    assert plan_retry(once, {Reason.NOT_FOUND}).shards == 2


def test_reasons_are_read_from_words():
    assert parse_reasons("transient") == TRANSIENT
    assert parse_reasons("all") == frozenset(Reason)
    assert parse_reasons("private, timeout") == {Reason.PRIVATE, Reason.TIMEOUT}
    with pytest.raises(UsageError, match="knows no reason 'privat'"):
        parse_reasons("privat")
    with pytest.raises(UsageError, match="names no reason"):
        parse_reasons(" , ")
    # As a program may say it.
    assert parse_reasons(["unknown", "private,timeout"]) == {Reason.UNKNOWN, Reason.PRIVATE, Reason.TIMEOUT}
    assert parse_reasons({Reason.UNKNOWN}) == {Reason.UNKNOWN}
    for none in (True, 3, [None]):
        with pytest.raises(UsageError, match="wants reasons, as a text or a list of texts"):
            parse_reasons(none)
