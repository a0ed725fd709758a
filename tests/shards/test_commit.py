"""Commits: a shard exists exactly when its table does, first commit wins, and equal work commits equal bytes."""

from __future__ import annotations

import pickle
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vidaudio.hashing import sha256_of
from vidaudio.shards.commit import CommitRecord, commit, committed_shards, read_record, read_table, table_name
from vidaudio.shards.corruption import CorruptFileError
from vidaudio.shards.open import open_store
from vidaudio.shards.read import TarReader
from vidaudio.shards.store import LocalStore, Store
from vidaudio.shards.tar import ShardWriter

TABLE = pa.table({"id": ["a", "b"], "state": ["done", "failed"]})


@pytest.fixture(params=["local", "memory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "s3":
        request.getfixturevalue("s3_server")
    folders = {"local": tmp_path / "corpus", "memory": f"memory://{uuid.uuid4().hex}"}
    return open_store(folders.get(request.param, f"s3://corpora/{uuid.uuid4().hex}"))


def commit_one(store: Store, content: bytes, shard: int = 3) -> CommitRecord:
    with store.workspace() as scratch:
        tar = scratch / "shard.tar"
        with ShardWriter(tar) as writer:
            writer.write("a", {"flac": content})
        return commit(store, "av", shard, stage="toy", plan_hash="plan", table=TABLE, tar=tar)


def test_record_and_table_come_back_as_committed(store: Store):
    record = commit_one(store, b"sound")
    assert record.tar == f"000003.{record.tar_sha256[:8]}.tar"
    assert (record.stage, record.shard, record.plan_hash, record.rows) == ("toy", 3, "plan", 2)
    table, standing = read_table(store, table_name("av", 3))
    assert standing == record == read_record(store, table_name("av", 3))
    assert table.replace_schema_metadata().equals(TABLE)
    assert len(store.read(f"av/{record.tar}")) == record.tar_bytes
    assert committed_shards(store, "av") == {3}


def test_the_tars_name_and_the_record_carry_its_hash(tmp_path: Path):
    store = LocalStore(tmp_path)
    record = commit_one(store, b"sound")
    assert sha256_of(tmp_path / "av" / record.tar) == record.tar_sha256


def test_equal_work_commits_equal_bytes(tmp_path: Path):
    files = []
    for name in ("one", "two"):
        store = LocalStore(tmp_path / name)
        commit_one(store, b"sound")
        files.append({path.name: path.read_bytes() for path in (tmp_path / name / "av").iterdir()})
    assert files[0] == files[1]
    assert len(files[0]) == 2


def test_committing_the_same_again_changes_nothing(store: Store):
    first = commit_one(store, b"sound")
    before = {name: store.read(f"av/{name}") for name in store.list("av")}
    assert commit_one(store, b"sound") == first
    assert {name: store.read(f"av/{name}") for name in store.list("av")} == before


def test_the_loser_gets_the_winners_record_and_takes_its_own_tar_away(store: Store):
    winner = commit_one(store, b"first")
    loser = commit_one(store, b"second")
    assert loser == winner
    assert set(store.list("av")) == {winner.tar, "000003.parquet"}


def test_of_many_that_commit_at_once_one_stands_whole(tmp_path: Path):
    store = LocalStore(tmp_path)
    for shard in range(5):
        ready = threading.Barrier(8)

        def race(number: int, ready: threading.Barrier = ready, shard: int = shard) -> CommitRecord:
            ready.wait()
            # Two of each content: a loser must not take away the tar that a winner of equal content needs.
            return commit_one(store, b"content %d" % (number // 2), shard)

        with ThreadPoolExecutor(8) as pool:
            records = set(pool.map(race, range(8)))
        assert len(records) == 1
        record = records.pop()
        assert {name for name in store.list("av") if name.startswith(f"{shard:06d}")} == {
            record.tar,
            f"{shard:06d}.parquet",
        }
        assert sha256_of(tmp_path / "av" / record.tar) == record.tar_sha256


def test_no_table_is_visible_before_its_tar(tmp_path: Path):
    class Watched(LocalStore):
        """Notes, at the moment a table is created, whether its tar stands."""

        stood: bool | None = None

        def create(self, name: str, data: bytes) -> bool:
            self.stood = any(other.endswith(".tar") for other in self.list("av"))
            return super().create(name, data)

    store = Watched(tmp_path)
    commit_one(store, b"sound")
    assert store.stood


def test_a_table_without_a_tar_is_a_commit_too(store: Store):
    record = commit(store, "embeddings/e", 12, stage="embed", plan_hash="plan", table=TABLE)
    assert record.tar is None
    assert read_record(store, "embeddings/e/000012.parquet") == record
    assert committed_shards(store, "embeddings/e") == {12}


def test_only_tables_count_as_committed(store: Store):
    commit_one(store, b"sound", shard=1)
    store.create("av/000002.12345678.tar", b"an orphan")
    store.create("av/notes.parquet", b"something else")
    assert committed_shards(store, "av") == {1}
    assert committed_shards(store, "nowhere") == set()


def test_tables_open_with_plain_parquet(tmp_path: Path):
    commit_one(LocalStore(tmp_path), b"sound")
    assert pq.read_table(tmp_path / "av" / "000003.parquet").to_pydict() == TABLE.to_pydict()


@pytest.mark.parametrize("read", [read_table, read_record])
def test_a_damaged_table_is_named_and_the_error_reaches_other_processes(store: Store, read):
    store.create("av/000003.parquet", b"PAR1, and then nothing of ours")
    with pytest.raises(CorruptFileError, match=r"the table .*/av/000003\.parquet is damaged \(") as raised:
        read(store, "av/000003.parquet")
    travelled = pickle.loads(pickle.dumps(raised.value))
    assert (travelled.file, str(travelled)) == ("av/000003.parquet", str(raised.value))


@pytest.mark.parametrize("whole", [True, False])
def test_a_tar_that_is_gone_is_named_wherever_it_was(store: Store, whole: bool):
    record = commit_one(store, b"sound")
    store.remove(f"av/{record.tar}")
    with pytest.raises(CorruptFileError, match=rf"/av/{record.tar} is gone, though its table stands") as raised:
        TarReader(store, f"av/{record.tar}", whole=whole).read(512, 5)
    assert raised.value.file == f"av/{record.tar}"
