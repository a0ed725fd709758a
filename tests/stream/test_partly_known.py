"""Streams that are drawn from a part of the sources, with different labels, and of which a share is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.packed import make_packed
from vidaudio.errors import PackError, UsageError
from vidaudio.stream import MixtureStream, StreamConfig
from vidaudio.stream.index import NO_VECTORS
from vidaudio.stream.partly_known import PartlyKnownStream
from vidaudio.stream.windows import WindowShape

CONFIG = StreamConfig(
    sources=4, batch_size=6, vectors=(), partners="uniform", seed=3, shape=WindowShape(frames=1, samples=800)
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("known") / "data"
    labels = [f"kind {number}" for number in range(8)]
    return str(make_packed(folder, NO_VECTORS, labels=labels, clips_per_split={"train": 80}, seconds=1.0))


def labels_of(stream: MixtureStream, batch: dict) -> list[list[str]]:
    table = stream.index.table["labels"]
    return [[table[row].as_py()[0] for row in rows] for rows in batch["rows"].tolist()]


def test_labels_of_a_mixture_differ_if_they_must(data: str):
    config = replace(CONFIG, sources=8)
    plain, different = (MixtureStream(data, replace(config, different_labels=flag)) for flag in (False, True))
    found = [row for step in range(9) for row in labels_of(different, different.batch(step))]
    assert all(len(set(row)) == 8 for row in found)
    assert any(len(set(row)) < 8 for step in range(9) for row in labels_of(plain, plain.batch(step)))
    sources = [{int(n) for n in rows} for rows in different.batch(0)["rows"]]
    assert all(len(rows) == 8 for rows in sources)
    # A validation in packed order, too.
    ordered = MixtureStream(data, replace(config, different_labels=True, shuffle=False, gain_range=None))
    assert all(len(set(row)) == 8 for row in labels_of(ordered, ordered.batch(0)))


def test_more_different_labels_than_there_are_is_one_sentence(data: str):
    with pytest.raises(PackError, match="the clips have 8 labels, and mixtures of 9 different labels"):
        MixtureStream(data, replace(CONFIG, sources=9, different_labels=True))
    with pytest.raises(UsageError, match="different_labels needs partners='uniform'"):
        replace(CONFIG, partners="neighbours", different_labels=True)


def test_parts_of_the_sources_share_none_and_are_as_large_as_asked(data: str):
    streams = [
        MixtureStream(data, replace(CONFIG, sources=1, partners="neighbours", sources_between=between))
        for between in ((0.0, 0.3), (0.3, 1.0))
    ]
    seen = [{int(row) for step in range(14) for row in stream.batch(step)["rows"].ravel()} for stream in streams]
    assert not seen[0] & seen[1]
    assert len(seen[0] | seen[1]) == 80
    assert 14 <= len(seen[0]) <= 34
    other = MixtureStream(data, replace(CONFIG, sources=1, partners="neighbours", sources_between=(0, 0.3), seed=4))
    assert {int(row) for step in range(9) for row in other.batch(step)["rows"].ravel()} != seen[0]
    # Partners are drawn from the part, too.
    mixed = MixtureStream(data, replace(CONFIG, sources_between=(0.0, 0.3)))
    assert {int(row) for step in range(20) for row in mixed.batch(step)["rows"].ravel()} == seen[0]


@pytest.mark.parametrize("share", [0.05, 0.25, 0.75])
def test_a_share_of_the_mixtures_is_of_sources_that_no_other_mixture_hears(data: str, share: float):
    stream = PartlyKnownStream(data, CONFIG, share=share)
    heard: dict[bool, set[int]] = {False: set(), True: set()}
    flags = []
    for step in range(40):
        batch = stream.batch(step)
        flags += batch["known"].tolist()
        for known, rows, corpora in zip(batch["known"], batch["rows"], batch["corpora"], strict=True):
            heard[bool(known)].update(rows.tolist())
            assert set(corpora.tolist()) == {int(known)}
    assert sum(flags) == int(240 * share)
    assert flags == [stream.is_known(position) for position in range(240)]
    assert not heard[False] & heard[True]


def test_every_mixture_is_a_function_of_its_position(data: str):
    """Whatever the batch size, the rank, or the loader's processes."""
    whole = PartlyKnownStream(data, CONFIG, share=0.4)
    twelve = PartlyKnownStream(data, replace(CONFIG, batch_size=12), share=0.4)
    batches = [whole.batch(step) for step in (2, 3)]
    large = twelve.batch(1)
    for name in ("audio", "gains", "rows", "corpora", "known"):
        assert torch.equal(torch.cat([batch[name] for batch in batches]), large[name]), name
    parts = []
    for rank in (0, 1):
        stream = PartlyKnownStream(data, CONFIG, share=0.4, start_step=2)
        stream.set_rank(rank, 2)
        parts.append(next(iter(stream)))
    assert torch.equal(torch.cat([part["audio"] for part in parts]), batches[0]["audio"])
    assert sum(part["share"] for part in parts) == pytest.approx(1)
    loaded = next(iter(PartlyKnownStream(data, CONFIG, share=0.4, start_step=2).loader(workers=1)))
    assert torch.equal(loaded["audio"], batches[0]["audio"])
    assert torch.equal(loaded["known"], batches[0]["known"])
    rows = batches[0]["rows"][batches[0]["known"]].numpy()
    assert np.isin(rows, np.arange(80)).all()


def test_known_sounds_may_come_from_another_corpus(data: str, tmp_path: Path):
    singles = make_packed(tmp_path / "singles", NO_VECTORS, clips_per_split={"train": 20}, seconds=1.0)
    stream = PartlyKnownStream(data, CONFIG, share=0.5, known_url=str(singles))
    batch = stream.batch(0)
    assert batch["known"].tolist() == [False, True] * 3
    assert [corpus.url for corpus in stream.corpora] == [data, str(singles)]
    assert batch["rows"][batch["known"]].max() < 20
    assert stream.identity().count(" ") == 1
    # All sources of the first corpus are in the other mixtures then.
    rows = {int(row) for step in range(40) for row in stream.batch(step)["rows"][::2].ravel()}
    assert len(rows) == 80


def test_known_mixtures_may_have_fewer_samples(data: str):
    stream = PartlyKnownStream(data, CONFIG, share=0.5, known_sources=2)
    batch = stream.batch(0)
    known, others = batch["audio"][batch["known"]], batch["audio"][~batch["known"]]
    assert (known[:, 1::2] == 0).all()
    assert (known[:, ::2].float().abs().mean(2) > 0).all()
    assert (others.float().abs().mean(2) > 0).all()
    rows = batch["rows"][batch["known"]]
    assert torch.equal(rows[:, ::2], rows[:, 1::2])
    assert (rows[:, 0] != rows[:, 2]).all()
    with pytest.raises(UsageError, match="known_sources must be a divisor of 4, not 3"):
        PartlyKnownStream(data, CONFIG, share=0.5, known_sources=3)


def test_picks_are_the_samples_that_are_read_and_an_epoch_holds_them_all(data: str):
    stream = PartlyKnownStream(data, CONFIG, share=0.25, known_sources=2)
    for step in range(6):
        batch = stream.batch(step)
        assert np.array_equal(stream.rows(step), batch["rows"].numpy())
        corpora = [[corpus for corpus, _, _ in picks] for picks in stream.picks(step)]
        assert corpora == batch["corpora"].tolist()
    plain = MixtureStream(data, replace(CONFIG, sources_between=(0.25, 1.0)))
    assert stream.groups_per_epoch == -(-plain.groups_per_epoch * 4 // 3)


def test_too_few_sources_are_said_to_be_of_other_mixtures(data: str):
    with pytest.raises(PackError, match="samples are too short, or of the sources of other mixtures"):
        PartlyKnownStream(data, CONFIG, share=0.01)


def test_what_does_not_fit_is_refused(data: str):
    for share in (0, 1e-7, 1, 1.5):
        with pytest.raises(UsageError, match=r"share must be from 1e-06 to 0\.999999"):
            PartlyKnownStream(data, CONFIG, share=share)
    with pytest.raises(UsageError, match="known mixtures are for training"):
        PartlyKnownStream(data, replace(CONFIG, shuffle=False), share=0.5)
    with pytest.raises(UsageError, match="sources_between must be"):
        replace(CONFIG, sources_between=(0.5, 0.2))
