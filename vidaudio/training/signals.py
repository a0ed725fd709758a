"""SIGUSR1 as SIGTERM: in training, the two mean the same.

`sbatch --signal=B:USR1@60` and many requeueing scripts send SIGUSR1. By default, it would end the process at once, and
the steps since the last state would be lost.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

EARLY_WARNING = signal.SIGUSR1
# Environment variable of ranks whose launcher reports a stop to the user; its value is the launcher's process id.
LAUNCHED = "VIDAUDIO_LAUNCHED"


def canonical_signal(number: int) -> int:
    """Return the signal that a signal is treated as: SIGTERM for SIGUSR1, otherwise the signal itself."""
    return signal.SIGTERM if number == EARLY_WARNING else number


def alias_sigusr1() -> Any:
    """Make SIGUSR1 do in this process whatever SIGTERM does at the time; return its previous handler.

    Only the main thread can set this; in other threads nothing changes.
    """
    if threading.current_thread() is threading.main_thread():
        return signal.signal(EARLY_WARNING, _as_sigterm)
    return signal.getsignal(EARLY_WARNING)


def _as_sigterm(_number: int, _frame: FrameType | None) -> None:
    signal.raise_signal(signal.SIGTERM)
