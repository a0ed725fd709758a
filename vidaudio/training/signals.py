"""SIGUSR1 means SIGTERM to a training: it is what `sbatch --signal=B:USR1@60` and many requeueing scripts send.

Left alone it would end the process at once, its steps since the last state lost.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

EARLY_WARNING = signal.SIGUSR1
# In the environment of ranks whose launcher says to the user what a stop means.
LAUNCHED = "VIDAUDIO_LAUNCHED"


def canonical_signal(number: int) -> int:
    """The signal that one stands for."""
    return signal.SIGTERM if number == EARLY_WARNING else number


def alias_sigusr1() -> Any:
    """From here on SIGUSR1 does in this process whatever SIGTERM does at the time; returns what it did before.

    Only the main thread can set this; elsewhere nothing changes.
    """
    if threading.current_thread() is threading.main_thread():
        return signal.signal(EARLY_WARNING, _as_sigterm)
    return signal.getsignal(EARLY_WARNING)


def _as_sigterm(_number: int, _frame: FrameType | None) -> None:
    signal.raise_signal(signal.SIGTERM)
