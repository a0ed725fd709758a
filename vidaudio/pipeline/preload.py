"""Loading PyTorch in a worker, where several tasks may need it at the same moment."""

from __future__ import annotations

import threading

_LOADING = threading.Lock()


def load_libraries() -> None:
    """Import PyTorch and WebDataset, whole, before anything else in this process does.

    Their modules import each other in circles. Two threads that enter such a circle at different places are each shown
    the other's half-made modules, one of the imports fails, and PyTorch cannot be imported a second time.
    """
    with _LOADING:
        import webdataset  # noqa: F401 - which imports PyTorch
