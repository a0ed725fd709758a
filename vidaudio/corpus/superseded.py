"""Superseded rows: rows in older shards of clips that were tried again. Only a clip's newest shard is current."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
import pyarrow as pa

from vidaudio.corpus.corpus import Corpus
from vidaudio.hashing import find_hashes, hashed


class Superseded:
    """Ids whose rows are superseded, by shard.

    Args:
        shards: Shard of each superseded row, int64 `[rows]`.
        ids: Clip id of each superseded row.
        since: Number of manifest parts that were read; also an attribute.
    """

    def __init__(self, shards: np.ndarray, ids: pa.Array, since: int) -> None:
        order = np.argsort(shards, kind="stable")
        self._shards = shards[order]
        self._ids = ids.take(pa.array(order))
        self.since = since

    @property
    def shards(self) -> np.ndarray:
        """Shards with superseded rows, each once."""
        return np.unique(self._shards)

    def ids(self, shard: int) -> frozenset[str]:
        """Return the ids of one shard's clips that have a newer shard."""
        first, last = np.searchsorted(self._shards, [shard, shard + 1])
        return frozenset(self._ids.slice(first, last - first).to_pylist())

    def is_current(self, shard: int, ids: Iterable[str]) -> list[bool]:
        """Return for each of one shard's clips whether the shard's row is current."""
        gone = self.ids(shard)
        return [clip_id not in gone for clip_id in ids]


def superseded(corpus: Corpus, since: int = 0) -> Superseded:
    """Return the rows in older shards that retry parts superseded.

    Args:
        corpus: An opened corpus.
        since: Number of the first manifest part whose retries count.
    """
    later = [part for part in corpus.parts[since:] if part.kind == "retry"]
    if not later:
        return Superseded(np.zeros(0, np.int64), pa.array([], pa.string()), len(corpus.parts))
    newest = pd.concat(_ids(corpus.files[part.name].tables(["id", "shard"])) for part in later)
    newest = newest.drop_duplicates("id", keep="last")
    hashes = np.sort(pd.util.hash_array(newest["id"].to_numpy(object), categorize=False))
    # Compare hashes first, so that the millions of clips that were not tried again are not held.
    rows = _ids(_meeting(corpus.tables(["id", "shard"]), hashes))
    rows = rows.merge(newest, on="id", suffixes=("", "_newest"))
    rows = rows[rows["shard"] < rows["shard_newest"]]
    return Superseded(rows["shard"].to_numpy(np.int64), pa.array(rows["id"], pa.string()), len(corpus.parts))


def _meeting(tables: Iterable[pa.Table], hashes: np.ndarray) -> Iterable[pa.Table]:
    for table in tables:
        yield table.filter(pa.array(find_hashes(hashes, hashed(table["id"]))[1]))


def _ids(tables: Iterable[pa.Table]) -> pd.DataFrame:
    return pa.concat_tables(tables).to_pandas()
