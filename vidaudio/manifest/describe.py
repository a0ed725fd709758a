"""Summary of a manifest in numbers, counted one piece of the list at a time."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vidaudio.hashing import hashed
from vidaudio.manifest.source import RowSource, TableRows
from vidaudio.media.fetch.types import are_remote

_COLUMNS = ("source", "dataset", "url", "start_seconds", "end_seconds", "split", "labels", "captions")


@dataclass(frozen=True, slots=True)
class ManifestSummary:
    """Counts over a manifest.

    Attributes:
        clips: Number of rows.
        sources: Number of distinct videos that the clips are cut from.
        datasets: Number of clips by data set.
        splits: Number of clips by split; clips without a split are counted under "".
        labels: Number of clips by label.
        captions: Number of captions in all clips.
        hours: Total length of the cuts that have an end, hours.
        open_cuts: Number of cuts without an end.
        local: Clips whose media is a file of this machine, given by its path or as a `file:` URL.
    """

    clips: int
    sources: int
    datasets: dict[str, int]
    splits: dict[str, int]
    labels: dict[str, int]
    captions: int
    hours: float
    open_cuts: int
    local: int


def describe_manifest(manifest: pa.Table | RowSource) -> ManifestSummary:
    """Count what a manifest holds.

    Data sets, splits and labels are sorted by frequency, equal ones in order of appearance.

    Args:
        manifest: A table of `SCHEMA`, or a list as returned by `open_manifest`. For a list of any length, only the
            counts and one hash per source stay in memory.
    """
    rows = TableRows(manifest) if isinstance(manifest, pa.Table) else manifest
    datasets, splits, labels = Counter[str](), Counter[str](), Counter[str]()
    sources = np.zeros(0, np.uint64)
    pending: list[np.ndarray] = []
    captions = open_cuts = remote = 0
    seconds = 0.0
    for table in rows.tables(_COLUMNS):
        _count(datasets, table["dataset"])
        _count(splits, pc.fill_null(table["split"], ""))
        _count(labels, pc.list_flatten(table["labels"]))
        captions += pc.sum(pc.list_value_length(table["captions"])).as_py() or 0
        cuts = pc.subtract(table["end_seconds"], table["start_seconds"])
        open_cuts += cuts.null_count
        # Summed in order: the sum is the same to the last digit, however the list is cut into pieces.
        seconds = float(np.cumsum(np.append(seconds, cuts.drop_null().to_numpy()))[-1])
        remote += pc.sum(are_remote(table["url"])).as_py() or 0
        pending.append(np.unique(hashed(table["source"])))
        if sum(map(len, pending)) > len(sources):
            sources, pending = np.unique(np.concatenate([sources, *pending])), []
    return ManifestSummary(
        clips=rows.num_rows,
        sources=len(np.unique(np.concatenate([sources, *pending]))),
        datasets=dict(datasets.most_common()),
        splits=dict(splits.most_common()),
        labels=dict(labels.most_common()),
        captions=captions,
        hours=seconds / 3600,
        open_cuts=open_cuts,
        local=rows.num_rows - remote,
    )


def _count(counts: Counter[str], texts: pa.ChunkedArray) -> None:
    """Add texts to the counts, new ones in order of appearance."""
    for counted in pc.value_counts(texts).to_pylist():
        counts[counted["values"]] += counted["counts"]
