"""Processes that train together: who is here, and sums over all of them.

A process knows its place from the environment that torchrun sets (`RANK`, `WORLD_SIZE`, `LOCAL_RANK` ...);
`vidaudio.training.launch` sets the same. Every function here is plain arithmetic where one process trains alone.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from vidaudio.errors import VidaudioError
from vidaudio.text import first_line

# What gloo and NCCL say when a process at the other end is gone.
_BROKEN = re.compile(
    r"connection (was )?(closed|reset|refused)|broken pipe|socket closed|gloo|nccl|timed out", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class DistributedInfo:
    """Of this process among those that train together."""

    rank: int = 0
    world_size: int = 1
    local_world_size: int = 1

    @property
    def nodes(self) -> int:
        return self.world_size // self.local_world_size


def current_rank() -> DistributedInfo:
    """As the environment says; alone where it says nothing.

    Raises:
        VidaudioError: Several tasks of a batch system were started without telling them of each other.
    """
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        size = int(os.environ["WORLD_SIZE"])
        return DistributedInfo(int(os.environ["RANK"]), size, int(os.environ.get("LOCAL_WORLD_SIZE", size)))
    tasks = os.environ.get("SLURM_STEP_NUM_TASKS", "1")
    if int(tasks) > 1:
        raise VidaudioError(
            f"Slurm started {tasks} tasks that would each train alone, in one folder; start one task a node, and the "
            "processes by torchrun: srun --ntasks-per-node=1 torchrun ... -m vidaudio train ..."
        )
    return DistributedInfo()


def is_distributed() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


class _Sum(torch.autograd.Function):
    """The sum over ranks; what flows back into each of them is the sum of what flows into all."""

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


def mean_over_ranks(value: Tensor, count: int) -> Tensor:
    """The mean over the mixtures of all ranks, with gradient, out of each rank's mean over its own.

    Args:
        value: Of this rank, a scalar.
        count: Mixtures of this rank; 0 where its value is not to count.
    """
    if not is_distributed():
        return value
    parts = torch.stack([value * count, torch.full_like(value, count)])
    total = _Sum.apply(parts)
    return total[0] / total[1].clamp_min(1)


def all_reduce_sum(values: Tensor) -> Tensor:
    """The sum over ranks, without gradient; any shape."""
    if is_distributed():
        values = values.detach().clone()
        dist.all_reduce(values)
    return values


def all_gather_object(value: Any) -> list[Any]:
    """A small Python object of each rank, in order of ranks."""
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
    """Return what an error says of the connection to other ranks having broken; None for other errors."""
    text = first_line(error)
    if is_distributed() and (
        isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and _BROKEN.search(text))
    ):
        return text
    return None


class RankConsensus:
    """Lets ranks ask one another a question, over the network and not over their devices, which would have to wait."""

    def __init__(self) -> None:
        self._group = dist.new_group(backend="gloo") if is_distributed() else None

    def any(self, mine: int) -> int:
        """The largest of all ranks' numbers. All must ask."""
        if self._group is None:
            return mine
        number = torch.tensor([mine])
        dist.all_reduce(number, op=dist.ReduceOp.MAX, group=self._group)
        return int(number)
