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


def coverage(real: np.ndarray, generated: np.ndarray, *, neighbours: int = NEIGHBOURS) -> Coverage:
    """Return coverage and density; a real vector's radius is the distance to its k-th nearest real neighbour.

    Raises:
        UsageError: When the vectors do not fit together, are not finite, or the real set has not more than k.
    """
    real, generated = checked_pair(real, generated, 1)
    if len(real) <= neighbours:
        raise UsageError(
            f"the real set has {len(real)} vectors; {neighbours} neighbours need {neighbours + 1} at least"
        )
    covered, inside = 0, 0
    for first in range(0, len(real), BLOCK_ROWS):
        rows = real[first : first + BLOCK_ROWS]
        # A vector's nearest one is itself.
        radii = np.partition(squared_distances(rows, real), neighbours, axis=1)[:, neighbours]
        is_inside = squared_distances(rows, generated) <= radii[:, None]
        covered += int(is_inside.any(1).sum())
        inside += int(is_inside.sum())
    return Coverage(covered / len(real), inside / (neighbours * len(generated)))


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
