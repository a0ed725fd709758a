"""Training examples: the spectrogram of a mixture and, for each of its sources, the mask that would extract it.

All systems share them: systems differ in the query path, the heads and the loss, not in their input and targets.
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
    """Spectrograms and targets of B mixtures of N sources, float32, without gradients.

    Attributes:
        log_magnitude: Input of the networks, [B, 1, H, W].
        targets: Binary masks of the sources, [B, N, H, W].
        weights: Weight of each pixel in the loss, [B, H, W].
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
    """Mix the sources, transform and warp them, on the device of the samples.

    Args:
        front_end: The model's STFT and warp.
        audio: Samples of the sources, int16 or float [B, N, L]; L is the front end's window_samples.
        gains: Gains of the sources, [B, N], or None for 1, see `mix_sources`.
        pixel_weight: Kind of pixel weights, see `pixel_weights`.

    Raises:
        ValueError: When L is not the front end's window_samples.
    """
    expected = front_end.config.window_samples
    if audio.shape[-1] != expected:
        raise ValueError(f"The sources have {audio.shape[-1]} samples; the front end's window has {expected}.")
    sources, mixture = mix_sources(audio, gains)
    magnitudes = front_end.to_log(front_end.stft(torch.cat([sources, mixture[:, None]], dim=1)).abs())
    # The warp's weights sum to 1: adding the floor after the warp is the same as before it.
    source_magnitudes, magnitude = magnitudes[:, :-1], magnitudes[:, -1] + MAGNITUDE_FLOOR
    return MixtureExample(
        log_magnitude=magnitude.log()[:, None],
        targets=binary_targets(source_magnitudes, magnitude),
        weights=pixel_weights(magnitude, pixel_weight),
    )


def network_input(front_end: FrontEnd, spectrum: Tensor, scale: Literal["log", "log1p"] = "log") -> Tensor:
    """Return what the networks read of mixtures: complex [B, bins, T] -> float32 [B, 1, log_rows, T].

    Args:
        front_end: The model's STFT and warp.
        spectrum: Spectra of the mixtures.
        scale: `log`, log(|X| + 1e-10) (CLIPSep), or `log1p`, log(1 + |X|) (BiModal).
    """
    if scale == "log1p":
        return front_end.to_log(spectrum.abs()).log1p()[:, None]
    return mixture_magnitude(front_end, spectrum).log()[:, None]


def mixture_magnitude(front_end: FrontEnd, spectrum: Tensor) -> Tensor:
    """Return the warped |X| + 1e-10, which has a logarithm: complex [..., bins, T] -> float32 [..., log_rows, T]."""
    return front_end.to_log(spectrum.abs() + MAGNITUDE_FLOOR)
