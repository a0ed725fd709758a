"""The form in which an expression computes with columns.

Numbers are 64-bit floats, with NaN for null. Booleans are NumPy booleans, with False for null. Texts are Arrow strings.
A list column is its elements and the row of each element; a null list is an empty list.
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
        elements: Elements of all rows, one after another: Arrow strings, or float64.
        owners: Row of each element.
        rows: Number of rows.
    """

    elements: Any
    owners: np.ndarray
    rows: int

    @property
    def lengths(self) -> np.ndarray:
        """Number of elements of each row, float64 `[rows]`."""
        return np.bincount(self.owners, minlength=self.rows).astype(np.float64)

    def any(self, holds: np.ndarray) -> np.ndarray:
        """Return for every row whether `holds` is true for any of its elements."""
        found = np.zeros(self.rows, bool)
        found[self.owners[holds]] = True
        return found


def value_of(column: pa.Array | pa.ChunkedArray, kind: Kind) -> Any:
    """Return a column in the form in which expressions compute with it."""
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
    """Return an Arrow array of booleans as a NumPy array, with False for null."""
    return pc.fill_null(column, False).to_numpy(zero_copy_only=False)


def _numbers(column: pa.Array) -> np.ndarray:
    numbers = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return numbers.astype(np.float64, copy=False)
