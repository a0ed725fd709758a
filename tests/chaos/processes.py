"""Which of the processes below a driver or nanny is what. Any of them may end while it is looked at."""

from __future__ import annotations

import contextlib

import psutil


def below(leader: int) -> list[psutil.Process]:
    """Every process below this one; none where it has gone."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(leader).children(recursive=True)
    return []


def is_worker(process: psutil.Process) -> bool:
    """Whether it is a worker that a nanny keeps."""
    return "spawn_main" in _command(process)


def is_decoder(process: psutil.Process) -> bool:
    """Whether it is a decoder's child process."""
    return "vidaudio.media.decode.worker" in _command(process)


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""
