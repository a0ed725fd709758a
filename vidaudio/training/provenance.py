"""Sources as numbers: what a checkpoint remembers of the videos it was trained on, so that leaks are found exactly."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np

from vidaudio.stream.index import TrainingIndex


def source_hash(source: str) -> int:
    """The first 64 bits of a source's SHA-256, signed.

    Of 10^6 sources in training and 10^4 in a test two different ones agree with a probability below 10^-9.
    """
    return int.from_bytes(hashlib.sha256(source.encode()).digest()[:8], "big", signed=True)


def hash_sources(sources: Iterable[str]) -> np.ndarray:
    """The hashes of all sources, int64, sorted, each once."""
    return np.unique(np.fromiter((source_hash(source) for source in sources), np.int64))


def sources_of(index: TrainingIndex) -> np.ndarray:
    """The hashes of an index's sources, see `hash_sources`."""
    return hash_sources(index.table["source"].unique().to_pylist())
