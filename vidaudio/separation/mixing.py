"""Mixing of sources on the device: the loader delivers int16 samples, and tensor arithmetic does the rest."""

from __future__ import annotations

import torch
from torch import Tensor

INT16_SCALE = 32768.0


def mix_sources(audio: Tensor, gains: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Scale, clip and sum the sources of each example, as CLIPSep's loader does.

    int16 samples are divided by 32768. Each source is multiplied by its gain, clipped to [-1, 1] and divided by N, so
    that the mixture, their sum, stays in [-1, 1].

    Args:
        audio: Samples of N sources, int16 or floating point in [-1, 1], shape [B, N, L].
        gains: Gain of each source, shape [B, N] (training: uniform in [0.5, 1.5]); None for 1.

    Returns:
        Sources float32 [B, N, L] and mixture float32 [B, L], on audio's device.

    Raises:
        ValueError: When a shape or type differs from these.
    """
    if audio.ndim != 3:
        raise ValueError(f"audio has shape {tuple(audio.shape)}; expected [batch, sources, samples].")
    if audio.dtype == torch.int16:
        sources = audio.float() / INT16_SCALE
    elif audio.dtype.is_floating_point:
        sources = audio.float()
    else:
        raise ValueError(f"audio is {audio.dtype}; expected int16 or floating point in [-1, 1].")
    if gains is not None:
        if gains.shape != audio.shape[:2]:
            raise ValueError(f"gains have shape {tuple(gains.shape)}; expected {tuple(audio.shape[:2])}.")
        sources = sources * gains[..., None].float()
    sources = sources.clamp(-1, 1) / audio.shape[1]
    return sources, sources.sum(dim=1)
