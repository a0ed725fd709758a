"""Rows of all ranks, gathered with gradient, are the rows of one process that has them all."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from vidaudio.training.distributed import all_gather_rows

# Rows of each of two ranks.
COUNTS = ((3, 3), (3, 2), (1, 4), (2, 0), (0, 0))


def rows(count: int) -> tuple[Tensor, Tensor]:
    """Return rows of several axes, and weights by which their sines are summed."""
    generator = torch.Generator().manual_seed(count)
    return torch.randn(count, 4, 2, generator=generator), torch.randn(count, 4, 2, generator=generator)


def save_gathered(folder: Path, rank: int) -> None:
    """Save what one rank gathers, and the gradient of its rows if each rank's loss counts rank + 1 times."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder / 'store'}", rank=rank, world_size=2)
    found = []
    for counts in COUNTS:
        values, weights = rows(sum(counts))
        mine = values.split(counts)[rank].clone().requires_grad_()
        gathered, first = all_gather_rows(mine)
        ((rank + 1) * gathered.sin() * weights).sum().backward()
        found.append({"gathered": gathered.detach(), "first": first, "gradient": mine.grad})
    torch.save(found, folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[list[dict]]:
    folder = tmp_path_factory.mktemp("gathered")
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=save_gathered, args=(folder, rank)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("case", range(len(COUNTS)), ids=str(COUNTS).strip("()").split("), ("))
def test_values_and_gradients_are_those_of_one_process(ranks: list[list[dict]], case: int):
    counts = COUNTS[case]
    values, weights = rows(sum(counts))
    values.requires_grad_()
    sum((rank + 1) * (values.sin() * weights).sum() for rank in range(2)).backward()
    for rank, found in enumerate(each[case] for each in ranks):
        assert torch.equal(found["gathered"], values.detach())
        assert found["first"] == sum(counts[:rank])
        torch.testing.assert_close(found["gradient"], values.grad.split(counts)[rank])


def test_a_process_alone_keeps_its_rows():
    mine = torch.randn(3, 2, requires_grad=True)
    gathered, first = all_gather_rows(mine)
    assert (gathered is mine, first) == (True, 0)
