"""Groups: which samples are mixed with one another. Each is a function of seed and its position, found alone.

A position counts groups from the run's first on, over the borders of epochs. Three rules say what a group is, see
`StreamConfig.partners`; all of them walk through the same block shuffle.
"""

from __future__ import annotations

import abc
from collections.abc import Callable

import numpy as np

from vidaudio.stream.config import StreamConfig
from vidaudio.stream.lru import LruCache
from vidaudio.stream.order import BLOCK_ORDER, PARTNERS, EpochLayout, epoch_layout, generator, groups_of_different
from vidaudio.stream.samples import UsableSamples

KEPT_BLOCKS = 3
KEPT_VECTORS = 8192
# A look at a shard's rows maps pages around them, up to a megabyte a column on some systems.
SHARDS_BETWEEN_RELEASES = 4

Vectors = Callable[[int], np.ndarray | None]


class BlockOrder:
    """The endless order of one corpus, in groups of `size` neighbours of different sources."""

    def __init__(self, samples: UsableSamples, config: StreamConfig, size: int) -> None:
        self.samples = samples
        self.config = config
        self.size = size
        self.groups_per_epoch = -(-samples.counts.all_usable // size)
        self._layouts: LruCache[EpochLayout] = LruCache(2)
        self._orders: LruCache[np.ndarray] = LruCache(KEPT_BLOCKS)
        self._groups: LruCache[np.ndarray] = LruCache(KEPT_BLOCKS)

    def group(self, position: int) -> np.ndarray:
        """Index rows of one group, int `[size]`."""
        epoch, block, place = self._locate(position)
        return self._groups.get((epoch, block), lambda: self._cut(epoch, block))[place]

    def block_rows(self, position: int) -> np.ndarray:
        """Index rows of the block that a group belongs to, in its order."""
        epoch, block, _ = self._locate(position)
        return self._order(epoch, block)

    def block(self, position: int) -> tuple[int, int]:
        """Epoch and block of a group."""
        return self._locate(position)[:2]

    def shards(self, epoch: int, block: int) -> np.ndarray:
        """The shards of a block, and of the one before where its last samples are needed too."""
        layout = self._layout(epoch)
        own = layout.shards(block)
        return np.r_[own, layout.shards(block - 1)] if layout.samples[block] % self.size else own

    def after(self, epoch: int, block: int) -> tuple[int, int]:
        """The block that follows."""
        return (epoch, block + 1) if block + 1 < self._layout(epoch).blocks else (epoch + 1, 0)

    def _locate(self, position: int) -> tuple[int, int, int]:
        epoch, group = divmod(position, self.groups_per_epoch)
        layout = self._layout(epoch)
        block = layout.block_of(group, self.size)
        return epoch, block, group - layout.first_group(block, self.size)

    def _layout(self, epoch: int) -> EpochLayout:
        config = self.config
        return self._layouts.get(
            epoch,
            lambda: epoch_layout(
                self.samples.counts.usable,
                seed=config.seed,
                epoch=epoch,
                size=self.size,
                block_shards=config.block_shards,
                shuffle=config.shuffle,
            ),
        )

    def _order(self, epoch: int, block: int) -> np.ndarray:
        return self._orders.get((epoch, block), lambda: self._permute(epoch, block))

    def _permute(self, epoch: int, block: int) -> np.ndarray:
        found = []
        for shard in self._layout(epoch).shards(block).tolist():
            found.append(self.samples.of_shard(shard))
            if len(found) % SHARDS_BETWEEN_RELEASES == 0:
                self.samples.index.release_pages()
        rows = np.concatenate(found)
        if not self.config.shuffle:
            return rows
        return generator(BLOCK_ORDER, self.config.seed, epoch, block).permutation(rows)

    def _cut(self, epoch: int, block: int) -> np.ndarray:
        """All groups of a block, int `[groups, size]`.

        Samples that do not fill a last group go to the next block, so that each comes once an epoch. They are the last
        of the block's own order: the block before needs not be cut to know them.
        """
        before, end = (int(n) for n in self._layout(epoch).samples[block : block + 2])
        last = block + 1 == self._layout(epoch).blocks
        order = self._order(epoch, block)
        order = order[: len(order) - (0 if last else end % self.size)]
        if before % self.size:
            order = np.r_[self._order(epoch, block - 1)[-(before % self.size) :], order]
        groups = groups_of_different(order, self.samples.index.codes("source", order), self.size)
        for place in np.flatnonzero((groups < 0).any(1)).tolist():
            self._complete(groups[place], epoch, before // self.size + place)
        return groups

    def _complete(self, group: np.ndarray, epoch: int, place: int) -> None:
        """Fill empty places from the whole corpus: the block is of fewer sources than a group."""
        rng = generator(PARTNERS, self.config.seed, epoch * self.groups_per_epoch + place)
        for slot in np.flatnonzero(group < 0).tolist():
            present = {self.samples.source(row) for row in group if row >= 0}
            group[slot] = self.samples.draw_unlike(rng, present)


class Groups(abc.ABC):
    """What a mixture is made of, by position."""

    order: BlockOrder

    @abc.abstractmethod
    def group(self, position: int) -> np.ndarray:
        """Index rows of one group, int `[sources]`."""


class AdjacentGroups(Groups):
    """An epoch is a permutation cut into groups."""

    def __init__(self, samples: UsableSamples, config: StreamConfig, size: int) -> None:
        self.order = BlockOrder(samples, config, size)

    def group(self, position: int) -> np.ndarray:
        return self.order.group(position)


class RandomGroups(Groups):
    """Each sample of an epoch once, and with it others drawn from all of the corpus (Sound of Pixels, CLIPSep)."""

    def __init__(self, samples: UsableSamples, config: StreamConfig, size: int) -> None:
        self.order = BlockOrder(samples, config, 1)
        self._size = size

    def group(self, position: int) -> np.ndarray:
        rows = self.order.group(position).tolist()
        samples, config = self.order.samples, self.order.config
        rng = generator(PARTNERS, config.seed, position)
        while len(rows) < self._size:
            sources = () if config.same_source else {samples.source(row) for row in rows}
            rows.append(samples.draw_unlike(rng, sources, rows))
        return np.asarray(rows, np.int64)


class DissimilarGroups(Groups):
    """Each sample of an epoch once, and with it what looks least like it among some drawn from its block."""

    def __init__(self, samples: UsableSamples, config: StreamConfig, size: int, vectors: Vectors) -> None:
        self.order = BlockOrder(samples, config, 1)
        self._size = size
        self._vectors = vectors
        self._looks: LruCache[np.ndarray] = LruCache(KEPT_VECTORS)

    def group(self, position: int) -> np.ndarray:
        rows = self.order.group(position).tolist()
        samples, config = self.order.samples, self.order.config
        rng = generator(PARTNERS, config.seed, position)
        block = self.order.block_rows(position)
        while len(rows) < self._size:
            present = {samples.source(row) for row in rows}
            drawn = block[rng.integers(len(block), size=config.distant_candidates)].tolist()
            candidates = [row for row in dict.fromkeys(drawn) if samples.source(row) not in present]
            if candidates:
                rows.append(min(candidates, key=lambda row: self._closest(row, rows)))
            else:
                rows.append(samples.draw_unlike(rng, present, rows))
        return np.asarray(rows, np.int64)

    def _closest(self, row: int, others: list[int]) -> float:
        """The highest cosine similarity to any of the others; what cannot be read is like everything."""
        look = self._look(row)
        return max(float(look @ self._look(other)) for other in others) if look.any() else 1.0

    def _look(self, row: int) -> np.ndarray:
        """The mean of a sample's CLIP vectors, of length 1; zeros where they cannot be read."""
        return self._looks.get(row, lambda: self._mean(row))

    def _mean(self, row: int) -> np.ndarray:
        vectors = self._vectors(row)
        if vectors is None:
            return np.zeros(self.order.samples.index.dimensions, np.float32)
        mean = vectors.astype(np.float32).mean(0)
        return mean / max(float(np.linalg.norm(mean)), 1e-12)


def make_groups(samples: UsableSamples, config: StreamConfig, size: int, vectors: Vectors) -> Groups:
    """The rule that the configuration names; a group of one needs none."""
    if size == 1 or config.partners == "neighbours":
        return AdjacentGroups(samples, config, size)
    if config.partners == "uniform":
        return RandomGroups(samples, config, size)
    return DissimilarGroups(samples, config, size, vectors)
