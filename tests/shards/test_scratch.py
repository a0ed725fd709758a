"""Scratch of living processes stays, wherever they run; that of dead ones goes."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from vidaudio.shards import scratch as scratch_module
from vidaudio.shards.maintenance_lock import LOCK_FILE, LockHeld, maintenance_lock
from vidaudio.shards.open import open_store
from vidaudio.shards.process_identity import is_alive, parse_identity, started, this_process
from vidaudio.shards.scratch import (
    ABANDONED_SECONDS,
    PREFIX,
    UNLOCKED_SECONDS,
    Lock,
    is_abandoned,
    scratch_folder,
    sweep_scratch,
    temporary_folder,
)

AGES = (0.0, UNLOCKED_SECONDS + 1, ABANDONED_SECONDS + 1)
# Its own process numbers, as in a container, and the same host name.
CONTAINER = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")

HOLD = """
import sys
from pathlib import Path
from vidaudio.shards.scratch import scratch_folder, sweep_scratch
root = Path(sys.argv[1])
print(sweep_scratch(root), flush=True)
with scratch_folder(root) as folder:
    (folder / "part").write_bytes(b"half")
    print(folder.name, flush=True)
    sys.stdin.read()
"""
UPKEEP = """
import sys
from vidaudio.shards.open import open_store
from vidaudio.shards.maintenance_lock import maintenance_lock
with maintenance_lock(open_store(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def can_unshare() -> bool:
    return (
        shutil.which("unshare") is not None
        and subprocess.run([*CONTAINER, "true"], capture_output=True).returncode == 0
    )


in_containers = pytest.mark.skipif(not can_unshare(), reason="this user may not make namespaces")


@contextlib.contextmanager
def running(program: str, root: Path, *around: str) -> Iterator[subprocess.Popen]:
    process = subprocess.Popen(
        [*around, sys.executable, "-c", program, str(root)],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        # Until what it started in its container is dead, too; a closed stdin would let that end in order.
        process.stdout.read()
        process.communicate()


def make_old(folder: Path, seconds: float) -> None:
    for path in (*folder.rglob("*"), folder):
        os.utime(path, (time.time() - seconds,) * 2)


def test_an_identity_is_read_back_from_its_text():
    here = this_process()
    assert parse_identity(f"{here}-abc_x") == here
    assert parse_identity("host-12-abc") is None
    assert parse_identity("") is None
    assert is_alive(here) is True


@pytest.mark.parametrize("other", [{"boot": "0" * 8}, {"host": "0" * 8}, {"namespace": 1}])
def test_nothing_is_known_of_a_process_that_is_counted_elsewhere(other: dict):
    assert is_alive(replace(this_process(), **other)) is None


def test_a_number_that_was_given_out_again_is_another_process():
    here = this_process()
    assert is_alive(replace(here, started=here.started - 1)) is False
    with subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE) as child:
        then = replace(here, number=child.pid, started=started(child.pid))
        assert is_alive(then) is True
        child.send_signal(signal.SIGKILL)
        # Ended, and not yet waited for.
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert is_alive(then) is False
    assert is_alive(then) is False


@pytest.mark.parametrize(
    ("alive", "lock", "same_kernel", "age"),
    list(itertools.product((True, False, None), Lock, (True, False), AGES)),
)
def test_scratch_goes_only_when_its_owner_is_dead_or_silent_for_long(alive, lock, same_kernel, age):
    gone = is_abandoned(alive=alive, lock=lock, same_kernel=same_kernel, idle_seconds=age)
    if alive is True or lock is Lock.HELD:
        assert not gone
    elif alive is False:
        assert gone
    else:
        limit = UNLOCKED_SECONDS if lock is Lock.FREE and same_kernel else ABANDONED_SECONDS
        assert gone == (age > limit)


@in_containers
def test_two_containers_leave_one_another_alone(tmp_path: Path):
    with scratch_folder(tmp_path) as ours, running(HOLD, tmp_path, *CONTAINER) as container:
        assert container.stdout.readline() == "[]\n"
        theirs = tmp_path / container.stdout.readline().strip()
        owner = parse_identity(theirs.name.removeprefix(PREFIX))
        assert owner.namespace != this_process().namespace
        # However long it has written nothing: it holds the folder's lock.
        make_old(theirs, 2 * ABANDONED_SECONDS)
        make_old(ours, 2 * ABANDONED_SECONDS)
        assert sweep_scratch(tmp_path) == []
        with running(HOLD, tmp_path, *CONTAINER) as another:
            assert another.stdout.readline() == "[]\n"
        assert (theirs / "part").is_file()
        assert ours.is_dir()
    # Killed with its container: nobody holds the lock, and after a while its scratch goes.
    make_old(theirs, 0)
    assert theirs.name not in sweep_scratch(tmp_path)
    make_old(theirs, UNLOCKED_SECONDS + 60)
    assert theirs.name in sweep_scratch(tmp_path)
    assert not theirs.exists()


def test_scratch_of_another_machine_goes_when_nothing_changed_in_it_for_long(tmp_path: Path):
    elsewhere = replace(this_process(), boot="0" * 8)
    folders = [tmp_path / f"{PREFIX}{owner}-abc" for owner in (elsewhere, "oldhost-12")]
    for folder in folders:
        folder.mkdir()
        (folder / "part").write_bytes(b"half")
        make_old(folder, 2 * ABANDONED_SECONDS)
        # A long file is being written: the folder itself does not change.
        os.utime(folder / "part")
    assert sweep_scratch(tmp_path) == []
    for folder in folders:
        make_old(folder, 2 * ABANDONED_SECONDS)
    assert sorted(sweep_scratch(tmp_path)) == sorted(folder.name for folder in folders)


def test_what_is_in_use_is_touched(tmp_path: Path):
    with scratch_folder(tmp_path) as folder:
        make_old(folder, 2 * ABANDONED_SECONDS)
        scratch_module._beats.touch()
        assert time.time() - folder.stat().st_mtime < ABANDONED_SECONDS
    assert not folder.exists()
    scratch_module._beats.touch()


def test_a_link_in_the_place_of_scratch_costs_only_the_link(tmp_path: Path):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "file").touch()
    make_old(tmp_path / "theirs", 2 * ABANDONED_SECONDS)
    link = tmp_path / "corpus" / f"{PREFIX}{replace(this_process(), started=1)}-x"
    link.parent.mkdir()
    link.symlink_to(tmp_path / "theirs")
    assert sweep_scratch(link.parent) == [link.name]
    assert (tmp_path / "theirs" / "file").exists()


def test_temporary_folders_of_dead_processes_go_at_the_next_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(scratch_module.tempfile, "gettempdir", lambda: str(tmp_path))
    dead = tmp_path / f"{scratch_module.TEMPORARY_PREFIX}{replace(this_process(), started=1)}-left"
    dead.mkdir()
    for name in ("vidaudio-notes", "vidaudio-0-1"):
        (tmp_path / name).mkdir()
        make_old(tmp_path / name, 2 * ABANDONED_SECONDS)
    with temporary_folder() as folder:
        assert folder.parent == tmp_path
        assert {path.name for path in tmp_path.iterdir()} == {folder.name, "vidaudio-notes", "vidaudio-0-1"}


@in_containers
def test_the_upkeep_of_a_living_container_is_not_taken_over(tmp_path: Path):
    store = open_store(tmp_path)
    with running(UPKEEP, tmp_path, *CONTAINER) as container:
        assert container.stdout.readline() == "held\n"
        make_old(tmp_path, 2 * ABANDONED_SECONDS)
        with pytest.raises(LockHeld), maintenance_lock(store):
            pass
    # Its container is gone, which nobody can see from here, until the lock has not been touched for long.
    os.utime(tmp_path / LOCK_FILE)
    with pytest.raises(LockHeld, match=r"process \d+ on .*delete .*upkeep.lock"), maintenance_lock(store):
        pass
    make_old(tmp_path, 2 * ABANDONED_SECONDS)
    with maintenance_lock(store):
        assert json.loads(store.read(LOCK_FILE))["process"] == os.getpid()
    assert not store.exists(LOCK_FILE)
