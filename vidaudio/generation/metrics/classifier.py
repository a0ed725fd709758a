"""Metrics from a classifier's probabilities: inception score, and divergence from the real sound of the same query."""

from __future__ import annotations

import numpy as np

from vidaudio.errors import UsageError

# A probability of 0 counts as this: its logarithm is none.
LEAST = 1e-12


def inception_score(probabilities: np.ndarray) -> float:
    """Return exp of the mean divergence of each sound's probabilities from their mean (Salimans et al., 2016).

    It is 1 where all sounds are classified alike, and the number of classes where each is sure and all are as frequent.

    Args:
        probabilities: Probabilities of each sound's classes, `[N, classes]`.

    Raises:
        UsageError: When the rows are no probabilities.
    """
    found = _checked(probabilities)
    return float(np.exp(_divergence(found, found.mean(0)).mean()))


def mean_divergence(real: np.ndarray, generated: np.ndarray) -> float:
    """Return the mean Kullback-Leibler divergence of generated from real sounds of the same queries, nats.

    Args:
        real: Probabilities of the real sounds, `[N, classes]`.
        generated: Probabilities of the generated sounds, in the same order, `[N, classes]`.

    Raises:
        UsageError: When the rows are no probabilities, or the sets differ in their form.
    """
    one, other = _checked(real), _checked(generated)
    if one.shape != other.shape:
        raise UsageError(f"probabilities of the form {one.shape} and {other.shape}: one row a query is wanted in both")
    return float(_divergence(one, other).mean())


def _checked(probabilities: np.ndarray) -> np.ndarray:
    found = np.asarray(probabilities, np.float64)
    if found.ndim != 2 or not found.size or not (found >= 0).all() or not np.allclose(found.sum(1), 1, atol=1e-3):
        raise UsageError("a classifier's probabilities must have the form [N, classes], be 0 or more, and sum to 1")
    return found / found.sum(1, keepdims=True)


def _divergence(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    ratio = np.log(np.maximum(one, LEAST)) - np.log(np.maximum(other, LEAST))
    return np.maximum((one * ratio).sum(1), 0.0)
