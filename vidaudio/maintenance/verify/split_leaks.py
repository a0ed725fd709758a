"""Detection of split leaks: source videos with clips in several splits. Compares 64-bit hashes, reports names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from vidaudio.hashing import hashed
from vidaudio.maintenance.verify.files import checked_table
from vidaudio.maintenance.verify.findings import Findings
from vidaudio.maintenance.verify.packs import PACK_AGAIN, SHARD_AGAIN, Pack
from vidaudio.shards.store import Store

Rows = Iterable[Mapping[str, Any]]


class SplitLeakCheck:
    """Check that a source for which the manifest gives no split is in one split only.

    It keeps 8 bytes per sample, a hash of the source. Tables of training shards that contain a hash found in several
    splits are read again.
    """

    def __init__(self) -> None:
        self._shards: dict[str, dict[str, np.ndarray]] = {}

    def add(self, name: str, sides: dict[str, np.ndarray]) -> None:
        """Add a training shard's hashes from `sources_by_side`; call in the pack's order."""
        self._shards[name] = sides

    def report_to(self, store: Store, pack: Pack, findings: Findings) -> None:
        """Report a problem for every sample whose source occurred in another split before."""
        met = self._met()
        sides: dict[str, str] = {}
        for name, hashes in self._shards.items():
            if not any(np.isin(own, met).any() for own in hashes.values()):
                continue
            at = f"{pack.folder}/{name}.parquet"
            # The table was counted before, so only its new problems are added.
            again = Findings()
            read = checked_table(store, at, again, SHARD_AGAIN)
            findings.problems += again.problems
            rows = read[0].select(["id", "source", "split"]).to_pylist() if read is not None else []
            for row in unlisted(rows, pack.facts.of(row["id"] for row in rows)):
                source, split = row["source"], row["split"]
                if sides.setdefault(source, split) != split:
                    findings.add_problem(at, f"has {source} in {split}, which is in {sides[source]} too", PACK_AGAIN)

    def _met(self) -> np.ndarray:
        """Return the sorted hashes of sources that are in more than one split."""
        by_side: dict[str, list[np.ndarray]] = {}
        for sides in self._shards.values():
            for split, hashes in sides.items():
                by_side.setdefault(split, []).append(hashes)
        if len(by_side) < 2:
            return np.zeros(0, np.uint64)
        every = np.concatenate([np.unique(np.concatenate(hashes)) for hashes in by_side.values()])
        every.sort()
        return np.unique(every[1:][every[1:] == every[:-1]])


def sources_by_side(rows: Rows, listed: Mapping[str, Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """Return, by split, hashes of the sources of samples whose clips have no split in the manifest.

    Args:
        rows: Rows of a training shard.
        listed: Manifest rows of their clips, by id.
    """
    sources: dict[str, set[str]] = {}
    for row in unlisted(rows, listed):
        sources.setdefault(row["split"], set()).add(row["source"])
    return {split: hashed(pa.chunked_array([pa.array(own, pa.string())])) for split, own in sources.items()}


def unlisted(rows: Rows, listed: Mapping[str, Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the samples whose clips are in the manifest without a split."""
    return [row for row in rows if row["id"] in listed and listed[row["id"]]["split"] is None]
