"""Interleaving of several corpora: which corpus a position belongs to, and which position of that corpus it is."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from vidaudio.errors import UsageError
from vidaudio.stream.lru import LruCache
from vidaudio.stream.order import CORPORA, generator

# Positions that are assigned together: exact shares in each such stretch, a random order inside.
STRETCH = 1024


class Interleave:
    """Assignment of positions to corpora by weight.

    Up to any multiple of `STRETCH`, each corpus has its share of the positions, to within one position. Within a
    stretch the order is drawn by seed. The number of positions that a corpus had before any other position is computed
    without counting, so that every corpus runs through its own epochs and none of its positions is skipped.

    Args:
        weights: Weights of the corpora, in any unit, greater than 0.
        seed: Seed of the run.
    """

    def __init__(self, weights: Sequence[float], seed: int) -> None:
        if not weights:
            raise UsageError("name a packed corpus, CORPUS/training/NAME, or several; none is named")
        if not all(np.isfinite(weight) and weight > 0 for weight in weights):
            raise UsageError(f"weights of corpora must be greater than 0, not {', '.join(map(str, weights))}")
        exact = [Fraction(str(weight)) for weight in weights]
        self.shares = [weight / sum(exact) for weight in exact]
        self._seed = seed
        self._stretches: LruCache[tuple[np.ndarray, np.ndarray]] = LruCache(4)

    def at(self, position: int) -> tuple[int, int]:
        """Return the number of the corpus, and the position within that corpus."""
        if len(self.shares) == 1:
            return 0, position
        stretch, place = divmod(position, STRETCH)
        corpora, positions = self._stretches.get(stretch, lambda: self._deal(stretch))
        return int(corpora[place]), int(positions[place])

    def _deal(self, stretch: int) -> tuple[np.ndarray, np.ndarray]:
        before, after = self._dealt(stretch * STRETCH), self._dealt((stretch + 1) * STRETCH)
        counts = [b - a for a, b in zip(before, after, strict=True)]
        corpora = np.repeat(np.arange(len(counts)), counts)
        corpora = generator(CORPORA, self._seed, stretch).permutation(corpora)
        positions = np.zeros(STRETCH, np.int64)
        for corpus, first in enumerate(before):
            mine = corpora == corpus
            positions[mine] = first + np.arange(mine.sum())
        return corpora, positions

    def _dealt(self, positions: int) -> list[int]:
        """Return how many of the first `positions` belong to each corpus: differences of rounded running sums."""
        edges = [0]
        running = Fraction(0)
        for share in self.shares:
            running += share
            edges.append(int(running * positions))
        return [b - a for a, b in itertools.pairwise(edges)]
