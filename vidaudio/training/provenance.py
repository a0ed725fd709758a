"""Hashes of sources: what a checkpoint records of the videos it was trained on, so that leaks are found exactly."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np

from vidaudio.stream.index import TrainingIndex


def source_hash(source: str) -> int:
    """Return the first 64 bits of a source's SHA-256, signed.

    With 10^6 training sources and 10^4 test sources, the probability that two different ones agree is below 10^-9.
    """
    return int.from_bytes(hashlib.sha256(source.encode()).digest()[:8], "big", signed=True)


def hash_sources(sources: Iterable[str]) -> np.ndarray:
    """Return the hashes of all sources, int64, sorted, without duplicates."""
    return np.unique(np.fromiter((source_hash(source) for source in sources), np.int64))


def sources_of(index: TrainingIndex) -> np.ndarray:
    """Return the hashes of an index's sources, see `hash_sources`."""
    return hash_sources(index.table["source"].unique().to_pylist())
