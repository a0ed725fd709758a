"""Columns as an expression computes with them.

Numbers are 64-bit floats, null is NaN. True and false are NumPy booleans, null is false. Texts are Arrow strings. A
list column is its elements and the row of each; a null list is an empty one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vidaudio.expressions.kinds import Kind


@dataclass(frozen=True, slots=True)
class Lists:
    """A column of lists.

    Attributes:
        elements: Of all rows, one after another: Arrow strings, or float64.
        owners: The row of each element.
        rows: How many rows there are.
    """

    elements: Any
    owners: np.ndarray
    rows: int

    @property
    def lengths(self) -> np.ndarray:
        return np.bincount(self.owners, minlength=self.rows).astype(np.float64)

    def any(self, holds: np.ndarray) -> np.ndarray:
        """Return for every row whether something holds for any of its elements."""
        found = np.zeros(self.rows, bool)
        found[self.owners[holds]] = True
        return found


def value_of(column: pa.Array | pa.ChunkedArray, kind: Kind) -> Any:
    """Return a column as expressions compute with it."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if kind is Kind.NUMBER:
        return _numbers(column)
    if kind is Kind.BOOLEAN:
        return truth(column)
    if kind is Kind.TEXT:
        return column.cast(pa.string())
    elements = pc.list_flatten(column)
    owners = pc.list_parent_indices(column).to_numpy(zero_copy_only=False).astype(np.int64)
    return Lists(_numbers(elements) if kind is Kind.NUMBERS else elements.cast(pa.string()), owners, len(column))


def truth(column: pa.Array) -> np.ndarray:
    """Return an Arrow array of booleans as NumPy's, null as false."""
    return pc.fill_null(column, False).to_numpy(zero_copy_only=False)


def _numbers(column: pa.Array) -> np.ndarray:
    numbers = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return numbers.astype(np.float64, copy=False)
