"""Ranks: unequal parts of one global batch, whose weighted gradients are those of a single process."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from vidaudio.errors import UsageError
from vidaudio.stream import MixtureStream, StreamConfig, WindowShape, rank_rows

CONFIG = StreamConfig(sources=2, shape=WindowShape(frames=3, samples=8_000), batch_size=16, seed=3)
STEPS = 3


@pytest.mark.parametrize("batch", [1, 5, 16, 17, 64])
def test_parts_are_whole_ordered_and_as_equal_as_can_be(batch: int):
    for world_size in range(1, batch + 1):
        parts = [rank_rows(batch, rank, world_size) for rank in range(world_size)]
        assert [place for part in parts for place in part] == list(range(batch))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert [len(rank_rows(16, rank, 3)) for rank in range(3)] == [6, 5, 5]


def test_parts_that_cannot_be_are_refused():
    with pytest.raises(UsageError, match="a batch of 2 cannot be divided over 3 ranks"):
        rank_rows(2, 0, 3)
    with pytest.raises(UsageError, match="no rank 3 among 3"):
        rank_rows(8, 3, 3)


def loss_of(model: nn.Module, batch: dict) -> Tensor:
    """Something that every sample of a mixture pulls its own way."""
    heard = batch["audio"].float().abs().mean(-1, keepdim=True) * batch["gains"][..., None] / 1000
    features = torch.cat([heard, batch["vectors"].float().mean(2)], dim=-1)
    return (model(features) - 1).square().mean()


def linear() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(33, 4)


def gradients_of_rank(rank: int, world_size: int, url: str, folder: str) -> None:
    """One rank of distributed training; the first writes down its gradients, step by step."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world_size
    )
    model = nn.parallel.DistributedDataParallel(linear())
    stream = MixtureStream(url, CONFIG, rank=rank, world_size=world_size)
    found = []
    for step in range(STEPS):
        batch = stream.batch(step)
        model.zero_grad()
        (loss_of(model, batch) * (batch["share"] * world_size)).backward()
        found.append([parameter.grad.clone() for parameter in model.parameters()])
    if rank == 0:
        torch.save(found, f"{folder}/gradients.pt")
    torch.distributed.destroy_process_group()


def test_gradients_of_three_ranks_equal_those_of_one(packed_as: Callable[..., str], tmp_path: Path, monkeypatch):
    url = packed_as("short-pcm16", max_segment_seconds=8.0, audio="pcm16")
    monkeypatch.setitem(os.environ, "GLOO_SOCKET_IFNAME", "lo")
    torch.multiprocessing.start_processes(
        gradients_of_rank, args=(3, url, str(tmp_path)), nprocs=3, start_method="fork"
    )
    found = torch.load(tmp_path / "gradients.pt", weights_only=True)
    model, stream = linear(), MixtureStream(url, CONFIG)
    for step, gradients in enumerate(found):
        batch = stream.batch(step)
        assert batch["share"] == 1
        model.zero_grad()
        loss_of(model, batch).backward()
        for ours, theirs in zip(model.parameters(), gradients, strict=True):
            assert torch.allclose(ours.grad, theirs, atol=1e-6, rtol=1e-5)
        # And the weights are what makes it so: parts of six and five are not alike.
        assert any(gradient.abs().max() > 1e-3 for gradient in gradients)


def test_shares_of_all_ranks_make_a_whole(packed_as: Callable[..., str]):
    url = packed_as("short-pcm16", max_segment_seconds=8.0, audio="pcm16")
    for shuffle in (True, False):
        config = StreamConfig(sources=2, shape=CONFIG.shape, batch_size=5, shuffle=shuffle)
        streams = [MixtureStream(url, config, rank=rank, world_size=3) for rank in range(3)]
        for step in range(streams[0].batches_per_epoch):
            parts = [stream.batch(step) for stream in streams if len(stream.positions(step))]
            assert sum(part["share"] for part in parts) == pytest.approx(1)
            assert all(
                part["share"] * sum(len(p["rows"]) for p in parts) == pytest.approx(len(part["rows"])) for part in parts
            )
