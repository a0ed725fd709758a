"""Masks of mels: what a part of a sound is in each band, put on the spectrum of the sound itself.

A mel has no phases. The ratio of a part's mel to the mixture's needs none: as a mask on the mixture's short-time
spectrum it keeps the mixture's phases.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from vidaudio.generation.mel import MelFrontEnd

# Frames whose spectra are in memory at a time.
BLOCK_FRAMES = 2048


def mel_ratio(part: Tensor, whole: Tensor, front_end: MelFrontEnd) -> Tensor:
    """Return the ratio of magnitudes of two mels in [-1, 1], clipped to [0, 1], `[..., bands, frames]`."""
    return (front_end.to_log(part) - front_end.to_log(whole)).exp().clamp(0, 1)


def bin_weights(filters: Tensor) -> Tensor:
    """Return the weight of each mel band in each frequency bin, `[bins, bands]`; the weights of a bin sum to 1.

    A bin that no filter covers, as at 0 Hz, has the weights of the nearest one that is covered.
    """
    total = filters.sum(0)
    covered = total.nonzero()[:, 0]
    bins = torch.arange(filters.shape[1], device=filters.device)
    nearest = covered[(bins[:, None] - covered[None]).abs().argmin(1)]
    return (filters / total.clamp_min(torch.finfo(filters.dtype).tiny))[:, nearest].T


def apply_mask(audio: Tensor, mask: Tensor, front_end: MelFrontEnd) -> Tensor:
    """Return a sound whose short-time spectrum is multiplied by a mask of mel bands.

    The frames are those of the mel, so a mask of ones gives the sound back, and the sounds of two masks that sum to 1
    sum to the sound.

    Args:
        audio: Sound, float32 `[channels, frames * hop]`.
        mask: Mask, the same for all channels, `[bands, frames]`.
        front_end: Front end of the mel.

    Returns:
        float32 `[channels, frames * hop]`.
    """
    config, window = front_end.config, front_end.window
    around = (config.n_fft - config.hop) // 2
    frames = mask.shape[-1]
    padded = functional.pad(audio[:, None], (around, around), mode="reflect")[:, 0]
    weights = bin_weights(front_end.filters)
    output, total = torch.zeros_like(padded), padded.new_zeros(padded.shape[-1])
    for first in range(0, frames, BLOCK_FRAMES):
        part = mask[:, first : first + BLOCK_FRAMES]
        place = slice(first * config.hop, (first + part.shape[-1] - 1) * config.hop + config.n_fft)
        spectrum = torch.stft(
            padded[:, place], config.n_fft, config.hop, window=window, center=False, return_complex=True
        )
        masked = torch.fft.irfft(spectrum * (weights @ part), n=config.n_fft, dim=1) * window[:, None]
        output[:, place] += _overlap_add(masked, config.hop)
        total[place] += _overlap_add((window**2)[None, :, None].expand(1, -1, part.shape[-1]), config.hop)[0]
    inside = slice(around, around + config.samples(frames))
    return output[:, inside] / total[inside]


def _overlap_add(frames: Tensor, hop: int) -> Tensor:
    """Return the sum of frames, `[B, n_fft, frames]` to `[B, samples]`."""
    size, count = frames.shape[1:]
    samples = (count - 1) * hop + size
    return functional.fold(frames, (1, samples), (1, size), stride=(1, hop))[:, 0, 0]
