"""Order: which samples follow each other in an epoch, as a pure function of seed, epoch and position.

Shards are permuted, consecutive shards are grouped in blocks, and samples are permuted inside a block. So reads stay
near each other, neighbours change every epoch, and a position is found by computing its block alone. `pack` has already
shuffled over the whole corpus.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import dataclass

import numpy as np

DEFAULT_BLOCK_SHARDS = 16
# A block with fewer samples than this per source of a mixture takes further shards: a few samples cannot be grouped.
LEAST_SAMPLES_A_SOURCE = 8
# Keeps the grouping linear where one source fills most of a block.
MAX_OPEN_LOOKED_AT = 64

# Purposes of random numbers: the first number of every generator's key, so that no two uses share their draws.
SHARD_ORDER, BLOCK_ORDER, WINDOWS, PARTNERS, SPARES, CORPORA, TEXTS, WEIGHTS = range(1, 9)


def generator(purpose: int, seed: int, first: int, second: int = 0) -> np.random.Generator:
    """Return a random generator that depends on the given numbers only."""
    # Always four numbers: NumPy pads short keys with zeros, so (1, 2) would equal (1, 2, 0).
    return np.random.Generator(np.random.Philox(np.random.SeedSequence((purpose, seed, first, second))))


@dataclass(frozen=True)
class EpochLayout:
    """The blocks of one epoch.

    Attributes:
        shard_order: Shards with usable samples, in the order of the epoch, int `[shards]`.
        edges: Where in `shard_order` the blocks begin, and where the last one ends, int `[blocks + 1]`.
        samples: Number of samples before each block, and of all samples, int `[blocks + 1]`.
    """

    shard_order: np.ndarray
    edges: np.ndarray
    samples: np.ndarray

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return len(self.edges) - 1

    def shards(self, block: int) -> np.ndarray:
        """Return the shards of a block, in the order of the epoch."""
        return self.shard_order[self.edges[block] : self.edges[block + 1]]

    def first_group(self, block: int, size: int) -> int:
        """Return the number of a block's first group in the epoch; for `block == blocks`, of all groups in the epoch.

        Groups are cut from the whole epoch, and a group belongs to the block in which it ends. Only the last group of
        the epoch may be incomplete.
        """
        samples = int(self.samples[block])
        return math.ceil(samples / size) if block == self.blocks else samples // size

    def block_of(self, group: int, size: int) -> int:
        """Return the block that a group of the epoch belongs to."""
        firsts = self.samples[:-1] // size
        return int(np.searchsorted(firsts, group, side="right")) - 1


def epoch_layout(
    usable: np.ndarray,
    *,
    seed: int,
    epoch: int,
    size: int = 1,
    block_shards: int = DEFAULT_BLOCK_SHARDS,
    shuffle: bool = True,
) -> EpochLayout:
    """Permute the shards and cut them into blocks.

    A block is closed when it has `block_shards` shards and enough samples for groups; a remainder with too few samples
    joins the block before it.

    Args:
        usable: Number of usable samples of each shard, int `[shards]`.
        seed: Seed of the run.
        epoch: Number of the epoch, from 0.
        size: Number of sources in a mixture.
        block_shards: Number of shards that are mixed with one another.
        shuffle: False keeps the order of the shards.
    """
    shard_order = np.flatnonzero(usable)
    if shuffle:
        shard_order = generator(SHARD_ORDER, seed, epoch).permutation(shard_order)
    least = LEAST_SAMPLES_A_SOURCE * size
    edges, before, here, shards = [0], [0], 0, 0
    for place, count in enumerate(usable[shard_order].tolist()):
        here, shards = here + count, shards + 1
        if shards >= block_shards and here >= least:
            edges.append(place + 1)
            before.append(before[-1] + here)
            here, shards = 0, 0
    if shards and (here >= least or len(edges) == 1):
        edges.append(len(shard_order))
        before.append(before[-1] + here)
    elif shards:
        edges[-1] = len(shard_order)
        before[-1] += here
    return EpochLayout(shard_order, np.asarray(edges, np.int64), np.asarray(before, np.int64))


def groups_of_different(order: np.ndarray, sources: np.ndarray, size: int) -> np.ndarray:
    """Cut an order into `ceil(samples / size)` groups whose sources all differ, int `[groups, size]`.

    Every sample is in one group, next to its neighbours as far as their sources allow. Places left over in the last
    group are filled with earlier samples. If a source has more samples than there are groups, its surplus last samples
    are left out, and other samples come twice. If there are fewer sources than `size`, places stay empty.

    Args:
        order: Samples, each once, int `[samples]`.
        sources: Source code of the sample at each place of `order`, int `[samples]`.
        size: Number of sources in a mixture.

    Returns:
        Members of `order`; -1 in empty places.
    """
    if size == 1 or not len(order):
        return order.reshape(-1, size)
    wanted = math.ceil(len(order) / size)
    codes = sources.tolist()
    groups, loose = _neighbours(_without_surplus(codes, wanted), codes, size)
    _loosen(groups, loose, codes, size, wanted=wanted)
    # Dealing samples sorted by source puts a source into a group twice only if there are too few groups.
    loose.sort(key=codes.__getitem__)
    dealt = wanted - len(groups)
    several = len(set(codes)) >= size
    refill = itertools.cycle(range(len(codes)))
    for first in range(dealt):
        group = loose[first::dealt]
        while several and len(group) < size:
            place = next(refill)
            if all(codes[member] != codes[place] for member in group):
                group.append(place)
        groups.append(group + [-1] * (size - len(group)))
    places = np.asarray(groups, np.int64).reshape(-1, size)
    return np.where(places < 0, -1, order[places])


def _without_surplus(codes: list[int], groups: int) -> list[int]:
    """Return the places in order, without the last ones of each source that has more places than there are groups."""
    left = Counter({code: groups for code, count in Counter(codes).items() if count > groups})
    if not left:
        return list(range(len(codes)))
    kept = []
    for place, code in enumerate(codes):
        if code in left:
            if not left[code]:
                continue
            left[code] -= 1
        kept.append(place)
    return kept


def _neighbours(order: list[int], codes: list[int], size: int) -> tuple[list[list[int]], list[int]]:
    """Return full groups of samples near each other in the order, and the samples that fitted into no full group."""
    groups: list[list[int]] = []
    open_groups: list[list[int]] = []
    for position in order:
        source = codes[position]
        # The oldest open group without this source: nearly always the first, so neighbours stay together.
        for group in open_groups[:MAX_OPEN_LOOKED_AT]:
            if all(codes[member] != source for member in group):
                group.append(position)
                break
        else:
            group = [position]
            open_groups.append(group)
        if len(group) == size:
            open_groups.remove(group)
            groups.append(group)
    return groups, [position for group in open_groups for position in group]


def _loosen(groups: list[list[int]], loose: list[int], codes: list[int], size: int, *, wanted: int) -> None:
    """Break up groups, the last first, until dealing the loose samples gives at most `wanted` groups in all."""
    if not loose:
        return
    counts = Counter(codes[position] for position in loose)
    crowd, most = counts.most_common(1)[0]
    for others_only in (True, False):
        # First break up groups without the most frequent loose source; others only if that is not enough.
        for place in reversed(range(len(groups))):
            if len(groups) + max(math.ceil(len(loose) / size), most) <= wanted:
                return
            if others_only and any(codes[member] == crowd for member in groups[place]):
                continue
            for position in groups.pop(place):
                loose.append(position)
                counts[codes[position]] += 1
                most = max(most, counts[codes[position]])
