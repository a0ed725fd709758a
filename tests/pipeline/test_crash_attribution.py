"""Clips that kill: a decoder's death costs one clip, a worker's death is found out, and nobody else is blamed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import psutil
import pytest

from tests.media_world import MediaWorld
from vidaudio.corpus.corpus import open_corpus
from vidaudio.manifest import clips_from_table, read_manifest, write_manifest
from vidaudio.media.outcomes import Reason, State
from vidaudio.pipeline.stages.crash_attribution import DEATHS_ALONE, FOLDER, AttemptRecord, attempt
from vidaudio.shards.commit import read_table, table_name
from vidaudio.shards.store import LocalStore

# Loaded by every worker: a clip that kills its decoder and one that kills its worker, so often.
PRELOAD = """
import os, signal
from vidaudio.media.decode.extractor import Extractor

if not hasattr(Extractor, "plain"):  # Dask loads this file twice
    Extractor.plain, Extractor.ask = Extractor._read_line, Extractor._ask

VICTIMS = {{"bars": lambda self: self._process.pid, "clock": lambda self: os.getpid()}}

def reading(self, deadline):  # the job has just been handed over
    name = self.chaos_span.path.stem
    if name in VICTIMS:
        with open(os.path.join({folder!r}, name), "ab") as killed:
            if killed.tell() < {times}:
                killed.write(b"x")
                killed.flush()
                os.kill(VICTIMS[name](self), signal.SIGKILL)
    return self.plain(deadline)

def asking(self, span):
    self.chaos_span = span
    return self.ask(span)

Extractor._ask, Extractor._read_line = asking, reading
"""
FOREVER = 10**6


@pytest.mark.parametrize(
    ("times", "kills", "outcome"),
    [
        (1, {"bars": 1, "clock": 1}, (State.DONE, None)),
        # A decoder's clip: in the process that others use, then alone, twice. A worker's: the first death leaves open
        # which of the shard's clips it was; each of the worker's three lives meets the decoder's clip again.
        (FOREVER, {"bars": 9, "clock": 1 + DEATHS_ALONE}, (State.FAILED, Reason.CRASH)),
    ],
    ids=["once", "always"],
)
def test_clips_that_kill_cost_themselves_and_no_other(media_world: MediaWorld, tmp_path: Path, times, kills, outcome):
    rows = [c for c in clips_from_table(read_manifest(str(media_world.manifest))) if c.id in ("bars", "clock", "brief")]
    write_manifest(rows, tmp_path / "list.parquet")
    preload = tmp_path / "preload.py"
    preload.write_text(PRELOAD.format(folder=str(tmp_path), times=times))
    build = ["build", "folder", "-m", str(tmp_path / "list.parquet"), "-o", str(tmp_path / "corpus"), "--quiet"]
    settings = ("dask.workers=1", "extract.frame_size=96", "embed.encoder.precision=float32")
    result = subprocess.run(
        [sys.executable, "-m", "vidaudio", *build, "--only=download,extract", *(f"--set={s}" for s in settings)],
        env={**os.environ, "DASK_DISTRIBUTED__WORKER__PRELOAD": str(preload)},
        capture_output=True, text=True, timeout=400,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    table, _ = read_table(open_corpus(str(tmp_path / "corpus")).store, table_name("av", 0))
    outcomes = {row["id"]: (row["state"], row["reason"]) for row in table.to_pylist()}
    assert outcomes == {"bars": outcome, "brief": (State.DONE, None), "clock": outcome}
    killed = {path.name: path.stat().st_size for path in (tmp_path / "bars", tmp_path / "clock")}
    assert killed["clock"] == kills["clock"]
    assert killed["bars"] <= kills["bars"]
    assert not list((tmp_path / "corpus" / FOLDER).rglob("*.json"))


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path)


def died(**values) -> AttemptRecord:
    """A try of this run whose worker is gone; its nanny (our parent) lives."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        gone = process.pid, psutil.Process(process.pid).create_time()
        process.stdin.close()
    return replace(AttemptRecord.here("this"), process=gone, **values)


def leave(store: LocalStore, *tries: AttemptRecord) -> None:
    for number, one in enumerate(tries):
        store.create(f"{FOLDER}/000003/{number}.json", json.dumps(asdict(one)).encode())


def test_a_try_leaves_no_note_when_it_ends_and_takes_earlier_ones_along(store: LocalStore):
    leave(store, died())
    trial = attempt(store, 3, "this")
    trial.__enter__()
    assert len(store.list(f"{FOLDER}/000003")) == 2
    with pytest.raises(ZeroDivisionError):
        trial.gen.throw(ZeroDivisionError)
    assert list(store.list(f"{FOLDER}/000003")) == ["0.json"]
    with attempt(store, 3, "this"):
        pass
    assert store.list(f"{FOLDER}/000003") == {}


def test_after_a_death_clips_are_decoded_alone_and_the_note_says_which(store: LocalStore):
    with attempt(store, 3, "this") as trial:
        assert not trial.alone
    leave(store, died())
    with attempt(store, 3, "this") as trial:
        assert trial.alone
        assert not trial.is_poisoned("a")
        notes = [json.loads(store.read(f"{FOLDER}/000003/{name}")) for name in store.list(f"{FOLDER}/000003")]
        assert {(note["alone"], note["clip"]) for note in notes} == {(False, None), (True, "a")}


def test_only_deaths_alone_at_the_same_clip_make_it_guilty(store: LocalStore):
    leave(store, died(), died(alone=True, clip="a"), died(alone=True, clip="b"), died(alone=True, clip="b"))
    with attempt(store, 3, "this") as trial:
        assert not trial.is_poisoned("a")
        assert trial.is_poisoned("b")
        assert not trial.is_poisoned("c")


@pytest.mark.parametrize(
    "innocent",
    [
        {"run": "before"},
        {"run": ""},
        {"boot": "before"},
        {"parent": (os.getpid(), 0.0)},
        {"process": None},
    ],
    ids=["driver", "by hand", "machine", "nanny", "alive"],
)
def test_other_deaths_never_count_against_a_clip(store: LocalStore, innocent: dict):
    if innocent == {"process": None}:
        innocent = {"process": AttemptRecord.here("this").process}
    leave(store, *(replace(died(alone=True, clip="a"), **innocent) for _ in range(DEATHS_ALONE + 1)))
    with attempt(store, 3, "this") as trial:
        assert not trial.alone
        assert not trial.is_poisoned("a")


def test_of_another_machine_only_the_note_can_tell(store: LocalStore):
    leave(
        store,
        *(replace(AttemptRecord.here("this", alone=True, clip="a"), host="elsewhere") for _ in range(DEATHS_ALONE)),
    )
    with attempt(store, 3, "this") as trial:
        assert trial.is_poisoned("a")


def test_of_another_container_of_this_machine_only_the_note_can_tell(store: LocalStore):
    """It counts its processes anew: a living process of that number here says nothing, nor does a missing one."""
    there = replace(AttemptRecord.here("this", alone=True, clip="a"), namespace=1)
    leave(store, *(replace(there, process=gone) for gone in (died().process, there.process)))
    with attempt(store, 3, "this") as trial:
        assert trial.is_poisoned("a")
