"""Sweeping: what no table can ever name goes, and nothing else."""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path

import pytest

from tests.shards.test_commit import commit_one
from vidaudio.shards.open import open_store
from vidaudio.shards.orphans import sweep_orphans
from vidaudio.shards.store import Store

HOUR = 3_600.0


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "s3":
        request.getfixturevalue("s3_server")
    return open_store(tmp_path / "corpus" if request.param == "local" else f"s3://corpora/{uuid.uuid4().hex}")


def test_a_tar_beside_anothers_table_goes_and_the_committed_stays(store: Store):
    record = commit_one(store, b"sound", shard=3)
    store.create("av/000003.0badf00d.tar", b"killed before it lost")
    store.create("av/notes.tar", b"not of a stage")
    assert sweep_orphans(store, "av") == ["000003.0badf00d.tar"]
    assert set(store.list("av")) == {record.tar, "000003.parquet", "notes.tar"}
    assert sweep_orphans(store, "av") == []
    assert sweep_orphans(store, "nowhere") == []


def test_a_tar_without_a_table_stays_unless_it_is_known_to_be_abandoned(store: Store):
    store.create("av/000004.0badf00d.tar", b"its task may be alive")
    assert sweep_orphans(store, "av") == []
    assert sweep_orphans(store, "av", abandoned_after=HOUR) == []
    assert sweep_orphans(store, "av", abandoned_after=-HOUR) == ["000004.0badf00d.tar"]
    assert store.list("av") == {}


def test_age_is_that_of_the_file(tmp_path: Path):
    store = open_store(tmp_path)
    for name, age in (("000001.0badf00d.tar", 2 * HOUR), ("000002.0badf00d.tar", HOUR / 2)):
        store.create(f"av/{name}", b"x")
        os.utime(tmp_path / "av" / name, (time.time() - age,) * 2)
    assert sweep_orphans(store, "av", abandoned_after=HOUR) == ["000001.0badf00d.tar"]


def test_a_table_whose_own_tar_is_gone_keeps_what_lies_beside_it(store: Store):
    record = commit_one(store, b"sound", shard=3)
    store.remove(f"av/{record.tar}")
    names = ["000003.0badf00d.tar", "000003.1badf00d.tar"]
    for name in names:
        store.create(f"av/{name}", b"x")
    assert sweep_orphans(store, "av") == []
    assert set(names) <= set(store.list("av"))
