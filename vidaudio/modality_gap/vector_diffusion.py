"""Diffusion of vectors: what the methods that denoise vectors share, in training and in sampling.

A network learns the vector without noise (x0) from one with noise and the step's number. Sampling makes deterministic
steps (DDIM, Song et al. 2021).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from vidaudio.errors import GapError

STEPS = 1000
TIME_FEATURES = 64
EMA_DECAY = 0.995
# Of a network's weights among the tensors of its method.
PREFIX = "denoiser."


def time_features(step: Tensor) -> Tensor:
    """Return sines and cosines of steps, `[B, TIME_FEATURES]`."""
    frequencies = torch.exp(
        torch.arange(TIME_FEATURES // 2, device=step.device) * (-math.log(10_000) / (TIME_FEATURES // 2))
    )
    angles = step[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def initialise(network: nn.Module, generator: torch.Generator | None) -> None:
    """Draw the weights of all linear layers from a generator; biases become 0."""
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5, generator=generator)
            nn.init.zeros_(module.bias)


def weights_as_tensors(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a network's weights under the names that they have among a method's tensors."""
    return {PREFIX + name: tensor for name, tensor in weights.items()}


def load_weights(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Load a network's weights from a method's tensors."""
    network.load_state_dict(
        {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items() if name.startswith(PREFIX)}
    )


def noised(clean: Tensor, shares: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return vectors with the noise of random steps, and the steps.

    Args:
        clean: Vectors, `[B, D]`.
        shares: Share of the signal's variance at each step.
        generator: Source of steps and noise.
    """
    step = torch.randint(len(shares), (len(clean),), generator=generator)
    share = shares[step][:, None]
    return share.sqrt() * clean + (1 - share).sqrt() * torch.randn(clean.shape, generator=generator), step


def train_average(
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    loss_of_batch: Callable[[], Tensor],
    steps: int,
    *,
    name: str,
    schedule: torch.optim.lr_scheduler.LRScheduler | None = None,
    clip_norm: float | None = None,
) -> dict[str, Tensor]:
    """Train a network; return the exponential moving average of its weights.

    Args:
        network: Network whose weights are averaged.
        optimiser: Optimiser of the network.
        loss_of_batch: Function that draws a batch and returns its loss.
        steps: Optimiser steps.
        name: Name of the method, for messages.
        schedule: Schedule of the learning rate; None for a constant one.
        clip_norm: Largest norm of the gradient; None for any.

    Raises:
        GapError: When the loss is not finite.
    """
    average = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    for number in range(steps):
        loss = loss_of_batch()
        if not torch.isfinite(loss):
            raise GapError(f"the {name}'s loss is no number; use a lower learning rate")
        optimiser.zero_grad()
        loss.backward()
        if clip_norm is not None:
            nn.utils.clip_grad_norm_(network.parameters(), clip_norm)
        optimiser.step()
        if schedule is not None:
            schedule.step()
        # The first steps count less in the average, so that it does not keep the initial weights.
        decay = min(EMA_DECAY, (1 + number) / (10 + number))
        for key, tensor in network.state_dict().items():
            average[key].lerp_(tensor, 1 - decay)
    return average


def ddim(
    denoiser: Callable[[Tensor, Tensor], Tensor], start: Tensor, shares: Tensor, *, entry: int, count: int
) -> Tensor:
    """Denoise vectors from step `entry` to the end in `count` deterministic steps (DDIM, Song et al. 2021).

    Args:
        denoiser: Function of noisy vectors `[B, D]` and steps `[B]` to estimated vectors.
        start: Vectors at step `entry`.
        shares: Share of the signal's variance at each step.
        entry: First step.
        count: Number of steps.
    """
    shares = shares.to(start)
    steps = torch.linspace(entry, 0, count + 1, device=start.device).round().long()
    noisy = start
    for now, after in itertools.pairwise(steps):
        clean = denoiser(noisy, now.expand(len(noisy)))
        noise = (noisy - shares[now].sqrt() * clean) / (1 - shares[now]).sqrt()
        noisy = clean if after == 0 else shares[after].sqrt() * clean + (1 - shares[after]).sqrt() * noise
    return noisy
