"""Counts of one measure over all clips, added shard by shard."""

from __future__ import annotations

import numpy as np

from vidaudio.report.corpus.measures import Measure


class Histogram:
    """Histogram of a measure, with what else one pass can tell.

    Args:
        measure: The measure.

    Attributes:
        counts: Number of clips in each bar, int64 `[bars]`.
        missing: Number of clips without a value.
        beyond: Number of clips on the far side of each of the measure's thresholds.
    """

    def __init__(self, measure: Measure) -> None:
        self.measure = measure
        self.counts = np.zeros(len(measure.edges) - 1, np.int64)
        self.missing = 0
        self.beyond = [0] * len(measure.thresholds)
        self._sum = 0.0
        self._lowest, self._highest = np.inf, -np.inf

    def add(self, values: np.ndarray) -> None:
        """Count some clips; what is not finite is missing.

        Args:
            values: One value a clip, float64 `[clips]`.
        """
        known = values[np.isfinite(values)]
        self.missing += len(values) - len(known)
        if not len(known):
            return
        edges = self.measure.edges
        self.counts += np.histogram(np.clip(known, edges[0], edges[-1]), edges)[0]
        self._sum += float(known.sum())
        self._lowest, self._highest = min(self._lowest, float(known.min())), max(self._highest, float(known.max()))
        for place, threshold in enumerate(self.measure.thresholds):
            far = known > threshold.value if threshold.above else known < threshold.value
            self.beyond[place] += int(far.sum())

    @property
    def known(self) -> int:
        """Number of clips with a value."""
        return int(self.counts.sum())

    @property
    def mean(self) -> float | None:
        """Mean of the values; None without any."""
        return self._sum / self.known if self.known else None

    @property
    def lowest(self) -> float | None:
        """Lowest value; None without any."""
        return self._lowest if self.known else None

    @property
    def highest(self) -> float | None:
        """Highest value; None without any."""
        return self._highest if self.known else None

    def as_dict(self) -> dict[str, object]:
        """Return the counts, JSON-able."""
        return {
            "clips": self.known,
            "missing": self.missing,
            "mean": self.mean,
            "lowest": self.lowest,
            "highest": self.highest,
            "edges": list(self.measure.edges),
            "counts": self.counts.tolist(),
        }
