"""The list's rows, looked up by clip: in columns, a hundred bytes a clip or so, since a list may have millions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa

from vidaudio.manifest.source import hashed


class ListedClips:
    """Rows of a list.

    Args:
        rows: With a column `id`, each once.
    """

    def __init__(self, rows: pa.Table) -> None:
        self._rows = rows.combine_chunks()
        hashes = hashed(self._rows["id"])
        self._order = np.argsort(hashes).astype(np.int32)
        self._hashes = hashes[self._order]

    def of(self, ids: Iterable[str]) -> dict[str, dict[str, Any]]:
        """The rows of these clips by id; those that the list does not have are missing."""
        wanted = set(ids)
        hashes = np.sort(hashed(pa.chunked_array([pa.array(list(wanted), pa.string())])))
        # Clips whose hashes meet come along, and are told apart by their ids.
        first, last = (np.searchsorted(self._hashes, hashes, side) for side in ("left", "right"))
        places = [self._order[begin:end] for begin, end in zip(first, last, strict=True)]
        found = self._rows.take(pa.array(np.concatenate([np.zeros(0, np.int32), *places])))
        return {row["id"]: row for row in found.to_pylist() if row["id"] in wanted}
