"""Loader processes that fail, die or hang: the run ends by itself, with one sentence, and leaves no process behind."""

from __future__ import annotations

import errno
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import psutil
import pytest
import torch
from torch.utils.data import get_worker_info

from tests.conftest import REPOSITORY
from tests.trained import TINY
from vidaudio.errors import CorpusError, LoaderError, VidaudioError
from vidaudio.shards.corruption import CorruptFileError
from vidaudio.stream import loader_errors
from vidaudio.stream.loader import MixtureStream
from vidaudio.stream.loader_errors import readable, sent_error, sentence
from vidaudio.tasks.registry import load_train_recipe, train
from vidaudio.training import loader_processes
from vidaudio.training.loader_processes import LoaderProcesses, end_processes
from vidaudio.training.resume import newest_state

SETTINGS = (*TINY, "data={batch_size: 4, workers: 2}", "validation.every_steps=2", "log={to: none}")
FAILS_AT = 5


def _raise(error: Exception) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


def _nameless() -> None:
    class NoSuchKey(Exception):
        """As S3 clients make them: no pickle finds it again."""

    raise NoSuchKey("the key is gone")


FAILURES = {
    "error": (_raise(OSError(errno.ESTALE, "Stale file handle")), r"OSError: \[Errno 116\] Stale file handle"),
    "no pickle": (_nameless, "NoSuchKey: the key is gone"),
    "bus error": (lambda: os.kill(os.getpid(), signal.SIGBUS), "/dev/shm holds .*data.workers=0"),
    "killed": (lambda: os.kill(os.getpid(), signal.SIGKILL), "it was killed .*memory"),
}


@pytest.mark.parametrize("kind", FAILURES)
def test_a_failure_in_a_loader_process_is_one_sentence_and_no_process_stays(
    kind: str, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    fail, said = FAILURES[kind]
    read = MixtureStream.batch

    def batch(self: MixtureStream, step: int) -> dict:
        if step == FAILS_AT and get_worker_info() is not None and self.config.shuffle:
            fail()
        return read(self, step)

    monkeypatch.setattr(MixtureStream, "batch", batch)
    with pytest.raises(LoaderError, match=said) as caught:
        train(load_train_recipe("clipsep", SETTINGS), str(packed), tmp_path / "run", progress=False)
    assert "Traceback" not in str(caught.value)
    assert "--auto-resume" in str(caught.value)
    assert multiprocessing.active_children() == []
    # What was written before stays, if the loader, which reads ahead, had not failed before.
    state = newest_state(tmp_path / "run")
    assert state is None or state.step < FAILS_AT


def _close_and_linger(connection: Connection) -> None:
    connection.close()
    time.sleep(0.3)
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_connection_that_closes_before_its_process_has_ended_is_explained():
    loaders = LoaderProcesses()
    ours, theirs = multiprocessing.Pipe()
    process = loaders._context.Process(target=_close_and_linger, args=(theirs,))
    process.start()
    theirs.close()
    with pytest.raises(EOFError) as cut_off:
        ours.recv()
    assert process.exitcode is None
    explained = loaders.explain(cut_off.value)
    assert isinstance(explained, LoaderError)
    assert "killed" in str(explained)
    process.join()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "loader process 1 failed: MemoryError"),
        (
            UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
            "loader process 1 failed: UnicodeDecodeError: ",
        ),
        (CorruptFileError("av/1.tar", "the tar av/1.tar is damaged"), "the tar av/1.tar is damaged"),
        (CorpusError("the shard is gone"), "the shard is gone"),
        (OSError(errno.EMFILE, "Too many open files"), "loader process 1 could open no more files"),
    ],
)
def test_every_error_of_a_loader_process_can_be_sent(error: Exception, said: str):
    arrived = pickle.loads(pickle.dumps(readable(error, "loader process 1")))
    assert isinstance(arrived, VidaudioError)
    assert str(arrived).startswith(said)
    # PyTorch makes it again from a text alone.
    assert str(type(arrived)("text")) == "text"


def test_a_loader_process_that_hangs_is_killed_when_another_has_failed(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(loader_processes, "ASKED_SECONDS", 0.5)

    def batch(self: MixtureStream, step: int) -> dict:
        if get_worker_info().id == 0:
            raise OSError(errno.EIO, "Input/output error")
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(600)
        raise AssertionError("nobody waits for this")

    monkeypatch.setattr(MixtureStream, "batch", batch)
    with pytest.raises(LoaderError, match=r"loader process 0 failed: OSError: .*Input/output error"):
        train(load_train_recipe("clipsep", SETTINGS), str(packed), tmp_path / "run", progress=False)
    assert multiprocessing.active_children() == []


def test_a_batch_that_cannot_be_sent_is_an_error_and_not_waited_for(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Sending fails where a process has no file descriptor left, for example."""

    def refuse(_: torch.Tensor) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    class Unsendable:
        def __reduce__(self) -> tuple:
            refuse(torch.zeros(1))
            raise AssertionError

    read = MixtureStream.batch
    monkeypatch.setattr(MixtureStream, "batch", lambda self, step: read(self, step) | {"damage": Unsendable()})
    with pytest.raises(LoaderError, match=r"could open no more files .*ulimit -n"):
        train(load_train_recipe("clipsep", SETTINGS), str(packed), tmp_path / "run", progress=False)
    assert multiprocessing.active_children() == []


def test_a_process_that_survives_sigterm_is_killed_and_none_is_waited_for_without_limit():
    def stubborn(ready: multiprocessing.Event) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        ready.set()
        time.sleep(600)

    context = multiprocessing.get_context("fork")
    ready = context.Event()
    process = context.Process(target=stubborn, args=(ready,), daemon=True)
    process.start()
    ready.wait()
    end_processes([process])
    assert process.exitcode == -signal.SIGKILL


class Undying:
    """A process that hangs inside the system, where SIGKILL does not reach it."""

    def is_alive(self) -> bool:
        return True

    def terminate(self) -> None: ...

    kill = terminate

    def join(self, timeout: float) -> None:
        assert timeout <= loader_processes.KILLED_SECONDS


def test_a_process_that_nothing_ends_is_not_waited_for_at_exit():
    process = Undying()
    multiprocessing.process._children.add(process)
    try:
        end_processes([process])
        assert process not in multiprocessing.process._children
    finally:
        multiprocessing.process._children.discard(process)


@pytest.mark.parametrize(
    "cause",
    [
        "RuntimeError: unable to allocate shared memory(shm) for file </torch_12_3_4>: No space left on device (28)",
        "RuntimeError: unable to open shared memory object </torch_12_3_4> in read-write mode: No space left on device",
        "RuntimeError: unable to resize file <filename not specified> to the right size: No space left on device (28)",
        "RuntimeError: unable to mmap 1048576 bytes from file </torch_12>: Cannot allocate memory (12)",
        "DataLoader worker (pid 12) is killed by signal: Bus error. It is possible that dataloader's workers are out "
        "of shared memory. Please try to raise your shared memory limit.",
        "Bus error",
    ],
)
def test_every_wording_of_missing_shared_memory_is_recognised(cause: str):
    said = sentence("a loader process", cause)
    assert "/dev/shm" in said
    assert "data.workers" in said


@pytest.mark.parametrize(
    ("error", "shared"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (OSError(errno.ENOSPC, "No space left on device", "/data/cache/tar"), False),
        (OSError(errno.EIO, "Input/output error"), False),
        (ValueError("a bus terror"), False),
    ],
)
def test_a_full_disk_is_told_from_full_shared_memory(error: Exception, shared: bool, monkeypatch, tmp_path):
    monkeypatch.setattr(loader_errors, "SHARED_MEMORY", tmp_path / "missing")
    assert (f"{tmp_path}/missing is missing" in str(readable(error, "a loader process"))) == shared


def test_the_message_of_an_error_that_was_sent_may_have_several_lines():
    text = (
        "Caught Odd in DataLoader worker process 3.\nOriginal Traceback (most recent call last):\n"
        '  File "a.py", line 1, in f\n    raise Odd()\n          ^^^^^\npackage.Odd: one: two\nthree\n'
    )
    assert sent_error(text) == ("Odd", "one: two\nthree")
    assert sent_error("Caught a cold in March") is None


def test_our_own_errors_arrive_as_they_were_raised(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def batch(self: MixtureStream, step: int) -> dict:
        raise CorpusError("the training shard x is gone; pack again under another name")

    monkeypatch.setattr(MixtureStream, "batch", batch)
    with pytest.raises(CorpusError) as caught:
        train(load_train_recipe("clipsep", SETTINGS), str(packed), tmp_path / "run", progress=False)
    assert str(caught.value) == "the training shard x is gone; pack again under another name"


# Found by Python at its start, in every rank.
FAILING_RANK = """
import os
if os.environ.get("RANK") == "1":
    import errno
    from vidaudio.stream.loader import MixtureStream
    read = MixtureStream.batch
    def batch(self, step):
        if step == 3:
            raise OSError(errno.ESTALE, "Stale file handle")
        return read(self, step)
    MixtureStream.batch = batch
"""


def _run(packed: Path, tmp_path: Path, program: str, *options: str) -> subprocess.Popen:
    (tmp_path / "sitecustomize.py").write_text(program)
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    command = [sys.executable, "-m", "vidaudio", "train", "clipsep", "--data", str(packed), "-o", str(tmp_path / "run")]
    return subprocess.Popen(
        [*command, *settings, "--quiet", *options],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{tmp_path}:{REPOSITORY}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _of_session(leader: int) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


def test_where_a_loader_of_one_rank_fails_every_process_of_all_ranks_ends(packed: Path, tmp_path: Path):
    process = _run(packed, tmp_path, FAILING_RANK, "--devices", "2")
    _, said = process.communicate(timeout=240)
    assert process.returncode == 1
    assert said.count("Stale file handle") == 1
    assert "Traceback" not in said
    _, alive = psutil.wait_procs(_of_session(process.pid), timeout=20)
    assert alive == []


def test_ranks_end_and_save_when_their_launcher_is_killed(packed: Path, tmp_path: Path):
    slow = (
        "import time\nfrom vidaudio.stream.loader import MixtureStream\nread = MixtureStream.batch\n"
        "def batch(self, step):\n    time.sleep(0.5)\n    return read(self, step)\nMixtureStream.batch = batch\n"
    )
    long = ("--set", "schedule.steps=1000", "--set", "validation.every_steps=1000", "--set", "log.every_steps=1")
    process = _run(packed, tmp_path, slow, "--devices", "2", *long)
    metrics = tmp_path / "run" / "logs" / "metrics.csv"
    while not (metrics.is_file() and len(metrics.read_text().splitlines()) > 2):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    _, alive = psutil.wait_procs(_of_session(process.pid), timeout=120)
    for survivor in alive:
        survivor.kill()
    assert alive == []
    assert newest_state(tmp_path / "run").step >= 1
