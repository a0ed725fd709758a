"""Groups: which samples are mixed with one another.

Each group is a pure function of the seed and of the group's position, and is computed without the groups before it. A
position counts groups from the first of the run, across epochs. Three rules define a group, see
`StreamConfig.partners`; all of them use the same block shuffle.
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
# Reading a shard's rows maps the pages around them, up to a megabyte per column on some systems.
SHARDS_BETWEEN_RELEASES = 4

Vectors = Callable[[int], np.ndarray]


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
        """Return the index rows of one group, int `[size]`."""
        epoch, block, place = self._locate(position)
        return self._groups.get((epoch, block), lambda: self._cut(epoch, block))[place]

    def block_rows(self, position: int) -> np.ndarray:
        """Return the index rows of the block that a group belongs to, in the block's order."""
        epoch, block, _ = self._locate(position)
        return self._order(epoch, block)

    def block(self, position: int) -> tuple[int, int]:
        """Return the epoch and the block of a group."""
        return self._locate(position)[:2]

    def shards(self, epoch: int, block: int) -> np.ndarray:
        """Return the shards of a block, and those of the block before if its last samples are needed too."""
        layout = self._layout(epoch)
        own = layout.shards(block)
        return np.r_[own, layout.shards(block - 1)] if layout.samples[block] % self.size else own

    def after(self, epoch: int, block: int) -> tuple[int, int]:
        """Return the epoch and the number of the block that follows."""
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
                self.samples.draws(epoch),
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
            found.append(self.samples.drawn(shard, epoch))
            if len(found) % SHARDS_BETWEEN_RELEASES == 0:
                self.samples.index.release_pages()
        rows = np.concatenate(found)
        if not self.config.shuffle:
            return rows
        return generator(BLOCK_ORDER, self.config.seed, epoch, block).permutation(rows)

    def _cut(self, epoch: int, block: int) -> np.ndarray:
        """Return all groups of a block, int `[groups, size]`.

        Samples that do not fill a last group go to the next block, so that each draw comes once in an epoch. They are
        the last samples of the block's own order, so they are known without cutting the block before into groups.
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
        """Fill a group's empty places from the whole corpus.

        Places are empty if the block has fewer sources than a group needs.
        """
        rng = generator(PARTNERS, self.config.seed, epoch * self.groups_per_epoch + place)
        for slot in np.flatnonzero(group < 0).tolist():
            present = {self.samples.source(row) for row in group if row >= 0}
            group[slot] = self.samples.draw_unlike(rng, present)


class Groups(abc.ABC):
    """The samples of each mixture, by position."""

    order: BlockOrder

    @abc.abstractmethod
    def group(self, position: int) -> np.ndarray:
        """Return the index rows of one group, int `[sources]`."""


class AdjacentGroups(Groups):
    """Groups that are cut from a permutation of the epoch's samples."""

    def __init__(self, samples: UsableSamples, config: StreamConfig, size: int) -> None:
        self.order = BlockOrder(samples, config, size)

    def group(self, position: int) -> np.ndarray:
        """Return the index rows of one group, int `[size]`."""
        return self.order.group(position)


class RandomGroups(Groups):
    """Groups of one sample and others drawn from the whole corpus (Sound of Pixels, CLIPSep).

    Each sample of an epoch comes first in one group.
    """

    def __init__(self, samples: UsableSamples, config: StreamConfig, size: int) -> None:
        self.order = BlockOrder(samples, config, 1)
        self._size = size

    def group(self, position: int) -> np.ndarray:
        """Return the index rows of one group, int `[size]`."""
        rows = self.order.group(position).tolist()
        samples, config = self.order.samples, self.order.config
        rng = generator(PARTNERS, config.seed, position)
        while len(rows) < self._size:
            taken = () if config.same_source else set().union(*(samples.exclusive(row) for row in rows))
            rows.append(samples.draw_unlike(rng, taken, rows))
        return np.asarray(rows, np.int64)


class DissimilarGroups(Groups):
    """Groups of one sample and others of its block whose pictures are least similar.

    Each sample of an epoch comes first in one group. Each partner is the least similar of some samples drawn from the
    block.
    """

    def __init__(self, samples: UsableSamples, config: StreamConfig, size: int, vectors: Vectors) -> None:
        self.order = BlockOrder(samples, config, 1)
        self._size = size
        self._vectors = vectors
        self._looks: LruCache[np.ndarray] = LruCache(KEPT_VECTORS)

    def group(self, position: int) -> np.ndarray:
        """Return the index rows of one group, int `[size]`."""
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
        """Return the highest cosine similarity to any of the others; 1 if the row's vectors cannot be read."""
        look = self._look(row)
        return max(float(look @ self._look(other)) for other in others) if look.any() else 1.0

    def _look(self, row: int) -> np.ndarray:
        """Return the mean of a sample's CLIP vectors, scaled to length 1; zeros if they cannot be read."""
        return self._looks.get(row, lambda: self._mean(row))

    def _mean(self, row: int) -> np.ndarray:
        mean = self._vectors(row).astype(np.float32).mean(0)
        return mean / max(float(np.linalg.norm(mean)), 1e-12)


def make_groups(samples: UsableSamples, config: StreamConfig, size: int, vectors: Vectors) -> Groups:
    """Return the groups that `config.partners` asks for; groups of one sample are always `AdjacentGroups`.

    `vectors` returns the vectors of the pictures of an index row; zeros if they cannot be read.
    """
    if size == 1 or config.partners == "neighbours":
        return AdjacentGroups(samples, config, size)
    if config.partners == "uniform":
        return RandomGroups(samples, config, size)
    return DissimilarGroups(samples, config, size, vectors)
