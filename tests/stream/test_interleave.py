"""Several corpora: exact shares, each corpus through its own epochs, every position found alone."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from pathlib import Path

import pytest
import torch

from tests.packed import make_packed
from vidaudio.errors import CorpusError, UsageError
from vidaudio.stream import MixtureStream, StreamConfig, WindowShape
from vidaudio.stream.interleave import STRETCH, Interleave

ENCODER = {"dimensions": 16, "weights_sha256": "made"}
SHAPE = WindowShape(frames=1, samples=8_000)


@pytest.mark.parametrize("weights", [[1, 1], [3, 1], [0.1, 0.2, 0.7], [1e-3, 1], [5]])
def test_positions_are_dealt_by_weight_and_none_of_a_corpus_is_skipped(weights: list[float]):
    interleave = Interleave(weights, seed=3)
    count = 5 * STRETCH
    dealt = [interleave.at(position) for position in range(count)]
    for number, weight in enumerate(weights):
        own = [place for corpus, place in dealt if corpus == number]
        assert own == list(range(len(own)))
        assert abs(len(own) - count * weight / sum(weights)) <= 1
    for position in (0, count - 1, STRETCH, 777):
        assert Interleave(weights, seed=3).at(position) == dealt[position]
    if len(weights) > 1:
        assert [Interleave(weights, seed=4).at(position) for position in range(count)] != dealt


def test_corpora_do_not_take_turns():
    """With equal weights any two corpora may follow each other."""
    interleave = Interleave([1, 1], seed=0)
    pairs = Counter((interleave.at(2 * n)[0], interleave.at(2 * n + 1)[0]) for n in range(500))
    assert min(pairs[a, b] for a in (0, 1) for b in (0, 1)) > 80


@pytest.mark.parametrize("weights", [[1, 0], [1, -2], [float("nan"), 1]])
def test_weights_that_are_none_are_refused(weights: list[float]):
    with pytest.raises(UsageError, match="must be greater than 0"):
        Interleave(weights, seed=0)


class TestStream:
    @pytest.fixture
    def corpora(self, tmp_path: Path) -> dict[str, float]:
        """Two corpora that have six sources in common."""
        large = make_packed(tmp_path / "large", ENCODER, clips_per_split={"train": 24, "val": 4})
        small = make_packed(tmp_path / "small", ENCODER, clips_per_split={"train": 6, "val": 3})
        return {str(large): 3, str(small): 1}

    @pytest.mark.parametrize("across", [False, True])
    def test_mixtures_hold_different_sources_by_weight(self, corpora, across):
        config = StreamConfig(sources=2, shape=SHAPE, batch_size=16, across_corpora=across)
        stream = MixtureStream(corpora, config)
        batches = list(islice(stream, 64))
        numbers = torch.cat([batch["corpora"] for batch in batches])
        rows = torch.cat([batch["rows"] for batch in batches])
        assert float((numbers == 0).float().mean()) == pytest.approx(0.75, abs=0.002)
        assert bool((numbers[:, 0] != numbers[:, 1]).any()) == across
        for mixture, of in zip(rows.tolist(), numbers.tolist(), strict=True):
            sources = {stream.corpora[n].index.text("source", row) for n, row in zip(of, mixture, strict=True)}
            assert len(sources) == 2
        if not across:
            small = rows[numbers[:, 0] == 1]
            for epoch in range(len(small) // 3):
                assert sorted(small[3 * epoch : 3 * epoch + 3].flatten().tolist()) == list(range(6))

    @pytest.mark.parametrize("across", [False, True])
    def test_batches_do_not_depend_on_who_reads(self, corpora, across):
        config = StreamConfig(sources=2, shape=SHAPE, batch_size=6, across_corpora=across)
        expected = list(islice(MixtureStream(corpora, config), 8))
        ranks = [MixtureStream(corpora, config, rank=rank, world_size=4) for rank in range(4)]
        for step, batch in enumerate(expected):
            parts = [rank.batch(step) for rank in ranks]
            assert all(
                torch.equal(torch.cat([p[key] for p in parts]), batch[key]) for key in ("audio", "rows", "corpora")
            )
        with_workers = islice(MixtureStream(corpora, config).loader(workers=2), 8)
        assert all(torch.equal(a["audio"], b["audio"]) for a, b in zip(expected, with_workers, strict=True))

    def test_an_evaluation_goes_through_one_after_another(self, corpora):
        config = StreamConfig(split="val", sources=1, shape=SHAPE, batch_size=4, shuffle=False, gain_range=None)
        batches = list(MixtureStream(corpora, config))
        pairs = torch.cat([torch.stack([b["corpora"], b["rows"]], -1) for b in batches]).flatten(0, 1).tolist()
        assert pairs == [[0, 0], [0, 1], [0, 2], [0, 3], [1, 0], [1, 1], [1, 2]]

    def test_corpora_that_do_not_fit_are_named(self, corpora, tmp_path):
        other = make_packed(tmp_path / "other", {**ENCODER, "weights_sha256": "else"}, clips_per_split={"train": 6})
        with pytest.raises(
            CorpusError, match=r"they hold vectors of .*\(\d+ dimensions, weights made\) and .*weights else"
        ):
            MixtureStream({**corpora, str(other): 1}, StreamConfig(shape=SHAPE))
