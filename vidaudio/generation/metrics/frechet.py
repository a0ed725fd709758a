"""Frechet distance of two sets: that of normal distributions with their means and covariances."""

from __future__ import annotations

import numpy as np

from vidaudio.generation.metrics.vectors import checked_pair


def frechet_distance(real: np.ndarray, generated: np.ndarray) -> float:
    """Return |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) (Dowson and Landau, 1982; FAD: Kilgour et al., 2019).

    The root's trace is computed from the eigenvalues of C1^(1/2) C2 C1^(1/2), which is symmetric: they are real, and
    those below 0 are rounding. Of few vectors, it is the sum of the singular values of A B^T, where C1 = A^T A and
    C2 = B^T B. With fewer vectors than dimensions the covariances are not of full rank, and the distance is too large
    by an amount that depends on the number of vectors; compare sets of equal size only.

    Args:
        real: Vectors of real sounds, `[N, D]`.
        generated: Vectors of generated sounds, `[M, D]`.

    Returns:
        The distance, 0 or more.

    Raises:
        UsageError: When the vectors do not fit together, are not finite, or a set has fewer than two.
    """
    real, generated = checked_pair(real, generated, 2)
    difference = real.mean(0) - generated.mean(0)
    factors = [(vectors - vectors.mean(0)) / np.sqrt(len(vectors) - 1) for vectors in (real, generated)]
    few = max(len(real), len(generated)) < real.shape[1]
    trace = _trace_by_factors(*factors) if few else _trace_by_covariances(*(factor.T @ factor for factor in factors))
    variances = sum(float(np.square(factor).sum()) for factor in factors)
    return max(float(difference @ difference) + variances - 2 * trace, 0.0)


def _trace_by_covariances(one: np.ndarray, other: np.ndarray) -> float:
    values, directions = np.linalg.eigh(one)
    root = (directions * np.sqrt(values.clip(min=0))) @ directions.T
    product = root @ other @ root
    return float(np.sqrt(np.linalg.eigvalsh((product + product.T) / 2).clip(min=0)).sum())


def _trace_by_factors(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.linalg.svd(one @ other.T, compute_uv=False).sum())
