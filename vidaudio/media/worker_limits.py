"""Limits of a worker process, enforced by the kernel: it ends with its parent, and the cost of a job is bounded.

Nothing here relies on Python code running in time. A regular expression holds the interpreter's lock until it is done,
and no thread of the process can check a clock meanwhile.
"""

from __future__ import annotations

import fcntl
import math
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

# Interval at which a process checks for its parent, in case the kernel does not end it.
WATCH_SECONDS = 0.5
GIBIBYTE = 1 << 30


class JobLimits:
    """Context manager that limits the cost of one job.

    Args:
        seconds: Limit of elapsed time and of processor time, seconds.
        sizes: Size limits in bytes by limit (`resource.RLIMIT_AS`, ...). They stay until the next job sets others.
    """

    def __init__(self, seconds: float, sizes: Mapping[int, int]) -> None:
        self._seconds, self._sizes = seconds, sizes

    def __enter__(self) -> JobLimits:
        self.restart()
        for which, value in self._sizes.items():
            _set_soft_limit(which, value)
        return self

    def restart(self) -> None:
        """Restart the time limits: the job gets all of its seconds again from now on."""
        signal.setitimer(signal.ITIMER_REAL, self._seconds)
        spent = time.process_time()
        _set_soft_limit(resource.RLIMIT_CPU, math.ceil(spent + self._seconds) + 1)

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _set_soft_limit(which: int, value: int) -> None:
    """Set a soft limit, at most to the hard limit, which may come from whoever started this process."""
    _, hard = resource.getrlimit(which)
    resource.setrlimit(which, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def become_worker() -> None:
    """Prepare this process to end with its parent, leave no core files, and be killed first when memory runs short."""
    end_with_parent(os.getppid())
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _first_to_go()


def _first_to_go() -> None:
    """Make Linux kill this process before more important ones when the machine runs out of memory."""
    score = Path("/proc/self/oom_score_adj")
    if score.exists():
        score.write_text("1000")


def end_with_parent(parent: int) -> None:
    """End this process when the parent with this process id is gone, whatever this process is busy with.

    The parent holds the other end of the pipe whose file descriptor is the program's argument. When that end closes,
    the kernel sends SIGIO to this process (or to its whole group, if it leads one), and the signal's default action is
    to end it. A thread also checks the parent, because another process forked from the parent may keep that end open.

    The kernel's own signal for this (PR_SET_PDEATHSIG) is not used: it comes when the thread that started this process
    ends.
    """
    if len(sys.argv) > 1:
        lifeline = int(sys.argv[1])
        signal.signal(signal.SIGIO, signal.SIG_DFL)
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpid() if os.getpgrp() == os.getpid() else os.getpid())
        fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(WATCH_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, name="end-with-parent", daemon=True).start()
