"""`vidaudio train --devices N`: starts the same command N times on this machine, as connected ranks.

It does what torchrun does, but without torchrun's output: an error is printed once, and the exit code is the command's
own. For several machines, use torchrun.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from types import FrameType
from typing import IO

from vidaudio.parent_process import watch_parent
from vidaudio.training.signals import EARLY_WARNING, LAUNCHED, canonical_signal

GRACE_SECONDS = 60.0
KILLED_SECONDS = 10.0
LOOK_EVERY_SECONDS = 0.1
HANDED_ON = (signal.SIGTERM, signal.SIGINT, EARLY_WARNING)
ENDED_BY_SIGNAL = (128 + signal.SIGTERM, 128 + signal.SIGINT, -signal.SIGTERM, -signal.SIGINT)


def launch(processes: int, arguments: Sequence[str]) -> int:
    """Run `python -m vidaudio ARGUMENTS` as ranks 0 to N - 1; return the exit code, that of the first rank that failed.

    SIGTERM and Ctrl-C are passed on to the ranks, SIGUSR1 as SIGTERM. If one rank fails, the others are ended, because
    they would wait for it forever.

    Args:
        processes: Number of ranks, N.
        arguments: Arguments of the command.
    """
    port = _free_port()
    ranks: list[subprocess.Popen] = []
    told: list[int] = []

    def hand_on(number: int, _frame: FrameType | None) -> None:
        told.append(canonical_signal(number))
        _tell(ranks, told[-1])

    with ExitStack() as files:
        said = [files.enter_context(tempfile.TemporaryFile("w+")) for _ in range(processes)]
        # Installed before the first rank starts, so that a signal in the meantime leaves no rank behind.
        before = {number: signal.signal(number, hand_on) for number in HANDED_ON}
        try:
            for rank in range(processes):
                ranks.append(_start(rank, processes, port, arguments, said[rank]))
                if told:
                    _tell(ranks[rank:], told[-1])
            first = _wait(ranks)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            _end(ranks)
        code = ranks[max(first, 0)].returncode
        if code and code not in ENDED_BY_SIGNAL:
            # Rank 0 has printed its own error, which may only say that another rank was lost.
            others = zip(ranks[1:], said[1:], strict=True)
            lines = [line for rank, file in others if rank.returncode not in ENDED_BY_SIGNAL for line in _lines(file)]
            sys.stderr.writelines(f"other rank: {line}" for line in dict.fromkeys(lines))
        return code if code >= 0 else 128 - code


def _tell(ranks: Sequence[subprocess.Popen], number: int) -> None:
    for rank in ranks:
        if rank.poll() is None:
            rank.send_signal(number)


def _start(rank: int, processes: int, port: int, arguments: Sequence[str], said: IO[str]) -> subprocess.Popen:
    place = {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "WORLD_SIZE": processes,
        "LOCAL_WORLD_SIZE": processes,
        "GROUP_RANK": 0,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        LAUNCHED: os.getpid(),
    }
    environment = {**os.environ, **{name: str(value) for name, value in place.items()}}
    # N processes that each use every core are slower than one. torchrun sets 1, which leaves cores idle.
    environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    stdout, stderr = (None, None) if rank == 0 else (subprocess.DEVNULL, said)
    # In its own process group: a terminal's Ctrl-C reaches only this process, which passes it on once.
    command = [sys.executable, "-m", "vidaudio", *arguments]
    return subprocess.Popen(command, env=environment, process_group=0, stdout=stdout, stderr=stderr)


def end_with_launcher() -> None:
    """Stop this rank in order, as after SIGTERM, when its launcher has ended and can no longer end it.

    A rank that has not ended after `GRACE_SECONDS` is killed.
    """

    def stop() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE_SECONDS)
        os.kill(os.getpid(), signal.SIGKILL)

    watch_parent(int(os.environ[LAUNCHED]), stop)


def _lines(file: IO[str]) -> list[str]:
    file.seek(0)
    return file.readlines()


def _wait(ranks: Sequence[subprocess.Popen]) -> int:
    """Wait until all ranks are done or one has failed; return the number of the failed rank, or -1."""
    while True:
        codes = [rank.poll() for rank in ranks]
        failed = [number for number, code in enumerate(codes) if code not in (None, 0)]
        if failed:
            return failed[0]
        if all(code == 0 for code in codes):
            return -1
        time.sleep(LOOK_EVERY_SECONDS)


def _end(ranks: Sequence[subprocess.Popen]) -> None:
    """End the ranks that still run: by SIGTERM, so that a rank that is saving can finish, and then by SIGKILL."""
    deadline = time.monotonic() + GRACE_SECONDS
    for rank in ranks:
        if rank.poll() is None:
            rank.terminate()
    for rank in ranks:
        try:
            rank.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            rank.kill()
            # With a limit: a process that hangs inside the system, on a disk that does not answer, never ends.
            with suppress(subprocess.TimeoutExpired):
                rank.wait(KILLED_SECONDS)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
