"""Metrics by nearest neighbours: how much of the real set is covered, and whether training sounds were copied."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vidaudio.errors import UsageError
from vidaudio.generation.metrics.vectors import BLOCK_ROWS, checked_pair, squared_distances

NEIGHBOURS = 5


@dataclass(frozen=True, slots=True)
class Coverage:
    """Coverage and density of a generated set (Naeem et al., ICML 2020).

    Attributes:
        coverage: Share of the real vectors with a generated one within their radius: variety.
        density: Mean number of real radii that a generated vector lies in, over the number of neighbours: fidelity. It
            may exceed 1.
    """

    coverage: float
    density: float

    @classmethod
    def of(cls, within: np.ndarray, neighbours: int = NEIGHBOURS) -> Coverage:
        """Return both from what `within_radii` returns."""
        return cls(float(within.any(1).mean()), float(within.mean() * len(within) / neighbours))


def coverage(real: np.ndarray, generated: np.ndarray, *, neighbours: int = NEIGHBOURS) -> Coverage:
    """Return coverage and density; a real vector's radius is the distance to its k-th nearest real neighbour.

    Raises:
        UsageError: When the vectors do not fit together, are not finite, or the real set has not more than k.
    """
    return Coverage.of(within_radii(real, generated, neighbours=neighbours), neighbours)


def within_radii(real: np.ndarray, generated: np.ndarray, *, neighbours: int = NEIGHBOURS) -> np.ndarray:
    """Return which generated vectors lie within the radius of which real one, bool `[N, M]`; see `coverage`.

    Raises:
        UsageError: When the vectors do not fit together, are not finite, or the real set has not more than k.
    """
    real, generated = checked_pair(real, generated, 1)
    if len(real) <= neighbours:
        raise UsageError(
            f"the real set has {len(real)} vectors; {neighbours} neighbours need {neighbours + 1} at least"
        )
    found = np.empty((len(real), len(generated)), bool)
    for first in range(0, len(real), BLOCK_ROWS):
        rows = real[first : first + BLOCK_ROWS]
        # A vector's nearest one is itself.
        radii = np.partition(squared_distances(rows, real), neighbours, axis=1)[:, neighbours]
        found[first : first + BLOCK_ROWS] = squared_distances(rows, generated) <= radii[:, None]
    return found


def nearest_distances(vectors: np.ndarray, training: np.ndarray) -> np.ndarray:
    """Return the distance of each vector to the nearest one of the training set, `[N]`.

    A generator copies where its sounds are nearer to the training set than real sounds are that were held out.

    Raises:
        UsageError: When the vectors do not fit together, or are not finite.
    """
    training, vectors = checked_pair(training, vectors, 1)
    nearest = [
        squared_distances(vectors[first : first + BLOCK_ROWS], training).min(1)
        for first in range(0, len(vectors), BLOCK_ROWS)
    ]
    return np.sqrt(np.concatenate(nearest))
