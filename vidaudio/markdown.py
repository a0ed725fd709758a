"""Markdown tables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_BAR = re.compile(r"(?<!\\)\|")


def markdown_table(heads: Sequence[str], rows: Iterable[Sequence[object]], *, texts: int = 1) -> list[str]:
    """Return the lines of a table.

    Args:
        heads: Names of the columns.
        rows: Cells of each row. Bars that are not escaped are: they would start a new column.
        texts: Number of columns from the left that hold text; those behind it hold numbers and are right-aligned.
    """
    cells = [[_BAR.sub(r"\\|", str(cell)) for cell in row] for row in (heads, *rows)]
    lines = [f"| {' | '.join(row)} |" for row in cells]
    return [lines[0], f"|{'---|' * texts}{'---:|' * (len(heads) - texts)}", *lines[1:]]
