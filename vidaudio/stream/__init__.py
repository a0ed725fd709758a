"""Loaders that turn the training shards of a packed corpus into batches.

    from vidaudio.stream import MixtureStream, webdataset

`MixtureStream` is the exact loader: sample order and windows depend on the seed alone. `EpochLoader` cuts it into
epochs for a plain PyTorch loop. `webdataset` reads the same shards as an ordinary WebDataset pipeline.
"""

from __future__ import annotations

import importlib
from typing import Any

_PUBLIC = {
    "MixtureStream": "vidaudio.stream.loader",
    "PartlyKnownStream": "vidaudio.stream.partly_known",
    "EpochLoader": "vidaudio.stream.epochs",
    "StreamConfig": "vidaudio.stream.config",
    "rank_rows": "vidaudio.stream.ranks",
    "TrainingIndex": "vidaudio.stream.index",
    "open_index": "vidaudio.stream.index",
    "WindowShape": "vidaudio.stream.windows",
    "webdataset": "vidaudio.stream.webdataset_pipeline",
    "shard_urls": "vidaudio.stream.webdataset_pipeline",
}
__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)
