"""An expression that fits its columns and is ready to be evaluated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from vidaudio.expressions.check import check_condition
from vidaudio.expressions.evaluate import evaluate
from vidaudio.expressions.kinds import Kind
from vidaudio.expressions.parser import parse
from vidaudio.expressions.tree import Node, columns_of
from vidaudio.expressions.values import value_of


@dataclass(frozen=True, slots=True)
class Expression:
    """A condition over the columns of a table, true or false for every row.

    Attributes:
        text: The expression as it was written.
        columns: Kinds of the columns that the expression uses, by name.
    """

    text: str
    columns: Mapping[str, Kind]
    _tree: Node = field(repr=False)

    @classmethod
    def parse(cls, text: str, columns: Mapping[str, Kind]) -> Expression:
        """Parse a text as a condition over columns, given by their names and kinds.

        Raises:
            ExpressionError: When the text is not such a condition; names the position and what to write instead.
        """
        tree = parse(text)
        check_condition(text, tree, columns)
        return cls(text, {name: columns[name] for name in sorted(columns_of(tree))}, tree)

    def evaluate(self, table: Mapping[str, pa.Array | pa.ChunkedArray]) -> np.ndarray:
        """Return for every row whether the condition holds, bool `[rows]`.

        Args:
            table: Columns that the expression uses, by name, all of the same length.
        """
        values = {name: value_of(table[name], kind) for name, kind in self.columns.items()}
        rows = len(table[next(iter(self.columns))])
        return np.broadcast_to(np.asarray(evaluate(self._tree, values), bool), rows).copy()
