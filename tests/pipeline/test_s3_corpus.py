"""A whole corpus on S3, built by Dask's worker processes: the bytes of one on disk, and everything that reads it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.media_world import MediaWorld, pack_here, world_recipe
from tests.pipeline.test_build import contents
from tests.s3_server import BUCKET, S3Server
from vidaudio.corpus.corpus import Corpus, open_corpus
from vidaudio.errors import CorpusError, StoreError
from vidaudio.maintenance import count_worker
from vidaudio.maintenance.status import corpus_status
from vidaudio.maintenance.verify import verify_corpus
from vidaudio.pipeline.build import build
from vidaudio.pipeline.dry_run import dry_run
from vidaudio.shards.remote import RemoteStore
from vidaudio.stream import MixtureStream, StreamConfig, WindowShape


@pytest.fixture(scope="module")
def remote_corpus(s3_server: S3Server, media_world: MediaWorld, tiny_clip: Path) -> Corpus:
    url = f"s3://{BUCKET}/whole/corpus"
    build(world_recipe(tiny_clip), str(media_world.manifest), url, progress=False)
    return open_corpus(url)


def objects(corpus: Corpus) -> dict[str, bytes]:
    """Every object of the corpus but the runs', by name."""
    store = corpus.store
    assert isinstance(store, RemoteStore)
    names = {path.removeprefix(f"{store.root}/"): path for path in store.fs.find(store.root)}
    return {name: store.fs.cat_file(path) for name, path in names.items() if not name.startswith("runs/")}


def test_its_bytes_are_those_of_the_corpus_on_disk(remote_corpus, built_corpus):
    ours, there = contents(built_corpus.url), objects(remote_corpus)
    assert set(there) == {name for name in ours if not name.startswith("training/") or "/default/" in name}
    assert [name for name in there if there[name] != ours[name]] == []


def test_building_it_again_writes_nothing(remote_corpus, media_world, tiny_clip, s3_server):
    before = objects(remote_corpus)
    s3_server.ask()
    build(world_recipe(tiny_clip), str(media_world.manifest), remote_corpus.url, progress=False)
    assert s3_server.ask()["GET"] > 0
    assert objects(remote_corpus) == before


def test_several_processes_count_what_one_does(remote_corpus, built_corpus, monkeypatch):
    names = {folder: remote_corpus.store.list(folder) for folder in ("clips", "av")}
    rows = [
        {"folder": folder, "table": name, "table_bytes": size, "superseded": []}
        for folder, sizes in names.items()
        for name, size in sizes.items()
        if name.endswith(".parquet")
    ]
    # The first id of the first table counts no more, there as here.
    rows[0]["superseded"] = remote_corpus.rows(0)[0].id, "nobody"
    asked = pa.Table.from_pylist(rows, schema=count_worker.ASKED)
    here = count_worker.count_tables(built_corpus.store, asked)
    monkeypatch.setattr(count_worker, "TABLES_A_PROCESS", 1)
    monkeypatch.setattr(count_worker, "available_cores", lambda: 2)
    monkeypatch.setattr(count_worker, "_count_here", None)
    there = count_worker.count_tables(remote_corpus.store, asked)
    assert there.equals(here)
    gone = pa.Table.from_pylist([rows[0], {**rows[1], "table": "999999.parquet"}], schema=count_worker.ASKED)
    with pytest.raises(CorpusError, match="999999"):
        count_worker.count_tables(remote_corpus.store, gone)


def test_status_and_a_second_pack_are_those_of_the_disk(remote_corpus, built_corpus, packed_as):
    stages = corpus_status(remote_corpus.url).as_dict()["stages"]
    assert stages == corpus_status(built_corpus.url).as_dict()["stages"]
    local = packed_as("on-s3-too", audio="pcm16", clips_per_shard=4)
    pack_here(
        remote_corpus,
        remote_corpus.pack.model_copy(update={"name": "on-s3-too", "audio": "pcm16", "clips_per_shard": 4}),
    )
    there = {n: d for n, d in objects(remote_corpus).items() if n.startswith("training/on-s3-too/")}
    assert {name.rsplit("/", 1)[1]: data for name, data in there.items()} == {
        path.name: path.read_bytes() for path in Path(local).iterdir()
    }


def test_a_loader_streams_from_it_what_it_streams_from_disk(remote_corpus, built_corpus):
    config = StreamConfig(batch_size=4, shape=WindowShape())
    there = MixtureStream(f"{remote_corpus.url}/training/default", config)
    here = MixtureStream(f"{built_corpus.url}/training/default", config)
    for workers in (0, 2):
        pairs = zip(there.loader(workers=workers), here.loader(), strict=False)
        for _, (ours, own) in zip(range(4), pairs, strict=False):
            assert all(np.array_equal(ours[key], own[key]) for key in ("audio", "vectors", "gains", "rows"))


def test_verify_finds_it_fine_and_what_is_done_to_it(remote_corpus, tmp_path):
    report = verify_corpus(remote_corpus.url, progress=False)
    assert report.problems == ()
    assert report.counts["frames_encoded_again"] > 0
    assert report.counts["tars_hashed"] == report.counts["tars"] > 0
    half = verify_corpus(remote_corpus.url, sample=0.5, progress=False)
    assert half.ok
    assert half.counts["tars_hashed"] < half.counts["tars"]

    store = remote_corpus.store
    tar = next(name for name in sorted(store.list("av")) if name.startswith("000000.") and name.endswith(".tar"))
    for name in (f"av/{tar}", "clips/000001.parquet"):
        whole = store.read(name)
        flipped = bytearray(whole)
        flipped[len(whole) // 2] ^= 4
        for data, expected in ((bytes(flipped), {name}), (whole, set())):
            (tmp_path / "file").write_bytes(data)
            store.put(name, tmp_path / "file")
            found = {problem.file for problem in verify_corpus(remote_corpus.url, progress=False).problems}
            assert found == expected


def test_a_bucket_that_is_not_there_is_not_to_be_built_into(s3_server, media_world, tiny_clip):
    request = (world_recipe(tiny_clip), str(media_world.manifest), "s3://no-such-bucket/corpus")
    for command in (lambda: corpus_status(request[2]), lambda: dry_run(*request), lambda: build(*request)):
        with pytest.raises(StoreError, match=r"s3://no-such-bucket does not exist; create the bucket"):
            command()
    with pytest.raises(CorpusError, match=r"there is no corpus at .*`vidaudio build` makes one"):
        corpus_status(f"s3://{BUCKET}/nothing/here")
