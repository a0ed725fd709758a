"""Frechet distance of two sets: that of normal distributions with their means and covariances."""

from __future__ import annotations

import numpy as np

from vidaudio.generation.metrics.vectors import checked_pair


def frechet_distance(real: np.ndarray, generated: np.ndarray) -> float:
    """Return |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) (Dowson and Landau, 1982; FAD: Kilgour et al., 2019).

    The root's trace is computed from the eigenvalues of C1^(1/2) C2 C1^(1/2), which is symmetric: they are real, and
    those below 0 are rounding. With fewer vectors than dimensions the covariances are not of full rank, and the
    distance is too large by an amount that depends on the number of vectors; compare sets of equal size only.

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
    one, other = (np.atleast_2d(np.cov(vectors, rowvar=False)) for vectors in (real, generated))
    values, directions = np.linalg.eigh(one)
    root = (directions * np.sqrt(values.clip(min=0))) @ directions.T
    product = root @ other @ root
    trace = np.sqrt(np.linalg.eigvalsh((product + product.T) / 2).clip(min=0)).sum()
    return max(float(difference @ difference + np.trace(one) + np.trace(other) - 2 * trace), 0.0)
