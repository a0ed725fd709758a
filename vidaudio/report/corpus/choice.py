"""Choice of the clips that are shown: the best, the worst and the undecided ones, or a drawn sample without scores.

Only as many clips as can be shown are held while the corpus is read.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from vidaudio.hashing import hashed
from vidaudio.report.corpus.tables import ShardRows, as_floats

UNDECIDED = 0.5


@dataclass(frozen=True, slots=True, order=True)
class ClipRef:
    """A clip and the shard that holds it."""

    shard: int
    id: str


class Lowest:
    """The clips with the lowest keys among all that were added; ties are broken by a hash of the id.

    Args:
        most: Number of clips to keep.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept = pd.DataFrame(
            {
                "key": np.zeros(0),
                "hash": np.zeros(0, np.uint64),
                "id": np.zeros(0, object),
                "shard": np.zeros(0, np.int64),
            }
        )

    def add(self, keys: np.ndarray, ids: pa.ChunkedArray, shard: int) -> None:
        """Add the clips of a shard; a clip whose key is not finite is left out.

        Args:
            keys: Key of each clip, float64 `[clips]`.
            ids: Id of each clip.
            shard: Number of the shard.
        """
        usable = np.isfinite(keys)
        if len(self._kept) == self._most:
            usable &= keys <= (self._kept["key"].iloc[-1] if self._most else -np.inf)
        if not usable.any():
            return
        chosen = ids.filter(pa.array(usable))
        rows = pd.DataFrame({"key": keys[usable], "hash": hashed(chosen), "id": chosen.to_pylist(), "shard": shard})
        both = pd.concat([self._kept, rows]) if len(self._kept) else rows
        self._kept = both.sort_values(["key", "hash", "id"], kind="stable").head(self._most)

    def clips(self) -> list[ClipRef]:
        """Return the clips, lowest key first."""
        return [
            ClipRef(int(shard), str(clip)) for shard, clip in zip(self._kept["shard"], self._kept["id"], strict=True)
        ]


class Choice:
    """Choice of the clips that are shown.

    Args:
        most: Number of clips to show in all.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._scored = 0
        self._best, self._worst, self._undecided, self._drawn = (Lowest(most) for _ in range(4))

    def add(self, rows: ShardRows) -> None:
        """Consider the clips of a shard."""
        ids = rows.clips["id"]
        score, probability = (as_floats(rows.clips[name]) for name in ("correspondence", "p_corresponds"))
        self._scored += int(np.isfinite(score).sum())
        self._best.add(-score, ids, rows.shard)
        self._worst.add(score, ids, rows.shard)
        self._undecided.add(np.abs(probability - UNDECIDED), ids, rows.shard)
        self._drawn.add(np.zeros(rows.clips.num_rows), ids, rows.shard)

    def groups(self) -> dict[str, list[ClipRef]]:
        """Return the clips to show by group: `best`, `undecided` and `worst`, or `drawn` without scores.

        No clip is in two groups. Each of best and worst has a third of the clips that are shown.
        """
        if not self._scored:
            return {"drawn": self._drawn.clips()} if self._drawn.clips() else {}
        shown = min(self._most, self._scored)
        third = shown // 3
        best, worst = self._best.clips()[:third], self._worst.clips()[:third]
        taken = {*best, *worst}
        middle = [clip for clip in self._undecided.clips() if clip not in taken][: shown - 2 * third]
        found = {"best": best, "undecided": middle, "worst": worst}
        return {name: clips for name, clips in found.items() if clips}
