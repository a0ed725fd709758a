"""Weighted epochs: how often each sample is drawn in an epoch, in proportion to its weight.

The weights are laid end to end on a line, in the order of the index, and the line is cut at equally spaced places, as
many as the epoch has draws. A sample is drawn once for every cut in its stretch: `draws * weight / total` times,
rounded up or down. Seed and epoch decide where the first cut is, so that over many epochs a sample is drawn in exact
proportion to its weight (systematic resampling). How often the samples of a shard are drawn depends on their own
weights and on the sum of the weights before them, so that no other shard is read.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vidaudio.stream.order import WEIGHTS, generator

# Weights are counted in steps, so that sums are exact in any order: float64 holds those of 2^29 samples.
STEPS = 1 << 24
# Possible places of the first cut. None is so close to an end of its part that rounding could move a cut.
OFFSETS = 1 << 20


def weight_steps(weights: np.ndarray) -> np.ndarray:
    """Return weights in whole steps, int64 `[N]`; no weight above 0 becomes 0.

    Args:
        weights: Weights between 0 and 1, `[N]`.
    """
    steps = np.rint(weights.astype(np.float64) * STEPS).astype(np.int64)
    return np.where(weights > 0, np.maximum(steps, 1), 0)


@dataclass(frozen=True)
class WeightedEpoch:
    """The cuts of one epoch.

    Attributes:
        draws: Number of draws of the epoch.
        total: Sum of all weights, steps.
        offset: Place of the first cut, as a part of the distance between two cuts, above 0 and below 1.
    """

    draws: int
    total: int
    offset: float

    def drawn(self, bounds: np.ndarray) -> np.ndarray:
        """Return how often the stretches between neighbouring bounds are drawn, int64 `[N]`.

        Args:
            bounds: Sums of the weights before each stretch, and after the last one, steps, int64 `[N + 1]`.
        """
        return np.diff(np.floor(bounds * (self.draws / self.total) + self.offset).astype(np.int64))


def weighted_epoch(draws: int, total: int, *, seed: int, epoch: int) -> WeightedEpoch:
    """Return the cuts of an epoch.

    Args:
        draws: Number of draws of the epoch.
        total: Sum of all weights, steps, above 0.
        seed: Seed of the run.
        epoch: Number of the epoch, from 0.
    """
    place = int(generator(WEIGHTS, seed, epoch).integers(OFFSETS))
    return WeightedEpoch(draws, total, (2 * place + 1) / (2 * OFFSETS))
