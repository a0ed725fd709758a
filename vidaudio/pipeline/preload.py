"""Loads PyTorch in a worker, where several tasks may need it at the same moment."""

from __future__ import annotations

import threading

_LOADING = threading.Lock()


def load_libraries() -> None:
    """Import PyTorch and WebDataset completely, before any other code of this process does.

    Their modules import each other in circles. If two threads enter such a circle at different modules, each sees the
    other's half-initialized modules. One of the imports then fails, and PyTorch cannot be imported a second time.
    """
    with _LOADING:
        import webdataset  # noqa: F401 - which imports PyTorch
