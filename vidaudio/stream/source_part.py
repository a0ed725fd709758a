"""A part of a corpus's sources: windows of samples whose source lies in an interval of shares."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vidaudio.hashing import hashed
from vidaudio.stream.index import TrainingIndex
from vidaudio.stream.windows import Windows, WindowShape


def shares_of(sources: pa.ChunkedArray, seed: int) -> np.ndarray:
    """Return where sources lie between 0 and 1, float64 `[rows]`: a function of source and seed alone."""
    return hashed(pc.binary_join_element_wise(pa.scalar(str(seed)), sources, " part of ")) / 2.0**64


class WindowsOfPart(Windows):
    """Windows of the samples of some sources; the other samples have none.

    Args:
        index: Index of the samples.
        shape: Shape of a window.
        between: Interval of shares, the lower bound within it; see `StreamConfig.sources_between`.
        seed: Seed of the run.
    """

    why_none = "too short, or of the sources of other mixtures"

    def __init__(self, index: TrainingIndex, shape: WindowShape, between: tuple[float, float], seed: int) -> None:
        super().__init__(index, shape)
        self._sources = index.table["source"]
        self._between = between
        self._seed = seed

    def has_window(self, first: int, end: int) -> np.ndarray:
        """Return which of the rows `first .. end - 1` have a window, bool `[end - first]`."""
        return super().has_window(first, end) & self._is_part(first, end)

    def count(self, row: int) -> int:
        """Return the number of windows of a sample."""
        return super().count(row) if self._is_part(row, row + 1)[0] else 0

    def _is_part(self, first: int, end: int) -> np.ndarray:
        shares = shares_of(self._sources.slice(first, end - first), self._seed)
        low, high = self._between
        return (low <= shares) & (shares < high)
