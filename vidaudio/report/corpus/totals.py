"""Sums over the clips of every label, split, uploader or licence, of which there may be very many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

# New sums are merged with the others once they are this many, and at least as many as the others.
PENDING_NAMES = 100_000


@dataclass(frozen=True, slots=True)
class Total:
    """Sums over the clips of one name.

    Attributes:
        name: The name.
        sums: Sum of each number, in the order of `Totals`.
    """

    name: str
    sums: tuple[float, ...]


class Totals:
    """Sums of some numbers by name.

    Args:
        numbers: Count of the numbers that are summed; the first is the number of clips.
    """

    def __init__(self, numbers: int) -> None:
        self._numbers = numbers
        self._summed = pd.DataFrame(np.zeros((0, numbers)), index=pd.Index([], dtype=object))
        self._pending: list[pd.DataFrame] = []
        self._pending_rows = 0

    def add(self, names: Sequence[str], numbers: np.ndarray) -> None:
        """Add some clips.

        Args:
            names: Name of each clip.
            numbers: Numbers of each clip, float64 `[clips, numbers]`.
        """
        if not len(names):
            return
        summed = _summed(pd.DataFrame(numbers, index=pd.Index(list(names), dtype=object)))
        self._pending.append(summed)
        self._pending_rows += len(summed)
        if self._pending_rows >= max(PENDING_NAMES, len(self._summed)):
            self._merge()

    def largest(self, most: int) -> list[Total]:
        """Return the `most` names with the most clips, largest first; ties are broken alphabetically."""
        ranked = self._ranked().head(most)
        return [Total(name, tuple(sums)) for name, sums in zip(ranked.index, ranked.to_numpy().tolist(), strict=True)]

    def rest(self, most: int) -> Total | None:
        """Return the sums of all names that `largest` leaves out; None if it leaves out none."""
        others = self._ranked().iloc[most:]
        if others.empty:
            return None
        return Total(f"{len(others):,} others", tuple(others.to_numpy().sum(axis=0).tolist()))

    def __len__(self) -> int:
        """Return the number of different names."""
        return len(self._merge())

    def __contains__(self, name: str) -> bool:
        return name in self._merge().index

    def _ranked(self) -> pd.DataFrame:
        summed = self._merge()
        return summed.iloc[np.argsort(-summed[0].to_numpy(), kind="stable")] if len(summed) else summed

    def _merge(self) -> pd.DataFrame:
        if self._pending:
            self._summed = _summed(pd.concat([self._summed, *self._pending] if len(self._summed) else self._pending))
            self._pending, self._pending_rows = [], 0
        return self._summed


def _summed(rows: pd.DataFrame) -> pd.DataFrame:
    # Sorted by name, so that a stable sort by clips breaks ties alphabetically.
    return rows.groupby(level=0, sort=True).sum()
