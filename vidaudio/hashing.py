"""Hashes of texts and files, and lookups in sorted arrays of hashes.

Millions of ids and sources are compared by 64-bit hashes: as texts they would not fit into memory.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vidaudio.files import naming

if TYPE_CHECKING:
    import pyarrow as pa


def hashed(texts: pa.ChunkedArray) -> np.ndarray:
    """Return a 64-bit hash of every text, uint64 `[rows]`; equal in every process with the same version of pandas."""
    import pandas as pd

    return pd.util.hash_array(texts.to_numpy(zero_copy_only=False), categorize=False)


def find_hashes(known: np.ndarray, hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Look hashes up among known ones.

    Args:
        known: Sorted hashes, at least one, uint64 `[known]`.
        hashes: Hashes to look up, uint64 `[n]`.

    Returns:
        The index in `known` of each hash, `[n]`, meaningless for those that are not there; which are there, bool `[n]`.
    """
    places = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
    return places, known[places] == hashes


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, as hexadecimal digits."""
    with naming(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
