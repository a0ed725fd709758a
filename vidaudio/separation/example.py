"""What a training step compares: the picture of a mixture, and of each of its sources the mask that would pull it out.

Shared by every system: they differ in the query path, the heads and the loss, not in what they look at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from vidaudio.separation.frontend import FrontEnd
from vidaudio.separation.losses import binary_targets, pixel_weights
from vidaudio.separation.mixing import mix_sources

MAGNITUDE_FLOOR = 1e-10


@dataclass(frozen=True, slots=True)
class MixtureExample:
    """Pictures of B mixtures of N sources, float32, without gradients.

    `log_magnitude` [B, 1, H, W] is the networks' input, `targets` [B, N, H, W] are the binary masks, `weights`
    [B, H, W] say how much each pixel counts.
    """

    log_magnitude: Tensor
    targets: Tensor
    weights: Tensor


@torch.no_grad()
def make_example(
    front_end: FrontEnd,
    audio: Tensor,
    gains: Tensor | None = None,
    *,
    pixel_weight: Literal["clamped_log", "magnitude"] = "clamped_log",
) -> MixtureExample:
    """Mix, transform and warp on the device of the samples.

    Args:
        audio: int16 or float [B, N, L], L the front end's window_samples.
        gains: [B, N] or None, see `mix_sources`.
        pixel_weight: See `pixel_weights`.

    Raises:
        ValueError: L is not what the front end's frames need.
    """
    expected = front_end.config.window_samples
    if audio.shape[-1] != expected:
        raise ValueError(f"The sources have {audio.shape[-1]} samples; the front end's window has {expected}.")
    sources, mixture = mix_sources(audio, gains)
    magnitudes = front_end.to_log(front_end.stft(torch.cat([sources, mixture[:, None]], dim=1)).abs())
    # The warp's weights sum to 1: the floor may as well be added after it.
    source_magnitudes, magnitude = magnitudes[:, :-1], magnitudes[:, -1] + MAGNITUDE_FLOOR
    return MixtureExample(
        log_magnitude=magnitude.log()[:, None],
        targets=binary_targets(source_magnitudes, magnitude),
        weights=pixel_weights(magnitude, pixel_weight),
    )


def mixture_magnitude(front_end: FrontEnd, spectrum: Tensor) -> Tensor:
    """Warped |X| + 1e-10, so that its logarithm exists: complex [..., bins, T] -> float32 [..., log_rows, T]."""
    return front_end.to_log(spectrum.abs() + MAGNITUDE_FLOOR)
