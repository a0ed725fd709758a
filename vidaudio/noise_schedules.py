"""Noise schedules of diffusion processes: how much noise each step adds."""

from __future__ import annotations

import math

import torch
from torch import Tensor

MOST_BETA = 0.999
COSINE_OFFSET = 0.008


def cosine_betas(steps: int) -> Tensor:
    """Return beta of every step by the cosine schedule, at most 0.999 (Nichol and Dhariwal, eq. 17), float64."""

    def signal(time: Tensor) -> Tensor:
        return torch.cos((time + COSINE_OFFSET) / (1 + COSINE_OFFSET) * (math.pi / 2)) ** 2

    times = torch.arange(steps + 1, dtype=torch.float64) / steps
    return (1 - signal(times[1:]) / signal(times[:-1])).clamp(max=MOST_BETA)


def linear_betas(steps: int, first: float, last: float) -> Tensor:
    """Return beta of every step at even distances between two values (Ho et al., 2020), float64."""
    return torch.linspace(first, last, steps, dtype=torch.float64)


def signal_shares(betas: Tensor) -> Tensor:
    """Return the share of the signal's variance at each step, `alpha_bar` of Ho et al. (2020), float32."""
    return (1 - betas).cumprod(dim=0).float()
