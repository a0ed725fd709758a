"""Upkeep: one holder at a time, one that died is followed, one on another machine is named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from vidaudio.shards.maintenance_lock import LOCK_FILE, LockHeld, maintenance_lock
from vidaudio.shards.open import open_store

KILLED = """
import os, sys
from vidaudio.shards.open import open_store
from vidaudio.shards.maintenance_lock import maintenance_lock
with maintenance_lock(open_store(sys.argv[1])):
    os.kill(os.getpid(), 9)
"""


def test_a_dead_holder_is_followed_and_one_elsewhere_is_named(tmp_path: Path):
    store = open_store(tmp_path)
    subprocess.run([sys.executable, "-c", KILLED, store.url], check=False)
    assert store.exists(LOCK_FILE)
    with maintenance_lock(store):
        pass
    store.create(LOCK_FILE, b'{"holder": ".tmp-elsewhere-12-ab"}')
    with pytest.raises(LockHeld, match=f"elsewhere.*delete .*{LOCK_FILE}"), maintenance_lock(store):
        pass


def test_a_lock_that_no_command_of_ours_wrote_is_named_and_stays(tmp_path: Path):
    store = open_store(tmp_path)
    for number, lock in enumerate((b"[" * 50_000, b"\xff", b'{"holder": {"a": 1}}', b'{"holder": "\\u001b[2Jx"}')):
        store.create(LOCK_FILE, lock)
        who = "x" if number == 3 else "unknown"
        with (
            pytest.raises(LockHeld, match=rf"\({who}\); if it is not running any more, delete"),
            maintenance_lock(store),
        ):
            pass
        assert store.read(LOCK_FILE) == lock
        store.remove(LOCK_FILE)
