"""Processes that train together: rank and world size of this process, and sums over all ranks.

A process reads its rank from the environment that torchrun sets (`RANK`, `WORLD_SIZE`, `LOCAL_RANK` ...);
`vidaudio.training.launch` sets the same variables. In a process that trains alone, no function here communicates.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor

from vidaudio.errors import TrainingError
from vidaudio.text import first_line

# Messages of gloo and NCCL when a process at the other end has ended.
_BROKEN = re.compile(
    r"connection (was )?(closed|reset|refused)|broken pipe|socket closed|gloo|nccl|timed out", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class DistributedInfo:
    """Rank and world size of this process.

    Attributes:
        rank: Number of this process, from 0.
        world_size: Number of processes on all machines.
        local_world_size: Number of processes on this machine.
    """

    rank: int = 0
    world_size: int = 1
    local_world_size: int = 1

    @property
    def nodes(self) -> int:
        """Return the number of machines."""
        return self.world_size // self.local_world_size


def current_rank() -> DistributedInfo:
    """Return the rank that the environment gives, or that of a single process if it gives none.

    Raises:
        TrainingError: When Slurm started several tasks whose environment does not connect them.
    """
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        size = int(os.environ["WORLD_SIZE"])
        return DistributedInfo(int(os.environ["RANK"]), size, int(os.environ.get("LOCAL_WORLD_SIZE", size)))
    tasks = os.environ.get("SLURM_STEP_NUM_TASKS", "1")
    if int(tasks) > 1:
        raise TrainingError(
            f"Slurm started {tasks} tasks that would each train alone, in one folder; start one task a node, and the "
            "processes by torchrun: srun --ntasks-per-node=1 torchrun ... -m vidaudio train ..."
        )
    return DistributedInfo()


def is_distributed() -> bool:
    """Return whether this process is connected to other ranks."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


class _Sum(torch.autograd.Function):
    """Sum over ranks with gradient: each rank's gradient is the sum of all ranks' gradients."""

    @staticmethod
    def forward(_context: Any, value: Tensor) -> Tensor:
        total = value.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_context: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total


class _Gather(torch.autograd.Function):
    """Rows of all ranks, with gradient: each rank's rows get the sum of all ranks' gradients."""

    @staticmethod
    def forward(context: Any, rows: Tensor, counts: list[int]) -> Tensor:
        context.counts = counts
        padded = torch.cat([rows, rows.new_zeros(max(counts) - len(rows), *rows.shape[1:])])
        found = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(found, padded)
        return torch.cat([each[:count] for each, count in zip(found, counts, strict=True)])

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total.split(context.counts)[dist.get_rank()], None


def all_gather_rows(rows: Tensor) -> tuple[Tensor, int]:
    """Return the rows of all ranks, with gradient, and where this rank's rows begin; every rank must call it.

    Args:
        rows: This rank's rows, `[n, ...]`; n may differ from rank to rank, and may be 0.
    """
    if not is_distributed():
        return rows, 0
    counts = all_gather_object(len(rows))
    return _Gather.apply(rows, counts), sum(counts[: dist.get_rank()])


def mean_over_ranks(value: Tensor, count: int) -> Tensor:
    """Return the mean over the mixtures of all ranks, with gradient, from each rank's mean over its own mixtures.

    Args:
        value: This rank's mean, a scalar.
        count: Number of this rank's mixtures; 0 to leave its value out.
    """
    if not is_distributed():
        return value
    parts = torch.stack([value * count, torch.full_like(value, count)])
    total = _Sum.apply(parts)
    return total[0] / total[1].clamp_min(1)


def all_reduce_sum(values: Tensor) -> Tensor:
    """Return the sum over ranks, without gradient, for a tensor of any shape."""
    if is_distributed():
        values = values.detach().clone()
        dist.all_reduce(values)
    return values


def sum_by_name(sums: Mapping[str, Tensor | float], device: torch.device) -> dict[str, float]:
    """Return the sum over ranks of each of some numbers, in one all-reduce; all ranks have the same names."""
    names = sorted(sums)
    mine = [torch.as_tensor(sums[name], dtype=torch.float64).to(device) for name in names]
    return dict(zip(names, all_reduce_sum(torch.stack(mine)).tolist(), strict=True))


def all_gather_object(value: Any) -> list[Any]:
    """Return a small Python object of each rank, in the order of ranks."""
    if not is_distributed():
        return [value]
    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, value)
    return found


def broadcast_from_rank0(tensors: Sequence[Tensor]) -> None:
    """Overwrite every rank's tensors with those of rank 0."""
    if is_distributed():
        for tensor in tensors:
            dist.broadcast(tensor, src=0)


def lost_ranks(error: BaseException) -> str | None:
    """Return the message of an error that means a broken connection to other ranks; None for other errors."""
    text = first_line(error)
    if is_distributed() and (
        isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and _BROKEN.search(text))
    ):
        return text
    return None


class RankConsensus:
    """Agreement of all ranks on a number, over the network (gloo): the devices would have to wait for it."""

    def __init__(self) -> None:
        # A process outside a group would get a number in its place; every rank is in this one.
        self._group = cast("dist.ProcessGroup", dist.new_group(backend="gloo")) if is_distributed() else None

    def any(self, mine: int) -> int:
        """Return the largest of all ranks' numbers; every rank must call it."""
        if self._group is None:
            return mine
        number = torch.tensor([mine])
        dist.all_reduce(number, op=dist.ReduceOp.MAX, group=self._group)
        return int(number)
