"""What this machine offers to this process."""

from __future__ import annotations

import os


def available_cores() -> int:
    """Processors this process may use; where the system does not say (macOS), all of them."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
