"""Builds killed for real at any moment: the same command again ends in the same bytes, and nobody ever saw half."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import psutil
import pytest

from tests.chaos.points import VICTIMS
from tests.chaos.reader import Reader
from tests.pipeline.test_build import contents
from vidaudio.corpus.corpus import Corpus
from vidaudio.shards.scratch import PREFIX, scratch_prefix, sweep_scratch


class ReaderThread(threading.Thread):
    """A reader that looks on, over and over, while others write."""

    def __init__(self, corpus: Path) -> None:
        super().__init__(daemon=True)
        self.reader = Reader(corpus)
        self._stopped = threading.Event()

    def run(self) -> None:
        while not self._stopped.wait(0.05):
            self.reader.look()

    def stop(self) -> Reader:
        self._stopped.set()
        self.join()
        return self.reader


def command(recipe: Path, manifest: Path, corpus: Path) -> list[str]:
    return [sys.executable, "-m", "vidaudio", "build", str(recipe), "-m", str(manifest), "-o", str(corpus), "--quiet"]


@pytest.fixture
def recipe_file(tmp_path: Path, tiny_clip: Path) -> Path:
    """What `built_corpus` was built with, as a file for a command of its own."""
    import yaml

    from tests.media_world import world_recipe

    path = tmp_path / "world.yaml"
    path.write_text(yaml.safe_dump(world_recipe(tiny_clip).model_dump(mode="json")))
    return path


@pytest.mark.parametrize("seed", [1])
def test_a_build_killed_again_and_again_ends_in_the_same_bytes(
    built_corpus: Corpus, media_world, recipe_file: Path, tmp_path: Path, seed: int
):
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    looking = ReaderThread(corpus)
    looking.start()
    draw = random.Random(seed)
    killed = []
    for victim in ("driver", "worker", "driver", "worker"):
        process = subprocess.Popen(
            command(recipe_file, media_world.manifest, corpus),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        # Start-up takes seconds in which nothing is written: wait for the first sign of work, then for a moment more.
        while process.poll() is None and not list(corpus.glob(f"{PREFIX}*")):
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 1.5))
        if process.poll() is None:
            killed.append(victim)
            if victim == "driver":
                os.killpg(process.pid, signal.SIGKILL)
            else:
                running = psutil.Process(process.pid).children(recursive=True)
                draw.choice(running or [psutil.Process(process.pid)]).kill()
        process.wait(timeout=400)
    subprocess.run(command(recipe_file, media_world.manifest, corpus), check=True, capture_output=True, timeout=400)
    assert looking.is_alive()
    reader = looking.stop()
    assert killed
    assert reader.opened > 0
    assert reader.partial == []
    assert contents(corpus) == contents(built_corpus.url)


def test_sigterm_ends_a_build_with_its_own_code_and_leaves_no_scratch(media_world, recipe_file: Path, tmp_path: Path):
    corpus = tmp_path / "corpus"
    process = subprocess.Popen(
        command(recipe_file, media_world.manifest, corpus), stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    while process.poll() is None and not (corpus / "corpus.json").exists():
        time.sleep(0.01)
    descendants = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + signal.SIGTERM
    assert "Traceback" not in errors
    _, alive = psutil.wait_procs(descendants, timeout=20)
    assert not alive
    sweep_scratch(corpus)
    assert not list(corpus.glob(f"{PREFIX}*"))


def test_scratch_of_dead_processes_is_swept_and_that_of_living_ones_is_not(tmp_path: Path):
    dead = subprocess.run(
        [sys.executable, "-c", "from vidaudio.shards.scratch import scratch_prefix; print(scratch_prefix())"],
        check=True, capture_output=True, text=True,
    ).stdout.strip()  # fmt: skip
    for prefix in (dead, scratch_prefix(), f"{PREFIX}otherhost-1-"):
        (tmp_path / f"{prefix}abc").mkdir()
        (tmp_path / f"{prefix}abc" / "new").write_text("x")
    assert sweep_scratch(tmp_path) == [f"{dead}abc"]
    assert not (tmp_path / f"{dead}abc").exists()
    assert len(list(tmp_path.iterdir())) == 2
    shutil.rmtree(tmp_path)
    assert sweep_scratch(tmp_path) == []


POINT = "commit: tar renamed, no table"


@pytest.mark.long
def test_whoever_dies_between_tar_and_table_and_when_the_disk_is_full(tmp_path: Path):
    """One row of `make chaos`, on a cluster of separate processes; the others take minutes."""
    record = tmp_path / "record.jsonl"
    chosen = ["--only", POINT, "--record", str(record), "--folder", str(tmp_path)]
    result = subprocess.run(
        [sys.executable, "-m", "tests.chaos", *chosen], capture_output=True, text=True, timeout=400, check=False
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    campaigns = [json.loads(line) for line in record.read_text().splitlines()]
    assert sorted(hit for campaign in campaigns for hit in campaign["hits"]) == sorted([POINT, v] for v in VICTIMS)
    assert all(campaign["opened"] and not campaign["faults"] for campaign in campaigns)
    assert all(campaign["requests"] >= campaign["least_requests"] for campaign in campaigns)


@pytest.fixture
def visible(built_corpus: Corpus, tmp_path: Path) -> Path:
    return shutil.copytree(built_corpus.url, tmp_path / "corpus")


def test_a_reader_finds_a_whole_corpus_whole(visible: Path):
    reader = Reader(visible)
    reader.look()
    assert reader.partial == []
    opened = reader.opened
    reader.look()
    assert reader.opened == opened > 10, "what has not changed is not opened again"


FILES = """
av/*.tar clips/*.tar training/default/*.tar av/*.parquet embeddings/*/*.parquet training/default/*.parquet
training/default/index.arrow corpus.json manifest.parquet
"""


@pytest.mark.parametrize("name", FILES.split())
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_reader_sees_a_file_that_is_being_written_under_its_own_name(visible: Path, name: str, share: float):
    path = sorted(visible.glob(name))[0]
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    reader = Reader(visible)
    reader.look()
    assert any(found.startswith(str(path.relative_to(visible))) for found in reader.partial)
    path.write_bytes(data)
    reader.partial.clear()
    reader.look()
    assert reader.partial == []


def test_a_reader_sees_a_tar_cut_between_two_members_and_a_table_before_its_tar(visible: Path):
    tar = sorted(visible.glob("training/default/*.tar"))[0]
    with tarfile.open(tar) as opened:
        second = opened.getmembers()[1].offset
    data = tar.read_bytes()
    tar.write_bytes(data[:second])
    av = sorted(visible.glob("av/*.tar"))[0]
    av.unlink()
    reader = Reader(visible)
    reader.look()
    assert {found.partition(":")[0] for found in reader.partial} == {
        str(tar.relative_to(visible)),
        f"av/{av.name[:6]}.parquet",
    }
