"""Guidance: a stronger condition at sampling than in training.

The network is asked twice, with the condition and with something weaker: no condition (classifier-free guidance; Ho and
Salimans, 2022), another condition that is unwanted (a negative prompt), or a weaker network (autoguidance; Karras et
al., 2024). The prediction moves from the weaker one through the stronger one: weaker + scale (stronger - weaker), so
that a scale of 1 is none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from vidaudio.errors import UsageError
from vidaudio.generation.denoiser import Denoiser
from vidaudio.generation.diffusion import TIME_SCALE

# Noisy mels [B, 1, bands, frames] and times [B] to the network's output.
Predictor = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Guidance:
    """Settings of guidance.

    Attributes:
        scale: Scale w; 1 is none, 0 ignores the condition.
        interval: Part of the time in which it acts, from 0 (clean) to 1 (noise) (Kynkäänniemi et al., NeurIPS 2024).
        rescale: Share by which the prediction's spread is brought back to that of the condition's own prediction (Lin
            et al., WACV 2024, section 3.4); EzAudio uses 0.7.

    Raises:
        UsageError: When a value is out of its range.
    """

    scale: float = 1.0
    interval: tuple[float, float] = (0.0, 1.0)
    rescale: float = 0.0

    def __post_init__(self) -> None:
        low, high = self.interval
        if not 0 <= self.scale <= 100:
            raise UsageError(f"guidance of {self.scale:g}: a scale between 0 and 100 is wanted; 1 is none")
        if not 0 <= low < high <= 1:
            raise UsageError(f"guidance between {low:g} and {high:g}: two parts of the time are wanted, 0 to 1, rising")
        if not 0 <= self.rescale <= 1:
            raise UsageError(f"guidance rescaled by {self.rescale:g}: a share between 0 and 1 is wanted")

    def acts_at(self, time: float) -> bool:
        """Return whether guidance acts at a time between 0 and 1000."""
        low, high = self.interval
        return self.scale != 1 and low <= time / TIME_SCALE <= high


def guided(
    network: Denoiser,
    condition: Tensor,
    guidance: Guidance,
    *,
    negative: Tensor | None = None,
    weaker: Denoiser | None = None,
) -> Predictor:
    """Return a predictor with guidance.

    Args:
        network: Network of the generator.
        condition: Conditions, `[B, D]`.
        guidance: Settings.
        negative: Conditions to move away from, `[B, D]`; None for no condition.
        weaker: Network to move away from, which is asked with the condition (autoguidance); None for `network`.
    """

    def predict(noisy: Tensor, times: Tensor) -> Tensor:
        if not guidance.acts_at(float(times[0])):
            return network(noisy, times, condition)
        if weaker is not None:
            strong, weak = network(noisy, times, condition), weaker(noisy, times, condition)
        else:
            # Both in one pass.
            other = torch.zeros_like(condition) if negative is None else negative
            is_used = torch.ones(2 * len(noisy), dtype=torch.bool, device=noisy.device)
            is_used[len(noisy) :] = negative is not None
            both = network(torch.cat([noisy, noisy]), torch.cat([times, times]), torch.cat([condition, other]), is_used)
            strong, weak = both.chunk(2)
        moved = weak[:, :1] + guidance.scale * (strong[:, :1] - weak[:, :1])
        if guidance.rescale:
            spread = strong[:, :1].flatten(1).std(1) / moved.flatten(1).std(1).clamp_min(1e-8)
            moved = moved * (guidance.rescale * spread + 1 - guidance.rescale).reshape(-1, 1, 1, 1)
        # The variance is that of the condition.
        return torch.cat([moved, strong[:, 1:]], dim=1)

    return predict
