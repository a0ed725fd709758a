"""Checks and distances that the metrics share."""

from __future__ import annotations

import numpy as np

from vidaudio.errors import UsageError

# Rows whose distances are computed at a time.
BLOCK_ROWS = 2048


def checked(vectors: np.ndarray, name: str, least: int) -> np.ndarray:
    """Return vectors as float64 `[N, D]`.

    Args:
        vectors: Vectors of a set.
        name: What they are of, for the message.
        least: Least number of vectors.

    Raises:
        UsageError: When they have another form, are too few, or are not finite.
    """
    found = np.asarray(vectors, np.float64)
    if found.ndim != 2 or not found.shape[1]:
        raise UsageError(f"the vectors of the {name} set must have the form [N, D], not {found.shape}")
    if len(found) < least:
        raise UsageError(f"the {name} set has {len(found)} vectors; the metric needs {least} at least")
    if not np.isfinite(found).all():
        raise UsageError(f"the vectors of the {name} set are not all finite")
    return found


def checked_pair(real: np.ndarray, generated: np.ndarray, least: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the vectors of both sets as float64; see `checked`.

    Raises:
        UsageError: When they also differ in their dimensions.
    """
    one, other = checked(real, "real", least), checked(generated, "generated", least)
    if one.shape[1] != other.shape[1]:
        raise UsageError(
            f"the real set's vectors have {one.shape[1]} dimensions and the generated set's {other.shape[1]}: they are "
            "not of one encoder"
        )
    return one, other


def squared_distances(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return squared distances `[N, M]`; those of equal vectors are exactly 0.

    Both sets are moved to the mean of `others` first: far from 0, the difference of large squares would be rounded
    away.
    """
    middle = others.mean(0)
    rows, others = rows - middle, others - middle
    found = np.square(rows).sum(1)[:, None] + np.square(others).sum(1) - 2 * rows @ others.T
    # What is left of equal vectors is rounding.
    scale = np.square(rows).sum(1)[:, None] + np.square(others).sum(1)
    return np.where(found <= 1e-14 * scale, 0.0, found)
