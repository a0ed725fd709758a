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
import pyarrow.parquet as pq
import pytest

from tests.pipeline.test_build import contents
from vidaudio.pipeline.corpus import Corpus
from vidaudio.shards.scratch import PREFIX, scratch_prefix, sweep_scratch


class Reader(threading.Thread):
    """Opens whatever is visible in a corpus, over and over, and counts what is not whole."""

    def __init__(self, corpus: Path) -> None:
        super().__init__(daemon=True)
        self.corpus = corpus
        self.opened = 0
        self.partial: list[str] = []
        self._stopped = threading.Event()

    def run(self) -> None:
        while not self._stopped.wait(0.05):
            for folder, folders, files in os.walk(self.corpus):
                folders[:] = [name for name in folders if not name.startswith(PREFIX)]
                for name in files:
                    self._look(Path(folder) / name)

    def _look(self, path: Path) -> None:
        try:
            self._open(path)
            self.opened += 1
        except FileNotFoundError:
            return  # a loser's tar, removed between the look and the opening
        except Exception as error:  # whatever a reader stumbles over is the finding
            self.partial.append(f"{path.name}: {error}")

    def _open(self, path: Path) -> None:
        if path.suffix == ".tar":
            with tarfile.open(path) as tar:
                for member in tar:
                    assert len(tar.extractfile(member).read()) == member.size
        elif path.suffix == ".parquet":
            pq.read_table(path)
        elif path.suffix == ".json":
            json.loads(path.read_text())

    def stop(self) -> None:
        self._stopped.set()
        self.join()


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
    reader = Reader(corpus)
    reader.start()
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
        process.wait(timeout=120)
    subprocess.run(command(recipe_file, media_world.manifest, corpus), check=True, capture_output=True, timeout=120)
    assert reader.is_alive()
    reader.stop()
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
