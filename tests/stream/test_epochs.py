"""Epochs of a plain PyTorch loop: a length, exact resume, and the endless stream's very batches."""

from __future__ import annotations

import re
from itertools import islice
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from tests.stream.synthetic import write_shards
from vidaudio.errors import CorpusError, UsageError
from vidaudio.stream import EpochLoader, MixtureStream, StreamConfig, WindowShape

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "loader.md"
# 20 mixtures an epoch in batches of 6: epochs of 4, 3 and 3 batches, over and over.
CONFIG = StreamConfig(sources=2, shape=WindowShape(frames=1, samples=8_000), batch_size=6, seed=5)
LENGTHS = [4, 3, 3]


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_shards(tmp_path_factory.mktemp("noise"), shards=4, samples_a_shard=10))


def same(one: dict, other: dict) -> bool:
    return one["step"] == other["step"] and all(torch.equal(one[k], other[k]) for k in ("audio", "rows", "gains"))


@pytest.fixture(scope="module")
def endless(packed: str) -> list[dict]:
    return list(islice(MixtureStream(packed, CONFIG), 20))


@pytest.mark.parametrize(("workers", "persistent"), [(0, False), (2, False), (2, True)])
def test_epochs_one_after_another_are_the_endless_stream(packed, endless, workers, persistent):
    loader = EpochLoader(MixtureStream(packed, CONFIG), workers=workers, persistent=persistent)
    seen = []
    for epoch, length in enumerate(LENGTHS * 2):
        assert (loader.epoch, len(loader)) == (epoch, length)
        batches = list(loader)
        assert len(batches) == length
        seen += batches
    assert all(same(a, b) for a, b in zip(seen, endless, strict=True))


def test_an_epoch_can_be_chosen(packed, endless):
    loader = EpochLoader(MixtureStream(packed, CONFIG), workers=1, persistent=True)
    for epoch, begin in ((2, 7), (0, 0), (1, 4), (0, 0)):
        loader.set_epoch(epoch)
        batches = list(loader)
        assert all(same(a, b) for a, b in zip(batches, endless[begin : begin + len(batches)], strict=True))
        assert len(batches) == LENGTHS[epoch]
    for wrong in (-1, "x", None):
        with pytest.raises(UsageError, match=f"epoch must be a whole number, 0 or more, not {wrong!r}"):
            loader.set_epoch(wrong)


@pytest.mark.parametrize("taken", [0, 2, 4, 5, 7])
@pytest.mark.parametrize("workers", [0, 2])
def test_it_resumes_after_the_last_batch_that_was_handed_out(packed, endless, taken, workers):
    loader = EpochLoader(MixtureStream(packed, CONFIG), workers=2)
    state, count = loader.state_dict(), 0
    while count < taken:
        for _ in loader:
            count += 1
            state = loader.state_dict()
            if count == taken:
                break
    resumed = EpochLoader(MixtureStream(packed, CONFIG), workers=workers)
    resumed.load_state_dict(state)
    seen = []
    while len(seen) < 10 - taken:
        length = len(resumed)
        batches = list(resumed)
        assert len(batches) == length
        seen += batches
    assert all(same(a, b) for a, b in zip(seen, endless[taken : taken + len(seen)], strict=True))


def test_a_loop_over_epochs_by_number_goes_on_in_the_middle_of_one(packed, endless):
    loader = EpochLoader(MixtureStream(packed, CONFIG))
    loader.load_state_dict(MixtureStream(packed, CONFIG).state_dict(5))
    seen = []
    for epoch in range(loader.epoch, 3):
        loader.set_epoch(epoch)
        seen += list(loader)
    assert all(same(a, b) for a, b in zip(seen, endless[5:10], strict=True))


def test_an_evaluation_is_the_same_every_time(packed):
    config = StreamConfig(sources=1, shape=CONFIG.shape, batch_size=6, shuffle=False)
    loader = EpochLoader(MixtureStream(packed, config), workers=1)
    runs = [torch.cat([batch["rows"] for batch in loader]).flatten().tolist() for _ in range(2)]
    assert runs == [list(range(40))] * 2
    assert len(loader) == 7


def test_pytorchs_own_loader_takes_the_stream(packed, endless):
    loader = DataLoader(MixtureStream(packed, CONFIG), batch_size=None, num_workers=2)
    assert all(same(a, b) for a, b in zip(islice(loader, 9), endless, strict=False))


def test_other_data_is_refused_unless_allowed(packed):
    stream = MixtureStream(packed, CONFIG)
    loader = EpochLoader(stream)
    state = loader.state_dict() | {"identity": "another:1"}
    with pytest.raises(CorpusError, match="is not what this run has seen so far"):
        loader.load_state_dict(state)
    loader.load_state_dict(state, other_data=True)
    assert stream.identity() == "noise:0"


def test_the_example_of_the_documentation_runs(packed, tmp_path, monkeypatch):
    """The loop in docs/loader.md, word for word, on a small corpus, stopped and started again."""
    code = re.search(r"```python\n(# A plain PyTorch loop.*?)```", DOCUMENT.read_text(), re.DOTALL).group(1)
    monkeypatch.chdir(tmp_path)
    shortened = code.replace('"corpora/vggsound/training/default"', repr(packed)).replace(
        "batch_size=32", "batch_size=6"
    )
    shortened = shortened.replace("epochs = 90", "epochs = 2").replace("workers=8", "workers=1")
    shortened = shortened.replace('split="train"', 'split="train", shape=shape')
    assert shortened.count(packed) == 1
    made: dict = {"shape": CONFIG.shape}
    exec(compile(shortened, str(DOCUMENT), "exec"), made)
    assert made["loader"].state_dict()["start_step"] == 7
    again: dict = {"shape": CONFIG.shape}
    exec(compile(shortened.replace("epochs = 2", "epochs = 3"), str(DOCUMENT), "exec"), again)
    assert again["loader"].state_dict()["start_step"] == 10
    assert again["seen"] == 3
