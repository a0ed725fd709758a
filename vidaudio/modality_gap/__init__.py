"""The gap between an encoder's vectors of pictures and of words: how wide it is, and methods that close it.

Models are trained with pictures and asked in words. CLIP puts the two in cones that lie apart, so a query in words is
unlike anything that a model met in training. A `GapMethod` changes the query in words, the vectors of pictures in
training, or both. Each is fitted to the vectors of one encoder; see `METHODS` for all of them.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "base": ("GapData", "GapMethod"),
    "measures": ("GapMeasures", "measure_gap"),
    "registry": (
        "ASKING_METHODS",
        "METHODS",
        "TRAINING_METHODS",
        "fit_method",
        "load_method",
        "method_options",
        "save_method",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__
