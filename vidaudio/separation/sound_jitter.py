"""Random changes of a sound before a frozen model judges it, so that a separator cannot please one exact waveform.

A separator that is trained through a frozen model may learn sounds that the model likes and nobody hears. What pleases
the model only at one level, one place in time and in one band is lost under these changes; what sounds right is not.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

LOWEST_HERTZ = 50.0
# Below this, an octave of frequencies may have no bin of its own.
LEAST_SAMPLES = 8


def jitter(
    sound: Tensor,
    generator: torch.Generator,
    *,
    sample_rate: int,
    gain_db: float = 0.0,
    crop_share: float = 0.0,
    band_noise_db: float | None = None,
) -> Tensor:
    """Add noise of one octave to sounds, change their levels and crop them, each sound by draws of its own.

    The result depends on the sound and on the generator's state alone, and is differentiable in the sound; the level of
    the noise counts as a constant. A change that is switched off draws nothing.

    Args:
        sound: Sounds, floating point `[N, samples]`.
        generator: Source of all draws, on any device: one on the CPU draws the same for every device of the sound.
        sample_rate: Sample rate of the sounds, Hz.
        gain_db: Largest gain and loss, dB, at least 0: gains are uniform in dB, from -gain_db to +gain_db.
        crop_share: Largest share of a sound that is cut away, 0 to below 1. Which share, and where the rest begins, is
            uniform. The rest moves to the beginning, and silence follows it.
        band_noise_db: Level of the noise relative to the sound's own RMS, dB; None for no noise. The noise fills an
            octave whose lower edge is uniform on a logarithmic scale, from 50 Hz to half the Nyquist frequency.

    Returns:
        Changed sounds `[N, samples]`; the sound itself if all changes are switched off.

    Raises:
        ValueError: When the sounds have another form, a value is out of its range, or sounds for noise are shorter
            than 8 samples or have a sample rate of 200 Hz or less.
    """
    if sound.ndim != 2 or not sound.is_floating_point():
        raise ValueError(f"sounds are floating point [N, samples], not {sound.dtype} {list(sound.shape)}")
    if not 0 <= gain_db < math.inf:
        raise ValueError(f"gain_db is at least 0 and finite, not {gain_db}")
    if not 0 <= crop_share < 1:
        raise ValueError(f"crop_share is at least 0 and below 1, not {crop_share}")
    if band_noise_db is not None:
        sound = sound + _band_noise(sound, generator, sample_rate, band_noise_db)
    if gain_db:
        gains = gain_db * (2 * _uniform(len(sound), generator) - 1)
        sound = sound * (10 ** (gains / 20)).to(sound)[:, None]
    return _cropped(sound, generator, crop_share) if crop_share else sound


def _uniform(count: int, generator: torch.Generator) -> Tensor:
    return torch.rand(count, generator=generator, device=generator.device, dtype=torch.float64)


def _band_noise(sound: Tensor, generator: torch.Generator, sample_rate: int, level_db: float) -> Tensor:
    """Return noise of one octave for each sound, `[N, samples]`, at a level relative to the sound's RMS."""
    samples, highest = sound.shape[1], sample_rate / 4
    if samples < LEAST_SAMPLES or highest <= LOWEST_HERTZ:
        raise ValueError(
            f"noise of an octave needs {LEAST_SAMPLES} samples and more than {4 * LOWEST_HERTZ:g} Hz, not {samples} "
            f"samples at {sample_rate} Hz"
        )
    # An octave from the second bin on holds at least two bins.
    lowest = min(max(LOWEST_HERTZ, 2 * sample_rate / samples), highest)
    low = lowest * (highest / lowest) ** _uniform(len(sound), generator)[:, None]
    white = torch.randn(sound.shape, generator=generator, device=generator.device)
    hertz = torch.fft.rfftfreq(samples, 1 / sample_rate, device=generator.device, dtype=torch.float64)
    noise = torch.fft.irfft(torch.fft.rfft(white) * ((hertz >= low) & (hertz < 2 * low)), n=samples)
    noise = (noise / noise.square().mean(dim=1, keepdim=True).sqrt()).to(sound)
    rms = sound.detach().float().square().mean(dim=1, keepdim=True).sqrt().to(sound)
    return noise * rms * 10 ** (level_db / 20)


def _cropped(sound: Tensor, generator: torch.Generator, share: float) -> Tensor:
    """Return a part of each sound, moved to the beginning, with silence after it, `[N, samples]`."""
    samples = sound.shape[1]
    removed = (samples * share * _uniform(len(sound), generator)).floor()
    starts = ((removed + 1) * _uniform(len(sound), generator)).floor().minimum(removed)
    rows = zip(sound, starts.long().tolist(), removed.long().tolist(), strict=True)
    return torch.stack([F.pad(row[first : samples - cut + first], (0, cut)) for row, first, cut in rows])
