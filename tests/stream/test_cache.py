"""The cache of remote shards: bounded, fetched once by however many processes, whole after any death."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch

from tests.s3_server import S3Server
from tests.stream.synthetic import write_shards
from vidaudio.errors import StoreError, UsageError
from vidaudio.shards.open import open_store
from vidaudio.shards.scratch import PREFIX
from vidaudio.shards.store import Store
from vidaudio.stream import MixtureStream, StreamConfig, WindowShape
from vidaudio.stream.cache import ROOM_LOCK, ShardCache

SHAPE = WindowShape(frames=1, samples=8_000)
CONFIG = StreamConfig(sources=2, shape=SHAPE, batch_size=4, seed=7, block_shards=2)
FILES = {f"file{number}": bytes([number]) * 1000 for number in range(8)}


@pytest.fixture
def files() -> Store:
    store = open_store(f"memory://{uuid.uuid4().hex}")
    for name, data in FILES.items():
        store.create(name, data)
    return store


def content(cache: ShardCache, store: Store, name: str) -> bytes:
    descriptor = cache.open(store, name, "one", len(FILES[name]))
    try:
        return os.pread(descriptor, 10_000, 0)
    finally:
        os.close(descriptor)


def copies(folder: Path) -> list[Path]:
    found = [path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(".lock")]
    return sorted(found, key=lambda path: path.name)


class TestOneProcess:
    def test_copies_are_the_files_and_never_more_than_allowed(self, files, tmp_path):
        cache = ShardCache(tmp_path, 3500)
        for name in [*FILES, *reversed(FILES), *FILES]:
            assert content(cache, files, name) == FILES[name]
            assert sum(path.stat().st_size for path in copies(tmp_path)) <= 3500
        assert len(copies(tmp_path)) == 3

    def test_those_used_longest_ago_go_first(self, files, tmp_path):
        cache = ShardCache(tmp_path, 3500)
        for name in ("file0", "file1", "file2"):
            content(cache, files, name)
        for age, path in enumerate(reversed(copies(tmp_path))):
            os.utime(path, (1000 - age, 1000 - age))
        content(cache, files, "file0")
        content(cache, files, "file3")
        assert [path.name for path in copies(tmp_path)] == ["file0", "file2", "file3"]

    def test_a_copy_that_goes_while_it_is_read_can_be_read_on(self, files, tmp_path):
        cache = ShardCache(tmp_path, 1500)
        descriptor = cache.open(files, "file0", "one")
        content(cache, files, "file1")
        assert [path.name for path in copies(tmp_path)] == ["file1"]
        assert os.pread(descriptor, 10_000, 0) == FILES["file0"]
        os.close(descriptor)

    def test_another_identity_is_another_copy(self, files, tmp_path):
        cache = ShardCache(tmp_path, 10_000)
        for identity in ("one", "two", "one"):
            os.close(cache.open(files, "file0", identity))
        assert len(copies(tmp_path)) == 2

    def test_a_file_of_another_size_than_listed_is_refused_and_not_kept(self, files, tmp_path):
        cache = ShardCache(tmp_path, 10_000)
        with pytest.raises(StoreError, match=r"file0 has 1,000 bytes, and was listed with 999"):
            cache.open(files, "file0", "one", 999)
        assert copies(tmp_path) == []

    def test_a_file_larger_than_the_cache_is_refused(self, files, tmp_path):
        with pytest.raises(UsageError, match="may hold 500 bytes"):
            content(ShardCache(tmp_path, 500), files, "file0")

    def test_a_file_that_is_gone_is_not_waited_for(self, files, tmp_path):
        with pytest.raises(FileNotFoundError):
            ShardCache(tmp_path, 5000).open(files, "none", "one")

    def test_a_folder_that_cannot_be_made_is_named(self, tmp_path):
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(StoreError, match=r"no copies of remote shards can be kept in .*file/cache"):
            ShardCache(tmp_path / "file" / "cache", 1)


class SlowStore:
    """A store whose downloads write half of a file, tell of it, and wait to be let on."""

    def __init__(self, store: Store, half: multiprocessing.Event, go: multiprocessing.Event) -> None:
        self.url, self._store, self._half, self._go = store.url, store, half, go

    def download(self, name: str, target: Path) -> None:
        target.write_bytes(self._store.read(name)[:500])
        self._half.set()
        self._go.wait()
        self._store.download(name, target)


class TestManyProcesses:
    @pytest.fixture
    def fork(self) -> Iterator[multiprocessing.context.BaseContext]:
        """Processes that carry this one's memory store along."""
        context = multiprocessing.get_context("fork")
        yield context
        for child in multiprocessing.active_children():
            child.kill()

    def test_who_is_killed_in_the_middle_leaves_nothing_in_the_way(self, files, tmp_path, fork):
        cache, half, go = ShardCache(tmp_path, 1500), fork.Event(), fork.Event()
        child = fork.Process(target=cache.open, args=(SlowStore(files, half, go), "file0", "one", 1000))
        child.start()
        assert half.wait(30)
        assert [path.name[: len(PREFIX)] for path in copies(tmp_path)] == [PREFIX]
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        assert content(cache, files, "file0") == FILES["file0"]
        # What it had reserved counts no longer, and what it had written is gone.
        assert [path.name for path in copies(tmp_path)] == ["file0"]

    def test_while_one_fetches_the_others_wait_or_pass_on(self, files, tmp_path, fork):
        cache, half, go = ShardCache(tmp_path, 5000), fork.Event(), fork.Event()
        slow = SlowStore(files, half, go)
        child = fork.Process(target=cache.open, args=(slow, "file0", "one", 1000))
        child.start()
        assert half.wait(30)
        # A prefetcher passes on: were it to wait, this would never end.
        cache.prefetch(slow, "file0", "one", 1000)
        waiting = fork.Process(target=cache.open, args=(ForbiddenStore(files.url), "file0", "one", 1000))
        waiting.start()
        go.set()
        child.join()
        waiting.join()
        assert (child.exitcode, waiting.exitcode) == (0, 0)

    def test_what_is_being_fetched_counts_as_taken(self, files, tmp_path, fork):
        cache, half, go = ShardCache(tmp_path, 2500), fork.Event(), fork.Event()
        content(cache, files, "file1")
        content(cache, files, "file2")
        child = fork.Process(target=cache.open, args=(SlowStore(files, half, go), "file0", "one", 1000))
        child.start()
        assert half.wait(30)
        content(cache, files, "file3")
        assert len([path for path in copies(tmp_path) if not path.name.startswith(PREFIX)]) == 1
        go.set()
        child.join()
        assert [path.name for path in copies(tmp_path)] == ["file0", "file3"]

    def test_a_child_does_not_keep_its_parents_lock(self, files, tmp_path, fork):
        """A worker forked while a thread of its parent fetches must not hold the lock for its own life."""
        from vidaudio.stream.cache import _locked

        stay = fork.Event()
        with _locked(tmp_path / ROOM_LOCK, wait=True):
            child = fork.Process(target=stay.wait)
            child.start()
        with _locked(tmp_path / ROOM_LOCK, wait=False) as mine:
            deadline = time.monotonic() + 30
            while not mine and time.monotonic() < deadline:
                with _locked(tmp_path / ROOM_LOCK, wait=False) as mine:
                    pass
            assert mine
        stay.set()
        child.join()


class ForbiddenStore:
    """Nothing may be fetched from it."""

    def __init__(self, url: str) -> None:
        self.url = url

    def download(self, name: str, target: Path) -> None:
        raise AssertionError("fetched a second time")


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty training shards of eighteen samples."""
    return write_shards(tmp_path_factory.mktemp("noise"), shards=30, samples_a_shard=18)


def test_an_index_that_is_replaced_within_a_second_by_one_of_the_same_size_is_read_anew(s3_server, tmp_path):
    store, cache = open_store(f"s3://corpora/{uuid.uuid4().hex}"), ShardCache(tmp_path / "cache", 1 << 20)
    for number in range(6):
        written = bytes([number]) * 1000
        (tmp_path / "new").write_bytes(written)
        store.put("index.arrow", tmp_path / "new")
        descriptor, _ = cache.open_index(store, "index.arrow")
        with os.fdopen(descriptor, "rb") as file:
            assert file.read() == written


class TestStreams:
    @pytest.fixture
    def remote(self, local: Path, s3_server: S3Server) -> str:
        url = f"s3://corpora/{uuid.uuid4().hex}"
        store = open_store(url)
        for path in local.iterdir():
            store.create(path.name, path.read_bytes())
        s3_server.bytes_sent()
        return url

    def test_an_epoch_of_several_workers_reads_every_shard_once_within_a_small_cache(
        self, local, remote, s3_server, tmp_path
    ):
        shards = {path.name: path.stat().st_size for path in local.glob("train-*.tar")}
        limit = 9 * max(shards.values()) + (local / "index.arrow").stat().st_size
        config = replace(CONFIG, cache_folder=str(tmp_path), cache_bytes=limit)
        stream = MixtureStream(remote, config)
        batches = stream.batches_per_epoch
        assert sum(shards.values()) > 3 * limit
        got = list(islice(stream.loader(workers=2, prefetch=2), batches))
        expected = list(islice(MixtureStream(str(local), CONFIG), batches))
        assert all(
            torch.equal(a[key], b[key])
            for a, b in zip(got, expected, strict=True)
            for key in ("audio", "rows", "vectors")
        )
        sent = {path.rpartition("/")[2]: count for path, count in s3_server.bytes_sent().items()}
        assert all(sent[name] == size for name, size in shards.items() if name not in self.ahead(stream))
        # What is read ahead of the next epoch may have been let go before, and is fetched once more then.
        assert all(sent[name] in (size, 2 * size) for name, size in shards.items())
        assert sum(path.stat().st_size for path in copies(tmp_path)) <= limit

    def ahead(self, stream: MixtureStream) -> set[str]:
        """The shards that workers at the end of the first epoch may send for."""
        order, index = stream.corpora[0].groups.order, stream.index
        shards = [shard for block in range(2) for shard in order.shards(1, block).tolist()]
        return {index.tars[index.tar_numbers[shard]] for shard in shards}

    def test_a_second_run_over_a_cache_that_holds_all_reads_no_shard(self, local, remote, s3_server, tmp_path):
        config = replace(CONFIG, cache_folder=str(tmp_path))
        shards = {path.name for path in local.glob("train-*.tar")}
        for fetched in (True, False):
            stream = MixtureStream(remote, config)
            list(islice(stream, 2 * stream.batches_per_epoch))
            sent = {path.rpartition("/")[2] for path in s3_server.bytes_sent()}
            assert bool(sent & shards) == fetched

    def test_without_a_cache_members_are_read_one_by_one(self, local, remote, tmp_path):
        stream = MixtureStream(remote, replace(CONFIG, cache_bytes=0, cache_folder=str(tmp_path)))
        assert torch.equal(stream.batch(3)["audio"], MixtureStream(str(local), CONFIG).batch(3)["audio"])
        assert list(tmp_path.iterdir()) == []

    def test_a_cache_that_cannot_hold_neighbouring_blocks_is_refused(self, local, remote, tmp_path):
        config = replace(CONFIG, cache_folder=str(tmp_path), cache_bytes=1_000_000)
        shards = list(local.glob("train-*.tar"))
        # A block of 1 may lie over the border of two shards; none of a corpus is needed twice.
        cases = ((1, min(6, len(shards)), "cache_bytes$"), (99, len(shards), "cache_bytes or lower block_shards$"))
        for block_shards, needed, way_out in cases:
            sentence = rf"1,000,000 bytes is too small .* up to {needed} of its {len(shards)} shards .* 3 blocks, "
            with pytest.raises(UsageError, match=sentence + f".*raise {way_out}"):
                MixtureStream(remote, replace(config, block_shards=block_shards))
