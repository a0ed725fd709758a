"""Usable samples of a corpus: counted once per run, shard by shard, and drawn without a list of them.

Usable samples have a window. Where the samples of a pack are drawn by their weights, those without weight are usable,
and count for the length of an epoch, but are never drawn.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from vidaudio.errors import PackError, TooFewSources
from vidaudio.stream.index import WEIGHT, TrainingIndex
from vidaudio.stream.weights import WeightedEpoch, weight_steps, weighted_epoch
from vidaudio.stream.windows import Windows, WindowShape
from vidaudio.text import number_of

DRAWS_BEFORE_COUNTING = 256
# Begins a label among the names of sources.
LABEL_MARK = "\0label "


@dataclass(frozen=True)
class ShardCounts:
    """Sample counts of a corpus's shards: what the processes of a run share, a few numbers per shard.

    Attributes:
        first_rows: First index row of each shard, int `[shards]`.
        rows: Number of samples of each shard, int `[shards]`.
        usable: Number of samples of each shard that have a window, int `[shards]`.
        weights: Sum of the weights of each shard's usable samples, see `weight_steps`, int64 `[shards]`; None if all
            samples are drawn equally often.
        heaviest: Largest weight of a usable sample, steps.
    """

    first_rows: np.ndarray
    rows: np.ndarray
    usable: np.ndarray
    weights: np.ndarray | None = None
    heaviest: int = 0

    @property
    def all_usable(self) -> int:
        """Number of usable samples in all shards."""
        return int(self.usable.sum())

    @property
    def drawable(self) -> np.ndarray:
        """Shards with a sample that can be drawn, int `[drawable]`."""
        return np.flatnonzero(self.usable if self.weights is None else self.weights)


def count_usable(index: TrainingIndex, windows: Windows, *, weighted: bool = False) -> ShardCounts:
    """Count each shard's samples that have a window, by reading every sample's times once.

    Args:
        index: Index of the samples; with weights if `weighted`.
        windows: Windows of the samples.
        weighted: Whether samples are drawn by their weights.
    """
    ends = np.cumsum(index.tar_rows)
    firsts = ends - index.tar_rows
    usable = np.zeros(len(ends), np.int64)
    column = index.column(WEIGHT) if weighted else None
    weights = None if column is None else np.zeros(len(ends), np.int64)
    heaviest = 0
    for shard, (first, end) in enumerate(zip(firsts.tolist(), ends.tolist(), strict=True)):
        has_window = windows.has_window(first, end)
        usable[shard] = has_window.sum()
        if column is not None and weights is not None:
            own = weight_steps(column[first:end])[has_window]
            weights[shard], heaviest = own.sum(), max(heaviest, int(own.max(initial=0)))
        if shard % 16 == 0:
            index.release_pages()
    index.release_pages()
    return ShardCounts(firsts, index.tar_rows, usable, weights, heaviest)


class UsableSamples:
    """The samples of an index that have a window of the wanted shape.

    Args:
        index: Index of the samples.
        windows: Their windows.
        counts: Counts of `count_usable`.
        seed: Seed of the run, for draws by weight.
        different_labels: Whether the samples of a mixture differ in their first labels, too.
    """

    def __init__(
        self,
        index: TrainingIndex,
        windows: Windows,
        counts: ShardCounts,
        seed: int = 0,
        *,
        different_labels: bool = False,
    ) -> None:
        self.index = index
        self.windows = windows
        self.counts = counts
        self._seed = seed
        self._sources = index.table["source"]
        self._labels = index.table["labels"] if different_labels else None
        self._weights = None if counts.weights is None else index.column(WEIGHT)
        own = counts.usable if counts.weights is None else counts.weights
        # For each shard, the samples before it; with weights, the weights before it. At the end, those of all shards.
        self._before = np.concatenate([np.zeros(1, np.int64), np.cumsum(own)])

    def of_shard(self, shard: int) -> np.ndarray:
        """Return the index rows of a shard's samples that can be drawn, in increasing order."""
        first = int(self.counts.first_rows[shard])
        end = first + int(self.counts.rows[shard])
        can_be_drawn = self.windows.has_window(first, end)
        if self._weights is not None:
            can_be_drawn &= self._weights[first:end] > 0
        return first + np.flatnonzero(can_be_drawn)

    def draws(self, epoch: int) -> np.ndarray:
        """Return how many samples are drawn of each shard in an epoch, int64 `[shards]`; their sum is `all_usable`."""
        return self.counts.usable if self._weights is None else self._epoch(epoch).drawn(self._before)

    def drawn(self, shard: int, epoch: int) -> np.ndarray:
        """Return the index rows of a shard that are drawn in an epoch, each as often as it is drawn, increasing."""
        rows = self.of_shard(shard)
        if self._weights is None:
            return rows
        return np.repeat(rows, self._epoch(epoch).drawn(self._bounds(shard, rows)))

    def _epoch(self, epoch: int) -> WeightedEpoch:
        return weighted_epoch(self.counts.all_usable, int(self._before[-1]), seed=self._seed, epoch=epoch)

    def _bounds(self, shard: int, rows: np.ndarray) -> np.ndarray:
        """Return the sums of the weights before each of a shard's rows, and after the last one, int64 `[rows + 1]`."""
        assert self._weights is not None, "only samples with weights have bounds"
        sums = np.cumsum(weight_steps(self._weights[rows]))
        return self._before[shard] + np.concatenate([np.zeros(1, np.int64), sums])

    def source(self, row: int) -> str:
        """Return the source of a row."""
        return self._sources[int(row)].as_py()

    def exclusive(self, row: int) -> set[str]:
        """Return what no other sample of a mixture may have: the row's source and, if labels must differ, its label."""
        found = {self.source(row)}
        if self._labels is not None:
            found.update(LABEL_MARK + label for label in (self._labels[int(row)].as_py() or ())[:1])
        return found

    def draw(self, rng: np.random.Generator) -> int:
        """Draw a row from the usable ones, uniformly or by weight."""
        rows = len(self.index)
        for _ in range(DRAWS_BEFORE_COUNTING):
            row = int(rng.integers(rows))
            if self.windows.count(row) and self._accepts(row, rng):
                return row
        number = int(rng.integers(self._before[-1]))
        shard = int(np.searchsorted(self._before, number, side="right")) - 1
        own = self.of_shard(shard)
        if self._weights is None:
            return int(own[number - self._before[shard]])
        return int(own[np.searchsorted(self._bounds(shard, own), number, side="right") - 1])

    def _accepts(self, row: int, rng: np.random.Generator) -> bool:
        """Return whether a row that was drawn uniformly stays, so that rows are drawn by weight."""
        return self._weights is None or rng.random() * self.counts.heaviest < self._steps(row)

    def _can_be_drawn(self, row: int) -> bool:
        return bool(self.windows.count(row)) and (self._weights is None or self._steps(row) > 0)

    def _steps(self, row: int) -> int:
        assert self._weights is not None, "only samples with weights have steps"
        return int(weight_steps(self._weights[row : row + 1])[0])

    def draw_unlike(self, rng: np.random.Generator, taken: Collection[str], rows: Collection[int] = ()) -> int:
        """Draw a usable row that has nothing of `taken`, see `exclusive`, and is not in `rows`.

        Raises:
            PackError: When there is no such row.
        """
        taken = frozenset(taken)
        for _ in range(DRAWS_BEFORE_COUNTING):
            row = self.draw(rng)
            if row not in rows and taken.isdisjoint(self.exclusive(row)):
                return row
        # One source fills nearly all of the corpus: search every row, from a random one on.
        start = int(rng.integers(len(self.index)))
        for step in range(len(self.index)):
            row = (start + step) % len(self.index)
            if row not in rows and taken.isdisjoint(self.exclusive(row)) and self._can_be_drawn(row):
                return row
        sources = [name for name in sorted(taken) if not name.startswith(LABEL_MARK)]
        labels = [name.removeprefix(LABEL_MARK) for name in sorted(taken) if name.startswith(LABEL_MARK)]
        or_label = f" and another label than {', '.join(labels)}" if labels else ""
        raise PackError(
            f"{self.index.store.url}: no usable sample is of another source than {', '.join(sources)}{or_label}"
        )

    def require_sources(self, wanted: int, split: str, shape: WindowShape) -> None:
        """Refuse a corpus with too few sources for a mixture.

        Raises:
            TooFewSources: When fewer than `wanted` sources have a usable sample; names the split and the window's
                shape.
        """
        found: set[str] = set()
        labels: set[str | None] = set()
        for shard in self.counts.drawable:
            rows = self.of_shard(int(shard))
            found.update(self._sources.take(rows).to_pylist())
            if self._labels is not None:
                labels.update(row[0] if row else None for row in self._labels.take(rows).to_pylist())
            if len(found) >= wanted and (self._labels is None or len(labels - {None}) >= wanted):
                return
        if len(found) >= wanted:
            raise TooFewSources(
                f"{self.index.store.url}, split {split}: the clips have "
                f"{number_of(len(labels - {None}), 'label')}, and mixtures of {wanted} different labels are wanted"
            )
        unused = len(self.index) - self.counts.all_usable
        left_out = f"{number_of(unused, 'sample is', 'samples are')} {self.windows.why_none}"
        unweighted = "" if self._weights is None else " and a weight above 0 (use_weights=False ignores the weights)"
        raise TooFewSources(
            f"{self.index.store.url}, split {split}: {number_of(len(found), 'source has', 'sources have')} a window of "
            f"{shape.length_samples / self.index.sample_rate:.3f} s with {_pictures(shape)}{unweighted} "
            f"({left_out}); mixtures of {wanted} need as many "
            "sources. Pack once more under another name, with clips of more sources, or with another seed or larger "
            f"split_fractions where splits are drawn{'; or use a shorter window' if unused else ''}"
        )


def _pictures(shape: WindowShape) -> str:
    if shape.frames == 1:
        return "1 picture"
    return f"{shape.frames} pictures {shape.frame_spacing_seconds:g} s apart (frame_spacing_seconds)"
