"""Counts of strings of which there may be millions, such as uploader names: in columns, some 40 bytes per string."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

_SCHEMA = pa.schema([("text", pa.large_string()), ("count", pa.int64())])
# New counts are merged with the others once they are this many, and at least as many as the others.
PENDING_TEXTS = 100_000


class TextCounts:
    """Number of occurrences of each string."""

    def __init__(self) -> None:
        self._counted = _SCHEMA.empty_table()
        self._pending: list[pa.Table] = []
        self._pending_rows = self.total = 0

    def add(self, texts: Iterable[str]) -> None:
        """Count some more strings."""
        counts = Counter(texts)
        self.total += counts.total()
        self._pending.append(pa.table([list(counts), list(counts.values())], schema=_SCHEMA))
        self._pending_rows += len(counts)
        if self._pending_rows >= max(PENDING_TEXTS, self._counted.num_rows):
            self._together()

    def largest(self, most: int) -> list[tuple[str, int]]:
        """Return the `most` most frequent strings with their counts; ties are broken alphabetically."""
        keys = [("count", "descending"), ("text", "ascending")]
        table = self._together()
        chosen = table.take(pc.select_k_unstable(table, k=min(most, table.num_rows), sort_keys=keys))
        # Sort again, so that ties are ordered by code points, as Python compares strings.
        return sorted(_pairs(chosen), key=lambda pair: (-pair[1], pair[0]))

    def __len__(self) -> int:
        """Return the number of different strings."""
        return self._together().num_rows

    def __contains__(self, text: str) -> bool:
        return bool(pc.any(pc.equal(self._together()["text"], text)).as_py())

    def _together(self) -> pa.Table:
        if self._pending:
            every = pa.concat_tables([self._counted, *self._pending])
            self._pending, self._pending_rows = [], 0
            grouped = every.group_by("text", use_threads=False).aggregate([("count", "sum")])
            self._counted = pa.table([grouped["text"], grouped["count_sum"]], schema=_SCHEMA)
        return self._counted


def _pairs(table: pa.Table) -> Iterable[tuple[str, int]]:
    return zip(table["text"].to_pylist(), table["count"].to_pylist(), strict=True)
