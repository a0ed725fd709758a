"""Order: every epoch a permutation of its own, cut into groups of different sources, each position found alone."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.stream.synthetic import write_synthetic
from vidaudio.stream import MixtureStream, StreamConfig, WindowShape
from vidaudio.stream.groups import BlockOrder
from vidaudio.stream.order import epoch_layout, generator, groups_of_different

SHAPE = WindowShape(frames=3, samples=16_000)
SHARD_ROWS = np.random.default_rng(0).integers(1, 9, 23)
SAMPLES = int(SHARD_ROWS.sum())
SHARD_OF = np.repeat(np.arange(23), SHARD_ROWS)


def order_of(folder: Path, size: int = 1, **how: object) -> BlockOrder:
    config = StreamConfig(sources=size, shape=SHAPE, batch_size=1, **how)
    return MixtureStream(str(folder), config).corpora[0].groups.order


@pytest.fixture(scope="module")
def different(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sample a source, in 23 shards."""
    return write_synthetic(tmp_path_factory.mktemp("different"), np.arange(SAMPLES), SHARD_ROWS)


def epoch(order: BlockOrder, number: int) -> np.ndarray:
    groups = order.groups_per_epoch
    return np.stack([order.group(position) for position in range(number * groups, (number + 1) * groups)])


@pytest.mark.parametrize("block_shards", [1, 4, 100])
def test_an_epoch_is_a_permutation_that_depends_on_seed_and_epoch_only(different: Path, block_shards: int):
    orders = {
        (seed, number): epoch(order_of(different, seed=seed, block_shards=block_shards), number)
        for seed in (0, 1)
        for number in (0, 1, 2)
    }
    for (seed, number), found in orders.items():
        assert np.array_equal(np.sort(found.ravel()), np.arange(SAMPLES))
        again = order_of(different, seed=seed, block_shards=block_shards)
        assert np.array_equal(found, epoch(again, number))
    assert len({found.tobytes() for found in orders.values()}) == len(orders)


def test_a_block_reads_from_few_shards_at_a_time_and_shards_change_neighbours(different: Path):
    order = order_of(different, block_shards=4)
    blocks = []
    for number in range(2):
        visited = SHARD_OF[epoch(order, number).ravel()]
        places = {shard: np.flatnonzero(visited == shard) for shard in range(23)}
        open_at = [sum(p[0] <= place <= p[-1] for p in places.values()) for place in range(SAMPLES)]
        assert max(open_at) <= 7
        blocks.append({frozenset(visited[max(0, p - 1) : p + 2].tolist()) for p in range(SAMPLES)})
    assert blocks[0] != blocks[1]


def test_samples_move_over_the_whole_epoch(different: Path):
    order = order_of(different, block_shards=4, seed=5)
    places = np.array([np.argsort(epoch(order, number).ravel()) for number in range(200)])
    means = places.mean(0) / SAMPLES
    assert means.min() > 0.35
    assert means.max() < 0.65


def test_without_shuffling_the_packed_order_stands(different: Path):
    assert epoch(order_of(different, shuffle=False), 1).ravel().tolist() == list(range(SAMPLES))


def test_generators_depend_on_every_number_given():
    draws = {generator(*key).random() for key in itertools.product((1, 2, 3), (0, 1, 2), (0, 1), (0, 5))}
    assert len(draws) == 36
    assert generator(1, 2, 3).random() == generator(1, 2, 3).random()


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("block_shards", [1, 3, 16])
def test_blocks_hold_each_shard_once_and_know_their_groups(size: int, block_shards: int):
    usable = np.random.default_rng(1).integers(0, 30, 40)
    for number in range(20):
        layout = epoch_layout(usable, seed=3, epoch=number, size=size, block_shards=block_shards)
        assert sorted(layout.shard_order.tolist()) == np.flatnonzero(usable).tolist()
        shards = [layout.shards(block) for block in range(layout.blocks)]
        assert np.array_equal(np.concatenate(shards), layout.shard_order)
        assert np.array_equal(np.diff(layout.samples), [usable[each].sum() for each in shards])
        assert min(np.diff(layout.samples)) >= 8 * size
        firsts = [layout.first_group(block, size) for block in range(layout.blocks + 1)]
        assert firsts[-1] == math.ceil(usable.sum() / size)
        for group in range(firsts[-1]):
            block = layout.block_of(group, size)
            assert firsts[block] <= group < firsts[block + 1]


def distributions() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "all different": np.arange(101),
        "few a source": np.repeat(np.arange(40), rng.integers(1, 6, 40)),
        "one has just as many as there are groups": np.r_[np.zeros(20, int), 1 + np.arange(20)],
        "three equal": np.repeat(np.arange(3), 7),
        "one dominates": np.r_[np.zeros(80, int), 1 + np.arange(30)],
        "one dominates far": np.r_[np.zeros(300, int), 1, 2, 3, 3],
        "two dominate": np.r_[np.zeros(60, int), np.ones(55, int), 2 + np.arange(10)],
        "some have too many": np.repeat(np.arange(4), [9, 1, 2, 5]),
        "one alone": np.zeros(12, int),
    }


@pytest.mark.parametrize("name", distributions())
@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(4))
def test_groups_hold_every_sample_once_where_its_source_has_room(name: str, size: int, seed: int):
    sources = distributions()[name]
    order = np.random.default_rng(seed).permutation(len(sources))
    groups = groups_of_different(order, sources[order], size)
    wanted = math.ceil(len(sources) / size)
    assert groups.shape == (wanted, size)
    assert np.array_equal(groups, groups_of_different(order, sources[order], size))
    shown = Counter(groups[groups >= 0].tolist())
    for group in groups:
        present = sources[group[group >= 0]].tolist()
        assert len(set(present)) == len(present)
    if len(np.unique(sources)) >= size:
        assert (groups >= 0).all()
    counts = Counter(sources.tolist())
    seen = Counter(sources[sample] for sample in shown)
    assert seen == {source: min(count, wanted) for source, count in counts.items()}
    if max(counts.values()) <= wanted:
        repeated = sum(shown.values()) - len(sources)
        assert repeated == wanted * size - len(sources) < size


def test_groups_are_made_of_neighbours_where_sources_allow():
    sources = np.arange(1000) // 2
    order = np.random.default_rng(0).permutation(1000)
    places = np.argsort(order)
    groups = groups_of_different(order, sources[order], 2)
    distances = np.abs(places[groups[:, 0]] - places[groups[:, 1]])
    assert np.mean(distances <= 2) > 0.95


def test_a_large_block_with_one_large_source_is_grouped_whole():
    """More groups stay open than a sample looks at."""
    sources = np.r_[np.zeros(20_000, int), 1 + np.arange(20_000)]
    order = np.random.default_rng(0).permutation(len(sources))
    groups = groups_of_different(order, sources[order], 2)
    assert sorted(groups.ravel().tolist()) == list(range(40_000))


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Up to five samples a source, some of them unusable, shards of one to forty samples."""
    rng = np.random.default_rng(2)
    shard_rows = rng.integers(1, 41, 30)
    sources = np.sort(rng.integers(0, shard_rows.sum() // 3, shard_rows.sum()))
    sources = rng.permutation(sources)
    unusable = rng.choice(len(sources), 37, replace=False).tolist()
    return write_synthetic(tmp_path_factory.mktemp("several"), sources, shard_rows, unusable=unusable)


class TestGroupsOfAnEpoch:
    @pytest.mark.parametrize("size", [2, 3, 5])
    @pytest.mark.parametrize("block_shards", [1, 4, 16])
    def test_each_usable_sample_comes_once_and_no_source_twice_in_a_group(self, several, size, block_shards):
        config = StreamConfig(sources=size, shape=SHAPE, batch_size=7, block_shards=block_shards)
        stream = MixtureStream(str(several), config)
        sources, usable = stream.index.codes("source"), stream.windows.usable
        assert len(usable) == len(stream.index) - 37 == len(stream.index) - stream.too_short
        order = stream.corpora[0].groups.order
        for number in range(3):
            groups = epoch(order, number)
            assert len(groups) == math.ceil(len(usable) / size)
            assert all(len(set(sources[group].tolist())) == size for group in groups)
            counts = Counter(groups.ravel().tolist())
            assert sorted(counts) == usable.tolist()
            assert sum(counts.values()) - len(usable) < size

    @pytest.mark.parametrize("partners", ["neighbours", "uniform"])
    def test_any_position_alone_is_the_same_as_in_turn(self, several, partners):
        config = StreamConfig(sources=3, shape=SHAPE, batch_size=7, block_shards=2, partners=partners)
        stream = MixtureStream(str(several), config)
        steps = 2 * stream.batches_per_epoch + 3
        in_turn = [stream.rows(step) for step in range(steps)]
        for step in np.random.default_rng(0).choice(steps, 12, replace=False).tolist():
            assert np.array_equal(MixtureStream(str(several), config).rows(step), in_turn[step])

    def test_a_split_is_ordered_as_if_it_were_alone(self, several, tmp_path):
        sources = np.arange(SAMPLES)
        both = write_synthetic(tmp_path / "both", sources, SHARD_ROWS, splits=2)
        stream = MixtureStream(str(both), StreamConfig(split="split1", shape=SHAPE, batch_size=4, block_shards=2))
        rows = epoch(stream.corpora[0].groups.order, 0)
        assert sorted(set(rows.ravel().tolist())) == list(range(len(stream.index)))
        assert set(stream.index.table["split"].to_pylist()) == {"split1"}

    def test_where_blocks_are_of_one_source_partners_come_from_elsewhere(self, tmp_path):
        """Shards of one source each, read one at a time."""
        folder = write_synthetic(tmp_path, np.repeat(np.arange(5), 40), [40] * 5)
        stream = MixtureStream(str(folder), StreamConfig(sources=3, shape=SHAPE, batch_size=5, block_shards=1))
        sources = stream.index.codes("source")
        rows = epoch(stream.corpora[0].groups.order, 0)
        assert all(len(set(sources[group].tolist())) == 3 for group in rows)
        again = MixtureStream(str(folder), stream.config)
        assert np.array_equal(again.corpora[0].groups.group(50), rows[50])
