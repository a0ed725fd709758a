"""Draws by weight: as often as the weights say, the same for any number of ranks, found at any position alone."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.stream.synthetic import write_synthetic
from vidaudio.errors import PackError
from vidaudio.stream import MixtureStream, StreamConfig, WindowShape
from vidaudio.stream.index import TrainingIndex, open_index
from vidaudio.stream.weights import STEPS, weight_steps, weighted_epoch

SHAPE = WindowShape(frames=3, samples=16_000)
SHARD_ROWS = [9, 1, 14, 6, 30, 11, 2, 27, 20]
SAMPLES = sum(SHARD_ROWS)
UNUSABLE = (3, 40, 41)


def made_weights() -> np.ndarray:
    rng = np.random.default_rng(0)
    weights = rng.random(SAMPLES).astype(np.float32) ** 2
    weights[rng.permutation(SAMPLES)[:30]] = 0
    # A whole shard that is never drawn, and the last sample of another.
    weights[24:30] = 0
    weights[-1] = 0
    return weights


WEIGHTS = made_weights()


@pytest.fixture(scope="module")
def weighted(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("weighted")
    return str(write_synthetic(folder, np.arange(SAMPLES), SHARD_ROWS, unusable=UNUSABLE, weights=WEIGHTS))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("plain")
    return str(write_synthetic(folder, np.arange(SAMPLES), SHARD_ROWS, unusable=UNUSABLE))


def stream_of(url: str, **how: object) -> MixtureStream:
    return MixtureStream(url, StreamConfig(**{"shape": SHAPE, "batch_size": 5, "block_shards": 2, "sources": 1, **how}))


def expected() -> np.ndarray:
    """How often each sample is drawn in an epoch, on average."""
    usable = np.ones(SAMPLES, bool)
    usable[list(UNUSABLE)] = False
    own = np.where(usable, WEIGHTS, 0).astype(np.float64)
    return usable.sum() * own / own.sum()


def epoch_counts(stream: MixtureStream, epoch: int) -> np.ndarray:
    order = stream.corpora[0].groups.order
    positions = range(epoch * order.groups_per_epoch, (epoch + 1) * order.groups_per_epoch)
    return np.bincount(np.concatenate([order.group(position) for position in positions]), minlength=SAMPLES)


class TestCounts:
    def test_an_epoch_is_as_long_as_without_weights_and_draws_each_sample_by_its_weight_rounded(self, weighted, plain):
        stream = stream_of(weighted)
        assert stream.groups_per_epoch == stream_of(plain).groups_per_epoch == SAMPLES - len(UNUSABLE)
        for epoch in range(20):
            counts = epoch_counts(stream, epoch)
            assert counts.sum() == stream.groups_per_epoch
            assert (counts >= np.floor(expected() - 1e-4)).all()
            assert (counts <= np.ceil(expected() + 1e-4)).all()
            assert not counts[WEIGHTS == 0].any()
            assert not counts[list(UNUSABLE)].any()

    def test_over_many_epochs_draws_are_in_proportion_to_the_weights(self, weighted):
        stream, epochs = stream_of(weighted), 600
        mean = np.mean([epoch_counts(stream, epoch) for epoch in range(epochs)], 0)
        part = expected() % 1
        deviation = np.sqrt(part * (1 - part) / epochs)
        assert (np.abs(mean - expected()) <= 4.5 * deviation + 1e-3).all()

    def test_equal_weights_draw_each_sample_once_in_the_order_of_a_pack_without_weights(self, plain, tmp_path):
        equal = np.full(SAMPLES, 0.3)
        same = write_synthetic(tmp_path, np.arange(SAMPLES), SHARD_ROWS, unusable=UNUSABLE, weights=equal)
        for how in ({}, {"sources": 3}, {"sources": 2, "seed": 9}):
            ours, theirs = stream_of(str(same), **how), stream_of(plain, **how)
            assert all(np.array_equal(ours.rows(step), theirs.rows(step)) for step in range(60))

    def test_weights_are_not_used_if_they_are_turned_off_nor_in_an_evaluation(self, weighted, plain):
        for how in ({"use_weights": False}, {"use_weights": False, "sources": 2, "partners": "uniform"}):
            ours, theirs = stream_of(weighted, **how), stream_of(plain, **how)
            assert all(np.array_equal(ours.rows(step), theirs.rows(step)) for step in range(60))
        ours, theirs = stream_of(weighted, shuffle=False), stream_of(plain, shuffle=False)
        assert ours.batches_per_epoch == theirs.batches_per_epoch
        assert all(np.array_equal(ours.rows(step), theirs.rows(step)) for step in range(ours.batches_per_epoch))

    def test_exact_numbers_of_a_line_of_weights(self):
        steps = weight_steps(np.array([0.5, 0, 0.25, 1.0, 1e-9, 0.25], np.float32))
        assert steps.tolist() == [STEPS // 2, 0, STEPS // 4, STEPS, 1, STEPS // 4]
        bounds = np.concatenate([[0], np.cumsum(steps)])
        for epoch in range(200):
            drawn = weighted_epoch(4, int(bounds[-1]), seed=1, epoch=epoch).drawn(bounds)
            assert drawn.sum() == 4
            assert drawn.tolist() in ([1, 0, 0, 2, 0, 1], [1, 0, 1, 2, 0, 0], [1, 0, 0, 2, 1, 0])

    @pytest.mark.parametrize("size", [10, 9_999, 3_000_000])
    def test_no_rounding_moves_a_cut(self, size: int):
        """Equal weights, and any split into shards, draw each sample exactly once."""
        steps = np.full(size, weight_steps(np.array([0.7], np.float32))[0])
        bounds = np.concatenate([[0], np.cumsum(steps)])
        for epoch in range(5):
            drawn = weighted_epoch(size, int(bounds[-1]), seed=0, epoch=epoch)
            assert (drawn.drawn(bounds) == 1).all()
            assert drawn.drawn(bounds[:: size // 5]).tolist() == [size // 5] * 5 or size % 5


class TestPositions:
    @pytest.mark.parametrize("partners", ["neighbours", "uniform"])
    def test_any_position_alone_is_the_same_as_in_turn_and_for_any_number_of_ranks(self, weighted, partners):
        how = {"sources": 2, "partners": partners}
        stream = stream_of(weighted, **how)
        steps = 2 * stream.batches_per_epoch + 3
        in_turn = [stream.rows(step) for step in range(steps)]
        for step in np.random.default_rng(0).choice(steps, 12, replace=False).tolist():
            assert np.array_equal(stream_of(weighted, **how).rows(step), in_turn[step])
        ranks = [stream_of(weighted, **how) for _ in range(2)]
        for rank, each in enumerate(ranks):
            each.set_rank(rank, 2)
        for step in range(steps):
            assert np.array_equal(np.concatenate([each.rows(step) for each in ranks]), in_turn[step])

    def test_two_seeds_and_two_epochs_differ(self, weighted):
        counts = [epoch_counts(stream_of(weighted, seed=seed), epoch).tobytes() for seed in (0, 1) for epoch in (0, 1)]
        assert len(set(counts)) == 4

    def test_a_block_reads_from_few_shards(self, weighted):
        stream = stream_of(weighted)
        shard_of = np.repeat(np.arange(len(SHARD_ROWS)), SHARD_ROWS)
        order = stream.corpora[0].groups.order
        visited = shard_of[np.concatenate([order.group(place) for place in range(order.groups_per_epoch)])]
        for shard in set(visited.tolist()):
            first, last = np.flatnonzero(visited == shard)[[0, -1]]
            assert len(set(visited[first : last + 1].tolist())) <= 4


class TestPartners:
    @pytest.mark.parametrize("partners", ["neighbours", "uniform"])
    def test_no_mixture_holds_a_sample_without_weight_or_a_source_twice(self, weighted, partners):
        stream = stream_of(weighted, sources=3, partners=partners)
        for step in range(3 * stream.batches_per_epoch):
            for rows in stream.rows(step).tolist():
                assert len(set(rows)) == 3
                assert (WEIGHTS[rows] > 0).all()
                assert not set(rows) & set(UNUSABLE)

    @pytest.mark.parametrize("tries", [256, 0])
    def test_partners_are_drawn_by_weight(self, weighted, tries, monkeypatch):
        monkeypatch.setattr("vidaudio.stream.samples.DRAWS_BEFORE_COUNTING", tries)
        samples, draws = stream_of(weighted).corpora[0].samples, 6000
        rng = np.random.default_rng(0)
        counts = np.bincount([samples.draw(rng) for _ in range(draws)], minlength=SAMPLES)
        share = expected() / expected().sum()
        assert not counts[share == 0].any()
        # A sample of little weight may be drawn a few times more often than it is expected to be.
        assert (np.abs(counts / draws - share) <= 4.5 * np.sqrt(share / draws) + 6 / draws).all()

    def test_a_replacement_has_weight_too(self, weighted):
        corpus = stream_of(weighted).corpora[0]
        rows = [row for (row, _), _ in zip(corpus.replacements(0, 0, 5, ()), range(50), strict=False)]
        assert (WEIGHTS[rows] > 0).all()


class TestIndex:
    def test_the_index_says_which_column_the_weights_are_from(self, weighted, plain):
        index = open_index(weighted)
        assert isinstance(index, TrainingIndex)
        assert (index.weight, open_index(plain).weight) == ("p_corresponds", None)
        assert np.array_equal(index.column("weight"), WEIGHTS)
        assert "weight" not in open_index(plain).table.column_names

    @pytest.mark.parametrize("wrong", [-0.1, 1.5, np.nan])
    def test_what_is_no_weight_is_refused(self, tmp_path: Path, wrong: float):
        weights = np.where(np.arange(SAMPLES) == 5, wrong, 0.5)
        folder = write_synthetic(tmp_path, np.arange(SAMPLES), SHARD_ROWS, weights=weights)
        with pytest.raises(PackError, match="its column weight holds what is no weight between 0 and 1"):
            open_index(str(folder))

    def test_a_split_without_any_weight_is_refused_with_a_remedy(self, tmp_path: Path):
        folder = write_synthetic(tmp_path, np.arange(SAMPLES), SHARD_ROWS, weights=np.zeros(SAMPLES))
        with pytest.raises(PackError, match=r"0 sources have .* and a weight above 0 \(use_weights=False"):
            stream_of(str(folder), sources=2)
        assert len(stream_of(str(folder), sources=2, use_weights=False).rows(0)) == 5


def test_a_source_with_most_of_the_weight_is_never_mixed_with_itself(tmp_path: Path):
    weights = np.full(SAMPLES, 0.05)
    weights[10] = 1.0
    folder = write_synthetic(tmp_path, np.arange(SAMPLES) // 2, SHARD_ROWS, weights=weights)
    stream = stream_of(str(folder), sources=2)
    drawn: Counter[int] = Counter()
    for step in range(stream.batches_per_epoch):
        for rows in stream.rows(step).tolist():
            assert rows[0] // 2 != rows[1] // 2
            drawn.update(rows)
    assert drawn.most_common(1)[0][0] == 10
