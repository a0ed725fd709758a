"""What a manifest holds, in numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

import pyarrow as pa


@dataclass(frozen=True, slots=True)
class ManifestSummary:
    """Counts over a manifest.

    clips, sources: Rows, and the distinct videos they are cut from.
    datasets, splits, labels: Clips by each; clips without a split stand under "".
    captions: Captions in all.
    hours: Sum of the cuts that have an end; `open_cuts` counts those that have none.
    local: Clips whose media is a local path.
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


def describe_manifest(table: pa.Table) -> ManifestSummary:
    """Count what a table of `SCHEMA` holds; labels and splits with the most frequent first."""
    starts, ends = table.column("start_seconds").to_pylist(), table.column("end_seconds").to_pylist()
    lengths = [end - start for start, end in zip(starts, ends, strict=True) if end is not None]
    labels = chain.from_iterable(row or () for row in table.column("labels").to_pylist())
    return ManifestSummary(
        clips=len(table),
        sources=len(set(table.column("source").to_pylist())),
        datasets=_counts(table.column("dataset").to_pylist()),
        splits=_counts(split or "" for split in table.column("split").to_pylist()),
        labels=_counts(labels),
        captions=sum(len(row or ()) for row in table.column("captions").to_pylist()),
        hours=sum(lengths) / 3600,
        open_cuts=len(table) - len(lengths),
        local=sum("://" not in url for url in table.column("url").to_pylist()),
    )


def _counts(values: Iterable[str]) -> dict[str, int]:
    return dict(Counter(values).most_common())
