"""With whom a sample is mixed: all partners alike likely, or those that look least like it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.packed import make_packed
from tests.stream.synthetic import write_synthetic
from vidaudio.stream import MixtureStream, StreamConfig, WindowShape

SHAPE = WindowShape(frames=3, samples=16_000)
ENCODER = {"dimensions": 16, "weights_sha256": "made"}


def groups_of(stream: MixtureStream, epochs: int) -> np.ndarray:
    steps = epochs * stream.groups_per_epoch // stream.config.batch_size
    return np.concatenate([stream.rows(step) for step in range(steps)])


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty samples of ten sources in four shards, two of them unusable."""
    folder = tmp_path_factory.mktemp("few")
    return write_synthetic(folder, np.arange(20) // 2, [5, 5, 5, 5], unusable=[3, 11])


@pytest.mark.parametrize("same_source", [False, True])
def test_uniform_partners_are_drawn_from_all_alike(few: Path, same_source: bool):
    config = StreamConfig(
        sources=2, shape=SHAPE, batch_size=18, block_shards=1, partners="uniform", same_source=same_source, seed=4
    )
    stream = MixtureStream(str(few), config)
    sources = stream.index.codes("source")
    epochs = 400
    rows = groups_of(stream, epochs)
    # Every sample once an epoch in the first place; whatever the block, any other in the second.
    assert Counter(rows[:, 0].tolist()) == dict.fromkeys(stream.windows.usable.tolist(), epochs)
    for anchor in stream.windows.usable.tolist():
        drawn = Counter(rows[rows[:, 0] == anchor, 1].tolist())
        allowed = [r for r in stream.windows.usable.tolist() if r != anchor]
        if not same_source:
            allowed = [r for r in allowed if sources[r] != sources[anchor]]
        assert set(drawn) == set(allowed)
        expected = epochs / len(allowed)
        assert sum((drawn[r] - expected) ** 2 / expected for r in allowed) < 45
    clash = (sources[rows[:, 0]] == sources[rows[:, 1]]).mean()
    assert (clash > 0) == same_source


def test_uniform_groups_never_hold_a_sample_twice(few: Path):
    config = StreamConfig(
        sources=4, shape=SHAPE, batch_size=6, partners="uniform", same_source=True, block_shards=2, seed=1
    )
    assert all(len(set(group.tolist())) == 4 for group in groups_of(MixtureStream(str(few), config), 20))


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three kinds of clips; those of a kind have nearly the same vectors."""
    return make_packed(tmp_path_factory.mktemp("kinds"), ENCODER, clips_per_split={"train": 30})


class TestDistant:
    def test_partners_look_less_alike_than_those_that_are_drawn(self, kinds):
        """Among 16 candidates there is one of another kind, nearly always."""
        alike = {}
        for partners in ("distant", "uniform"):
            config = StreamConfig(sources=2, shape=SHAPE, batch_size=30, partners=partners, distant_candidates=16)
            stream = MixtureStream(str(kinds), config)
            label = [labels[0] for labels in stream.index.table["labels"].to_pylist()]
            rows = groups_of(stream, 4)
            assert sorted(rows[:30, 0].tolist()) == stream.windows.usable.tolist()
            assert all(a != b for a, b in rows.tolist())
            alike[partners] = np.mean([label[a] == label[b] for a, b in rows.tolist()])
        assert alike["distant"] < 0.02
        assert alike["uniform"] > 0.15

    def test_the_one_least_alike_is_chosen(self, kinds):
        config = StreamConfig(sources=2, shape=SHAPE, batch_size=4, partners="distant", distant_candidates=200)
        stream = MixtureStream(str(kinds), config)
        looks = [stream.corpora[0].reader.vectors(row).astype(np.float32).mean(0) for row in range(30)]
        looks = np.stack([look / np.linalg.norm(look) for look in looks])
        for anchor, partner in groups_of(stream, 1).tolist():
            # All thirty are candidates: two hundred draws miss one of them once in a thousand.
            assert looks[anchor] @ looks[partner] == pytest.approx(np.min(looks @ looks[anchor]), abs=1e-4)

    def test_a_position_alone_gives_the_same_as_in_turn(self, kinds):
        config = StreamConfig(sources=3, shape=SHAPE, batch_size=4, partners="distant")
        in_turn = [MixtureStream(str(kinds), config).batch(step) for step in range(9)]
        alone = MixtureStream(str(kinds), config).batch(8)
        assert torch.equal(alone["rows"], in_turn[8]["rows"])
        assert torch.equal(alone["audio"], in_turn[8]["audio"])
