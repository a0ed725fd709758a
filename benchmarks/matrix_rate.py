"""How many operations a second a device's matrix products reach: what a training's rate is compared with."""

from __future__ import annotations

import functools
import statistics
import time

import torch

# Sides of the square matrices, on a GPU and on a processor.
SIDES = {"cuda": 8192, "cpu": 1024}
REPEATS, ROUNDS = 10, 5
DTYPES = {"bf16-mixed": torch.bfloat16, "32-true": torch.float32}


@functools.cache
def matrix_rate(device: str, precision: str) -> float:
    """Operations a second of large square products, the median of some rounds; measured once a process.

    Args:
        device: `cuda` or `cpu`.
        precision: As the trainer calls it.
    """
    side, dtype = SIDES[device], DTYPES[precision]
    one, other = torch.randn(2, side, side, device=device).to(dtype)
    rates = []
    for number in range(ROUNDS + 1):
        _wait(device)
        began = time.perf_counter()
        for _ in range(REPEATS):
            one @ other
        _wait(device)
        if number:
            rates.append(REPEATS * 2 * side**3 / (time.perf_counter() - began))
    return statistics.median(rates)


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
