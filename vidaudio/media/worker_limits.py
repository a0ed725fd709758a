"""What a worker process holds itself to, enforced by the kernel: it ends with its parent, and a job costs so much.

Nothing here relies on Python code running in time. A regular expression holds the interpreter's lock until it is done,
and no thread of the process can look at a clock meanwhile.
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

# How soon a process ends whose parent is gone, where the kernel does not end it.
WATCH_SECONDS = 0.5
GIBIBYTE = 1 << 30


class JobLimits:
    """What one job may cost.

    Args:
        seconds: Of the clock, and of processor time.
        sizes: Bytes by limit (`resource.RLIMIT_AS`, ...). They stay until the next job sets others.
    """

    def __init__(self, seconds: float, sizes: Mapping[int, int]) -> None:
        self._seconds, self._sizes = seconds, sizes

    def __enter__(self) -> JobLimits:
        self.restart()
        for which, value in self._sizes.items():
            _set_soft_limit(which, value)
        return self

    def restart(self) -> None:
        """Give the job all of its seconds again, from now on."""
        signal.setitimer(signal.ITIMER_REAL, self._seconds)
        spent = time.process_time()
        _set_soft_limit(resource.RLIMIT_CPU, math.ceil(spent + self._seconds) + 1)

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _set_soft_limit(which: int, value: int) -> None:
    """As far as the hard limit, which whoever started us may have set, lets it be."""
    _, hard = resource.getrlimit(which)
    resource.setrlimit(which, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def become_worker() -> None:
    """Prepare this process: it ends with its parent, leaves no core files, and goes first when memory runs short."""
    end_with_parent(os.getppid())
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _first_to_go()


def _first_to_go() -> None:
    """Let Linux, when the machine runs out of memory, end this process before any that has more to lose."""
    score = Path("/proc/self/oom_score_adj")
    if score.exists():
        score.write_text("1000")


def end_with_parent(parent: int) -> None:
    """End this process when its parent is gone, whatever it is busy with.

    The parent holds the other end of the pipe whose number is the program's argument. When that closes, the kernel
    signals this process (its whole group, where it leads one), and the signal's default is to end it. A thread watches,
    too: a process that was forked from the parent may hold that end open.

    Not by the kernel's own signal for it (PR_SET_PDEATHSIG): that comes when the thread ends that started us.
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
