"""Clips that were tried again: of each only the newest shard speaks, and its rows in older shards count no more."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
import pyarrow as pa

from vidaudio.corpus.corpus import Corpus
from vidaudio.manifest.source import hashed


class Superseded:
    """Ids whose rows count no more, by shard.

    Attributes:
        since: How many parts of the list were looked at.
    """

    def __init__(self, shards: np.ndarray, ids: pa.Array, since: int) -> None:
        order = np.argsort(shards, kind="stable")
        self._shards = shards[order]
        self._ids = ids.take(pa.array(order))
        self.since = since

    @property
    def shards(self) -> np.ndarray:
        """Shards with such clips, each once."""
        return np.unique(self._shards)

    def ids(self, shard: int) -> frozenset[str]:
        """Ids of one shard's clips for which a newer shard speaks."""
        first, last = np.searchsorted(self._shards, [shard, shard + 1])
        return frozenset(self._ids.slice(first, last - first).to_pylist())

    def is_current(self, shard: int, ids: Iterable[str]) -> list[bool]:
        """For the clips of one shard: whether it speaks for them."""
        gone = self.ids(shard)
        return [clip_id not in gone for clip_id in ids]


def superseded(corpus: Corpus, since: int = 0) -> Superseded:
    """The clips that parts made for another try took over from older shards.

    Args:
        corpus: Opened.
        since: Only those taken over by the parts from this one on.
    """
    later = [part for part in corpus.parts[since:] if part.kind == "retry"]
    if not later:
        return Superseded(np.zeros(0, np.int64), pa.array([], pa.string()), len(corpus.parts))
    newest = pd.concat(_ids(corpus.files[part.name].tables(["id", "shard"])) for part in later)
    newest = newest.drop_duplicates("id", keep="last")
    hashes = np.sort(pd.util.hash_array(newest["id"].to_numpy(object), categorize=False))
    # By hashes first, so that of the millions of clips that were not tried again none is held.
    rows = _ids(_meeting(corpus.tables(["id", "shard"]), hashes))
    rows = rows.merge(newest, on="id", suffixes=("", "_newest"))
    rows = rows[rows["shard"] < rows["shard_newest"]]
    return Superseded(rows["shard"].to_numpy(np.int64), pa.array(rows["id"], pa.string()), len(corpus.parts))


def _meeting(tables: Iterable[pa.Table], hashes: np.ndarray) -> Iterable[pa.Table]:
    for table in tables:
        ids = hashed(table["id"])
        places = np.minimum(np.searchsorted(hashes, ids), len(hashes) - 1)
        yield table.filter(pa.array(hashes[places] == ids))


def _ids(tables: Iterable[pa.Table]) -> pd.DataFrame:
    return pa.concat_tables(tables).to_pandas()
