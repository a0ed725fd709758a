"""Child processes that end with their parent, also where it is killed and can tell them nothing."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

WATCH_SECONDS = 0.5


def watch_parent(parent: int, when_gone: Callable[[], None]) -> None:
    """Call a function, in a thread, when the parent process is gone.

    Args:
        parent: Its process id: by the time this is called it may have been gone for a while.
        when_gone: What to do then.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(WATCH_SECONDS)
        when_gone()

    threading.Thread(target=watch, name="watch-parent", daemon=True).start()


def end_with_parent(parent: int) -> None:
    """End this process, at once, when its parent is gone."""
    watch_parent(parent, lambda: os._exit(1))
