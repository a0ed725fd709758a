"""Usable samples of a corpus: counted once per run, shard by shard, and drawn without a list of them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from vidaudio.errors import PackError
from vidaudio.stream.index import TrainingIndex
from vidaudio.stream.windows import Windows, WindowShape
from vidaudio.text import number_of

DRAWS_BEFORE_COUNTING = 256


@dataclass(frozen=True)
class ShardCounts:
    """Sample counts of a corpus's shards: what the processes of a run share, a few numbers per shard.

    Attributes:
        first_rows: First index row of each shard, int `[shards]`.
        rows: Number of samples of each shard, int `[shards]`.
        usable: Number of samples of each shard that have a window, int `[shards]`.
    """

    first_rows: np.ndarray
    rows: np.ndarray
    usable: np.ndarray

    @property
    def all_usable(self) -> int:
        """Number of usable samples in all shards."""
        return int(self.usable.sum())


def count_usable(index: TrainingIndex, windows: Windows) -> ShardCounts:
    """Count each shard's samples that have a window, by reading every sample's times once."""
    ends = np.cumsum(index.tar_rows)
    firsts = ends - index.tar_rows
    usable = np.zeros(len(ends), np.int64)
    for shard, (first, end) in enumerate(zip(firsts.tolist(), ends.tolist(), strict=True)):
        usable[shard] = windows.has_window(first, end).sum()
        if shard % 16 == 0:
            index.release_pages()
    index.release_pages()
    return ShardCounts(firsts, index.tar_rows, usable)


class UsableSamples:
    """The samples of an index that have a window of the wanted shape."""

    def __init__(self, index: TrainingIndex, windows: Windows, counts: ShardCounts) -> None:
        self.index = index
        self.windows = windows
        self.counts = counts
        self._sources = index.table["source"]
        self._before = np.cumsum(counts.usable) - counts.usable

    def of_shard(self, shard: int) -> np.ndarray:
        """Return the index rows of a shard's usable samples, in increasing order."""
        first = int(self.counts.first_rows[shard])
        return first + np.flatnonzero(self.windows.has_window(first, first + int(self.counts.rows[shard])))

    def source(self, row: int) -> str:
        """Return the source of a row."""
        return self._sources[int(row)].as_py()

    def draw(self, rng: np.random.Generator) -> int:
        """Draw a row uniformly from the usable ones."""
        rows = len(self.index)
        for _ in range(DRAWS_BEFORE_COUNTING):
            row = int(rng.integers(rows))
            if self.windows.count(row):
                return row
        number = int(rng.integers(self.counts.all_usable))
        shard = int(np.searchsorted(self._before, number, side="right")) - 1
        return int(self.of_shard(shard)[number - self._before[shard]])

    def draw_unlike(self, rng: np.random.Generator, sources: Collection[str], rows: Collection[int] = ()) -> int:
        """Draw a usable row whose source is not in `sources` and that is not in `rows`.

        Raises:
            PackError: When there is no such row.
        """
        for _ in range(DRAWS_BEFORE_COUNTING):
            row = self.draw(rng)
            if row not in rows and self.source(row) not in sources:
                return row
        # One source fills nearly all of the corpus: search every row, from a random one on.
        start = int(rng.integers(len(self.index)))
        for step in range(len(self.index)):
            row = (start + step) % len(self.index)
            if row not in rows and self.source(row) not in sources and self.windows.count(row):
                return row
        raise PackError(f"{self.index.store.url}: no usable sample is of another source than {', '.join(sources)}")

    def require_sources(self, wanted: int, split: str, shape: WindowShape) -> None:
        """Refuse a corpus with too few sources for a mixture.

        Raises:
            PackError: When fewer than `wanted` sources have a usable sample; names the split and the window's shape.
        """
        found: set[str] = set()
        for shard in np.flatnonzero(self.counts.usable):
            found.update(self._sources.take(self.of_shard(int(shard))).to_pylist())
            if len(found) >= wanted:
                return
        too_short = len(self.index) - self.counts.all_usable
        raise PackError(
            f"{self.index.store.url}, split {split}: {number_of(len(found), 'source has', 'sources have')} a window of "
            f"{shape.length_samples / self.index.sample_rate:.3f} s with {_pictures(shape)} "
            f"({number_of(too_short, 'sample is', 'samples are')} too short); mixtures of {wanted} need as many "
            "sources. Pack once more under another name, with clips of more sources, or with another seed or larger "
            f"split_fractions where splits are drawn{'; or use a shorter window' if too_short else ''}"
        )


def _pictures(shape: WindowShape) -> str:
    if shape.frames == 1:
        return "1 picture"
    return f"{shape.frames} pictures {shape.frame_spacing_seconds:g} s apart (frame_spacing_seconds)"
