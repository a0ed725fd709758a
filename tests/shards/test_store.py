"""Stores: what is written appears whole or not at all, and what is created is created once."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from vidaudio.errors import CorpusError, StoreError
from vidaudio.shards import remote
from vidaudio.shards.open import open_store
from vidaudio.shards.store import LocalStore, Store

SIZE = 1 << 18


@pytest.fixture(params=["local", "memory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "local":
        return open_store(tmp_path / "corpus")
    if request.param == "s3":
        request.getfixturevalue("s3_server")
        return open_store(f"s3://corpora/{uuid.uuid4().hex}/corpus")
    return open_store(f"memory://{uuid.uuid4().hex}/corpus")


def test_create_writes_once_and_says_so(store: Store):
    assert store.create("a/b.txt", b"first")
    assert not store.create("a/b.txt", b"second")
    assert store.read("a/b.txt") == b"first"


def test_put_replaces_and_put_new_does_not(store: Store):
    with store.workspace() as scratch:
        for data in (b"one", b"two"):
            (scratch / "file").write_bytes(data)
            store.put("a/put", scratch / "file")
            assert store.read("a/put") == data
            assert not (scratch / "file").exists()
        won = []
        for data in (b"one", b"two"):
            (scratch / "file").write_bytes(data)
            won.append(store.put_new("a/new", scratch / "file"))
            assert not (scratch / "file").exists()
    assert won == [True, False]
    assert store.read("a/new") == b"one"


def test_files_are_listed_with_sizes_folders_by_name_and_absence_is_empty(store: Store):
    store.create("a/one", b"1")
    store.create("a/three", b"333")
    store.create("a/b/four", b"4444")
    store.create("a/c/five", b"55555")
    assert store.list("a") == {"one": 1, "three": 3}
    assert store.folders("a") == ["b", "c"]
    assert store.list("nowhere") == {}
    assert store.folders("nowhere") == []


def test_ranges_exists_and_remove(store: Store):
    store.create("x", bytes(range(100)))
    assert store.read_range("x", 10, 5) == bytes(range(10, 15))
    assert store.exists("x")
    store.remove("x")
    store.remove("x")
    assert not store.exists("x")
    with pytest.raises(FileNotFoundError):
        store.read("x")


def test_a_copy_is_the_file_whatever_its_size(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(remote, "PART_BYTES", 1_000)
    for size in (0, 999, 1_000, 3_500):
        data = os.urandom(size)
        store.create(f"tar-{size}", data)
        store.download(f"tar-{size}", tmp_path / "copy")
        assert (tmp_path / "copy").read_bytes() == data
    with pytest.raises(FileNotFoundError):
        store.download("none", tmp_path / "copy")


@pytest.mark.parametrize("name", ["../outside", "a/../../outside", "/etc/outside", "a/b/../../../outside"])
def test_names_cannot_leave_the_root(store: Store, name: str, tmp_path: Path):
    source = tmp_path / "source"
    source.write_bytes(b"x")
    for attempt in (
        lambda: store.create(name, b"x"),
        lambda: store.put(name, source),
        lambda: store.put_new(name, source),
        lambda: store.read(name),
        lambda: store.read_range(name, 0, 1),
        lambda: store.exists(name),
        lambda: store.list(name),
        lambda: store.folders(name),
        lambda: store.remove(name),
    ):
        with pytest.raises(CorpusError, match="not a name inside"):
            attempt()
    assert source.read_bytes() == b"x"
    assert not list(tmp_path.rglob("outside"))


def test_a_workspace_leaves_nothing(store: Store):
    with store.workspace() as scratch:
        (scratch / "folder").mkdir()
        (scratch / "folder" / "file").write_bytes(b"x")
        kept = scratch
    assert not kept.exists()
    assert store.list("") == {}
    assert store.folders("") == []


def test_where_nobody_may_write_is_said_without_the_name_of_a_scratch_folder(tmp_path: Path, monkeypatch):
    def refused(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", f"{tmp_path}/.tmp-1")

    monkeypatch.setattr(os, "mkdir", refused)
    sentence = re.escape(f"{tmp_path} may not be written to (Read-only file system); nothing was changed")
    with pytest.raises(StoreError, match=sentence), open_store(tmp_path).workspace():
        pass


def test_one_of_many_threads_creates_and_its_content_stands(tmp_path: Path):
    store = LocalStore(tmp_path)
    for attempt in range(10):
        ready = threading.Barrier(12)

        def race(number: int, ready: threading.Barrier = ready, attempt: int = attempt) -> bool:
            ready.wait()
            return store.create(f"table-{attempt}", bytes([number]) * SIZE)

        with ThreadPoolExecutor(12) as pool:
            won = list(pool.map(race, range(12)))
        assert sum(won) == 1
        assert store.read(f"table-{attempt}") == bytes([won.index(True)]) * SIZE


RACER = """
import sys
from vidaudio.shards.open import open_store
store, me = open_store(sys.argv[1]), int(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
print(*[int(store.create(f"table-{n}", bytes([me]) * 65536)) for n in range(50)])
"""


def test_one_of_several_processes_creates(tmp_path: Path):
    command = [sys.executable, "-c", RACER, str(tmp_path)]
    racers = [
        subprocess.Popen([*command, str(me)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for me in range(3)
    ]
    for racer in racers:
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        racer.stdin.write("go\n")
        racer.stdin.flush()
    won = [[int(word) for word in racer.communicate(timeout=60)[0].split()] for racer in racers]
    store = LocalStore(tmp_path)
    for number, outcome in enumerate(zip(*won, strict=True)):
        assert sum(outcome) == 1
        assert store.read(f"table-{number}") == bytes([outcome.index(1)]) * 65536


def test_a_reader_sees_old_or_new_and_never_a_part(tmp_path: Path):
    store = LocalStore(tmp_path)
    seen: set[bytes] = set()
    done = threading.Event()

    def poll() -> None:
        while not done.is_set():
            for name in ("put", "created"):
                for listed, size in store.list("").items():
                    assert not listed.startswith(".")
                    assert size == SIZE
                if store.exists(name):
                    data = store.read(name)
                    assert len(data) == SIZE
                    seen.add(data[:1] + data[-1:])
                    store.remove("created")

    with ThreadPoolExecutor(1) as pool:
        polling = pool.submit(poll)
        with store.workspace() as scratch:
            for number in range(50):
                source = scratch / "file"
                source.write_bytes(bytes([number]) * SIZE)
                store.put("put", source)
                store.create("created", bytes([number]) * SIZE)
        done.set()
        polling.result()
    assert seen
    assert all(pair[0] == pair[1] for pair in seen)


def test_a_folder_is_listed_whole_while_files_in_it_vanish(tmp_path: Path):
    store = LocalStore(tmp_path)
    for number in range(50):
        store.create(f"table-{number}", b"x")
    done = threading.Event()

    def come_and_go() -> None:
        number = 0
        while not done.is_set():
            path = tmp_path / f"passing-{number % 20}"
            path.write_bytes(b"x")
            path.unlink(missing_ok=True)
            number += 1

    with ThreadPoolExecutor(2) as pool:
        passing = [pool.submit(come_and_go) for _ in range(2)]
        listings = [store.list("") for _ in range(500)]
        done.set()
        for future in passing:
            future.result()
    lasting = {f"table-{number}" for number in range(50)}
    assert all(lasting <= set(listing) for listing in listings)


def test_local_stores_say_where_a_file_lies_and_remote_ones_have_no_path(store: Store):
    store.create("a/file", b"x")
    path = store.local_path("a/file")
    if isinstance(store, LocalStore):
        assert Path(path).read_bytes() == b"x"
    else:
        assert path is None


def test_a_home_folder_a_file_url_and_a_path_open_local_stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for url in ("~/corpus", f"file://{tmp_path}/corpus", tmp_path / "corpus", os.path.relpath(tmp_path / "corpus")):
        assert os.path.realpath(open_store(url).url) == os.path.realpath(tmp_path / "corpus")


def test_an_unknown_kind_of_url_is_named():
    with pytest.raises(StoreError, match="nosuch://bucket"):
        open_store("nosuch://bucket/corpus")


@pytest.mark.parametrize("attempt", ["read", "read_range", "download", "create", "put"])
def test_an_error_of_the_disk_names_the_file(attempt: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def broken(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    store, source = open_store(tmp_path / "corpus"), tmp_path / "source"
    store.create("av/1.tar", b"x")
    source.write_bytes(b"y")
    arguments = {"read_range": (0, 1), "download": (tmp_path / "copy",), "create": (b"y",), "put": (source,)}
    failing = ((os, "fdopen"), (Path, "write_bytes"), (os, "pread"), (os, "fsync"))
    for module, name in failing:
        monkeypatch.setattr(module, name, broken)
    with pytest.raises(OSError, match="Input/output error") as caught:
        getattr(store, attempt)("av/1.tar", *arguments.get(attempt, ()))
    assert caught.value.filename == str(tmp_path / "corpus" / "av" / "1.tar")
