"""Kernel distance of two sets (KAD): an unbiased estimate, also of small sets, without a normal distribution."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vidaudio.generation.metrics.vectors import BLOCK_ROWS, checked, checked_pair, squared_distances

# The published scale.
SCALE = 100.0
# Vectors whose distances give the median, at most: evenly chosen ones of more.
MEDIAN_VECTORS = 5000


def median_distance(vectors: np.ndarray) -> float:
    """Return the median distance of two different vectors of a set, the bandwidth of its kernel.

    Raises:
        UsageError: When there are fewer than two vectors, or they are not finite.
    """
    vectors = checked(vectors, "real", 2)
    chosen = vectors[:: -(-len(vectors) // MEDIAN_VECTORS)]
    pairs = np.triu_indices(len(chosen), 1)
    return float(np.median(np.sqrt(squared_distances(chosen, chosen)[pairs])))


def kernel_distance(real: np.ndarray, generated: np.ndarray, *, bandwidth: float | None = None) -> float:
    """Return 100 times the squared maximum mean discrepancy with a Gaussian kernel, unbiased (KAD, Chung et al., 2025).

    The kernel is exp(-d^2 / (2 b^2)) with the median distance b of the real set; a vector is not compared with itself.
    The estimate scatters around 0 where both sets are of one distribution, so it may be negative. It is not symmetric.

    Args:
        real: Vectors of real sounds, `[N, D]`.
        generated: Vectors of generated sounds, `[M, D]`.
        bandwidth: Bandwidth of the kernel; None for the real set's. With 0, vectors are alike only if they are equal.

    Raises:
        UsageError: When the vectors do not fit together, are not finite, or a set has fewer than two.
    """
    real, generated = checked_pair(real, generated, 2)
    width = median_distance(real) if bandwidth is None else bandwidth
    within = [
        (_kernel_sum(vectors, vectors, width) - len(vectors)) / (len(vectors) * (len(vectors) - 1))
        for vectors in (real, generated)
    ]
    between = _kernel_sum(real, generated, width) / (len(real) * len(generated))
    return float(SCALE * (within[0] + within[1] - 2 * between))


@dataclass(frozen=True)
class KernelMatrices:
    """Kernels of all pairs of two sets, from which distances of resampled sets are computed.

    Attributes:
        real: Kernel of each pair of the real set, `[N, N]`.
        generated: Kernel of each pair of the generated set, `[M, M]`.
        between: Kernel of each real with each generated vector, `[N, M]`.
    """

    real: np.ndarray
    generated: np.ndarray
    between: np.ndarray

    @classmethod
    def of(cls, real: np.ndarray, generated: np.ndarray, bandwidth: float) -> KernelMatrices:
        """Return the kernels of two sets.

        Raises:
            UsageError: When the vectors do not fit together, are not finite, or a set has fewer than two.
        """
        real, generated = checked_pair(real, generated, 2)
        pairs = ((real, real), (generated, generated), (real, generated))
        return cls(*(_kernel(squared_distances(*pair), bandwidth) for pair in pairs))

    def distance(self, real_weights: np.ndarray, generated_weights: np.ndarray) -> float:
        """Return the kernel distance of sets in which each vector occurs so many times, `[N]` and `[M]`.

        A vector is not compared with its own repetitions, which would be alike whatever the distribution is.
        """
        within = [
            float(weights @ matrix @ weights - (weights**2 * matrix.diagonal()).sum())
            / float(weights.sum() ** 2 - (weights**2).sum())
            for matrix, weights in ((self.real, real_weights), (self.generated, generated_weights))
        ]
        between = float(real_weights @ self.between @ generated_weights)
        return SCALE * (within[0] + within[1] - 2 * between / float(real_weights.sum() * generated_weights.sum()))


def _kernel_sum(rows: np.ndarray, others: np.ndarray, width: float) -> float:
    """Return the kernel's sum over all pairs of two sets."""
    total = 0.0
    for first in range(0, len(rows), BLOCK_ROWS):
        total += float(_kernel(squared_distances(rows[first : first + BLOCK_ROWS], others), width).sum())
    return total


def _kernel(squared: np.ndarray, width: float) -> np.ndarray:
    return np.exp(-squared / (2 * width**2)) if width > 0 else (squared == 0).astype(float)
