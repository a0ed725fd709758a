"""Vectors of many clips without the direction that all of them share.

Vectors of one encoder lie in a narrow cone. A vector near its axis has a high cosine with everything, and would be
found whatever is asked (a hub). Without the mean of all vectors, there are fewer such hubs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from vidaudio.corpus.clip_vectors import ClipVectors
from vidaudio.correspondence.windows import unit


@dataclass(frozen=True)
class Nearest:
    """Rows that are nearest to a query, the nearest first.

    Attributes:
        rows: Numbers of the rows, int64 `[K]`.
        similarity: What they are ordered by, float32 `[K]`: the cosine after the mean is removed.
        cosine: The cosine of the vectors as they are, float32 `[K]`.
    """

    rows: np.ndarray
    similarity: np.ndarray
    cosine: np.ndarray


def centred_query(query: np.ndarray, mean: np.ndarray, *, is_text: bool) -> np.ndarray:
    """Return the unit vector that centred vectors are compared with, float32 `[D]`.

    A picture or a sound lies in the cone of the vectors, so their mean is removed from it, too. Words lie in another
    cone, whose mean is not known: they stay as they are, which makes their similarities smaller.
    """
    return query if is_text else unit(query - mean)


@dataclass(frozen=True)
class AllVectors:
    """Vectors that are compared one by one, which is exact.

    Attributes:
        ids: Clip id of each row `[N]`.
        shards: Shard of each row, int64 `[N]`.
        vectors: Unit vectors, float32 `[N, D]`.
        mean: Their mean, float32 `[D]`.
    """

    ids: pa.Array
    shards: np.ndarray
    vectors: np.ndarray
    mean: np.ndarray

    @classmethod
    def gather(cls, parts: Iterable[ClipVectors]) -> AllVectors:
        """Return the vectors of some shards together, with their mean."""
        held = list(parts)
        vectors = np.concatenate([part.vectors for part in held]) if held else np.zeros((0, 1), np.float32)
        ids = pa.array([clip_id for part in held for clip_id in part.ids], pa.string())
        shards = np.repeat(np.array([part.shard for part in held], np.int64), [len(part.ids) for part in held])
        return cls(ids, shards, vectors, vectors.sum(axis=0) / max(1, len(vectors)))

    def nearest(self, query: np.ndarray, count: int, shown: np.ndarray, *, is_text: bool = False) -> Nearest:
        """Return the nearest rows among those shown, at most `count`.

        Args:
            query: Unit vector, float32 `[D]`.
            count: Number of rows.
            shown: Which rows may be returned, bool `[N]`.
            is_text: Whether the query is of words.
        """
        rows = np.flatnonzero(shown)
        if not len(rows):
            return Nearest(rows, np.zeros(0, np.float32), np.zeros(0, np.float32))
        similarity = unit(self.vectors[rows] - self.mean) @ centred_query(query, self.mean, is_text=is_text)
        best = highest(similarity, count)
        return Nearest(rows[best], similarity[best], self.vectors[rows[best]] @ query)


def highest(values: np.ndarray, count: int) -> np.ndarray:
    """Return the places of the highest values, the highest first; of equal ones, the first place first."""
    return np.argsort(-values, kind="stable")[:count]
