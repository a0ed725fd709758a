"""Order: which samples follow each other in an epoch. A pure function of seed, epoch and position.

Shards are permuted, blocks of consecutive shards are gathered, and samples are permuted inside a block: reads stay near
each other while neighbours change every epoch. `pack` has shuffled over the whole corpus already.
"""

from __future__ import annotations

import itertools

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
    """Cut an order into groups of `size` whose sources all differ; int `[ceil(samples / size), size]`.

    Every sample is used once; the places that are left over in the last group, or that no waiting sample of another
    source can fill, are taken by earlier samples of the same epoch.

    Args:
        order: Positions, each once.
        sources: Code of the source of each position, int `[samples]`.
        size: Sources a mixture.

    Raises:
        ValueError: There are fewer different sources than `size`.
    """
    if len(np.unique(sources)) < size:
        raise ValueError(f"mixtures of {size} different sources need at least {size} sources")
    groups: list[list[int]] = []
    open_groups: list[list[int]] = []
    for position in order.tolist():
        source = sources[position]
        # The oldest open group without this source: nearly always the first, so neighbours stay together.
        for group in open_groups[:MAX_OPEN_LOOKED_AT]:
            if all(sources[member] != source for member in group):
                group.append(position)
                break
        else:
            group = [position]
            open_groups.append(group)
        if len(group) == size:
            open_groups.remove(group)
            groups.append(group)
    refill = itertools.cycle(order.tolist())
    for group in open_groups:
        while len(group) < size:
            position = next(refill)
            if all(sources[member] != sources[position] for member in group):
                group.append(position)
        groups.append(group)
    return np.asarray(groups, int).reshape(-1, size)
