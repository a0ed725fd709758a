"""Order: every epoch a permutation of its own, cut into groups of different sources with nothing left out."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest

from vidaudio.stream.order import epoch_order, generator, group_count, groups_of_different

SHARDS = np.repeat(np.arange(23), np.random.default_rng(0).integers(1, 9, 23))


@pytest.mark.parametrize("block_shards", [1, 4, 100])
def test_an_epoch_is_a_permutation_that_depends_on_seed_and_epoch_only(block_shards: int):
    orders = {
        (seed, epoch): epoch_order(SHARDS, seed=seed, epoch=epoch, block_shards=block_shards)
        for seed in (0, 1)
        for epoch in (0, 1, 2)
    }
    for (seed, epoch), order in orders.items():
        assert np.array_equal(np.sort(order), np.arange(len(SHARDS)))
        assert np.array_equal(order, epoch_order(SHARDS, seed=seed, epoch=epoch, block_shards=block_shards))
    assert len({order.tobytes() for order in orders.values()}) == len(orders)


def test_a_block_reads_from_few_shards_at_a_time_and_shards_change_neighbours():
    blocks = []
    for epoch in range(2):
        order = epoch_order(SHARDS, seed=0, epoch=epoch, block_shards=4)
        visited = SHARDS[order]
        firsts = {shard: int(np.flatnonzero(visited == shard)[0]) for shard in np.unique(visited)}
        lasts = {shard: int(np.flatnonzero(visited == shard)[-1]) for shard in np.unique(visited)}
        for place in range(len(visited)):
            assert sum(firsts[s] <= place <= lasts[s] for s in firsts) <= 4
        blocks.append({frozenset(visited[max(0, p - 1) : p + 2].tolist()) for p in range(len(visited))})
    assert blocks[0] != blocks[1]


def test_samples_move_over_the_whole_epoch():
    places = np.array([np.argsort(epoch_order(SHARDS, seed=5, epoch=e, block_shards=4)) for e in range(200)])
    means = places.mean(0) / len(SHARDS)
    assert means.min() > 0.35
    assert means.max() < 0.65


def test_without_shuffling_the_packed_order_stands():
    assert epoch_order(SHARDS, seed=3, epoch=1, shuffle=False).tolist() == list(range(len(SHARDS)))


def test_generators_depend_on_every_number_given():
    draws = {generator(*key).random() for key in itertools.product((0, 1, 2), (0, 1), (0, 5))}
    assert len(draws) == 12
    assert generator(1, 2).random() == generator(1, 2).random()


def distributions() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "all different": np.arange(101),
        "few a source": np.repeat(np.arange(40), rng.integers(1, 6, 40)),
        "one dominates": np.r_[np.zeros(80, int), 1 + np.arange(30)],
        "one dominates far": np.r_[np.zeros(300, int), 1, 2, 3, 3],
        "two dominate": np.r_[np.zeros(60, int), np.ones(55, int), 2 + np.arange(10)],
        "three equal": np.repeat(np.arange(3), 7),
        "as many sources as needed": np.repeat(np.arange(4), [9, 1, 2, 5]),
    }


@pytest.mark.parametrize("name", distributions())
@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(4))
def test_groups_hold_every_sample_in_as_few_groups_as_can_be(name: str, size: int, seed: int):
    sources = distributions()[name]
    if len(np.unique(sources)) < size:
        return
    order = np.random.default_rng(seed).permutation(len(sources))
    groups = groups_of_different(order, sources, size)
    assert all(len(set(sources[group].tolist())) == size for group in groups)
    assert set(groups.ravel().tolist()) == set(range(len(sources)))
    most = max(Counter(sources.tolist()).values())
    fewest = max(math.ceil(len(sources) / size), most)
    assert len(groups) == group_count(sources, size) == fewest
    assert np.array_equal(groups, groups_of_different(order, sources, size))
    if size * fewest == len(sources):
        assert sorted(groups.ravel().tolist()) == list(range(len(sources)))


def test_groups_are_made_of_neighbours_where_sources_allow():
    sources = np.arange(1000) // 2
    order = epoch_order(np.arange(1000) // 50, seed=0, epoch=0, block_shards=4)
    places = np.argsort(order)
    groups = groups_of_different(order, sources, 2)
    distances = np.abs(places[groups[:, 0]] - places[groups[:, 1]])
    assert np.mean(distances <= 2) > 0.95


def test_too_few_sources_are_refused():
    with pytest.raises(ValueError, match="at least 3 sources"):
        groups_of_different(np.arange(6), np.array([0, 0, 0, 1, 1, 1]), 3)


def test_a_large_corpus_with_one_large_source_is_grouped_whole():
    """More groups stay open than a sample looks at."""
    sources = np.r_[np.zeros(30_000, int), 1 + np.arange(20_000)]
    order = np.random.default_rng(0).permutation(len(sources))
    groups = groups_of_different(order, sources, 2)
    assert len(groups) == 30_000
    assert set(groups.ravel().tolist()) == set(range(50_000))
