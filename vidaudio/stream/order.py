"""Order: which samples follow each other in an epoch. A pure function of seed, epoch and position.

Shards are permuted, blocks of consecutive shards are gathered, and samples are permuted inside a block: reads stay near
each other while neighbours change every epoch. `pack` has shuffled over the whole corpus already.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np

DEFAULT_BLOCK_SHARDS = 16
# Keeps the grouping linear where one source fills most of a corpus.
MAX_OPEN_LOOKED_AT = 64


def generator(*key: int) -> np.random.Generator:
    """A random generator that depends on nothing but the numbers given."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))


def epoch_order(
    shards: np.ndarray, *, seed: int, epoch: int, block_shards: int = DEFAULT_BLOCK_SHARDS, shuffle: bool = True
) -> np.ndarray:
    """Positions `0 .. len(shards) - 1`, each once, in the order of one epoch.

    Args:
        shards: Shard number of each position, int `[samples]`, non-decreasing.
        seed: Of the run.
        epoch: 0, 1, 2 ...
        block_shards: Shards mixed with one another.
        shuffle: False leaves packed order.
    """
    if not shuffle:
        return np.arange(len(shards))
    rng = generator(seed, epoch)
    numbers, starts = np.unique(shards, return_index=True)
    ends = np.r_[starts[1:], len(shards)]
    turn = rng.permutation(len(numbers))
    blocks = []
    for first in range(0, len(turn), block_shards):
        block = np.concatenate([np.arange(starts[n], ends[n]) for n in turn[first : first + block_shards]])
        blocks.append(rng.permutation(block))
    return np.concatenate(blocks) if blocks else np.zeros(0, int)


def groups_of_different(order: np.ndarray, sources: np.ndarray, size: int) -> np.ndarray:
    """Cut an order into groups of `size` whose sources all differ; int `[group_count(sources, size), size]`.

    Every sample is used once; places that are left over, in the last group or because one source has most samples, are
    taken by earlier samples of the same epoch. How many groups there are does not depend on the order, so that every
    epoch is as long.

    Args:
        order: Positions, each once.
        sources: Code of the source of each position, int `[samples]`.
        size: Sources a mixture.

    Raises:
        ValueError: There are fewer different sources than `size`.
    """
    if len(np.unique(sources)) < size:
        raise ValueError(f"mixtures of {size} different sources need at least {size} sources")
    codes = sources.tolist()
    groups, loose = _neighbours(order.tolist(), codes, size)
    _loosen(groups, loose, codes, size, wanted=group_count(sources, size))
    # Dealing out what is sorted by source puts a source into a group twice only where there are too few groups.
    loose.sort(key=codes.__getitem__)
    dealt = group_count(sources[loose], size)
    refill = itertools.cycle(order.tolist())
    for first in range(dealt):
        group = loose[first::dealt]
        while len(group) < size:
            position = next(refill)
            if all(codes[member] != codes[position] for member in group):
                group.append(position)
        groups.append(group)
    return np.asarray(groups, int).reshape(-1, size)


def group_count(sources: np.ndarray, size: int) -> int:
    """The fewest groups of `size` different sources that hold every sample."""
    if len(sources) == 0:
        return 0
    return max(math.ceil(len(sources) / size), int(np.unique(sources, return_counts=True)[1].max()))


def _neighbours(order: list[int], codes: list[int], size: int) -> tuple[list[list[int]], list[int]]:
    """Full groups of samples near each other in the order, and the samples that found no company."""
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
    """Take groups apart, the last first, until what is loose can be dealt into no more than `wanted` groups in all."""
    if not loose:
        return
    counts = Counter(codes[position] for position in loose)
    crowd, most = counts.most_common(1)[0]
    for others_only in (True, False):
        # Groups without the source that is left over help; the rest only where that was not enough.
        for place in reversed(range(len(groups))):
            if len(groups) + max(math.ceil(len(loose) / size), most) <= wanted:
                return
            if others_only and any(codes[member] == crowd for member in groups[place]):
                continue
            for position in groups.pop(place):
                loose.append(position)
                counts[codes[position]] += 1
                most = max(most, counts[codes[position]])
