"""Spans: the stated seconds of a sound that are generated, as frames of its mel and as crossfades of its samples."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from vidaudio.generation.mel import MelConfig

# Begin and end, seconds.
Span = tuple[float, float]
FADE_SECONDS = 0.02


def frames_of_spans(spans: Sequence[Span], frames: int, config: MelConfig) -> Tensor:
    """Return which frames of a mel contain any sample of the spans, bool `[frames]`.

    These frames are unknown if the spans are to be generated: each holds some of the sound that is replaced.
    """
    first = torch.arange(frames) * config.hop - (config.n_fft - config.hop) // 2
    found = torch.zeros(frames, dtype=torch.bool)
    for begin, end in spans:
        found |= (first + config.n_fft > begin * config.sample_rate) & (first < end * config.sample_rate)
    return found


def blend(original: Tensor, made: Tensor, spans: Sequence[Span], sample_rate: int) -> Tensor:
    """Return a sound that is `made` in the spans and `original` elsewhere.

    The crossfade lies inside the spans, with equal power, so that no sample outside is changed. At the ends of the
    sound there is none.

    Args:
        original: Sound, `[..., samples]`.
        made: Sound of the same length, `[..., samples]`.
        spans: Seconds that are taken from `made`.
        sample_rate: Sample rate of both, Hz.
    """
    samples = original.shape[-1]
    place = torch.arange(samples, dtype=torch.float64) + 0.5
    share = torch.zeros(samples, dtype=torch.float64)
    for begin, end in spans:
        first, last = round(begin * sample_rate), min(round(end * sample_rate), samples)
        fade = max(1.0, min(FADE_SECONDS * sample_rate, (last - first) / 2))
        rising = torch.ones_like(share) if first == 0 else (place - first) / fade
        falling = torch.ones_like(share) if last == samples else (last - place) / fade
        inside = (place > first) & (place < last)
        share = torch.maximum(share, torch.where(inside, torch.minimum(rising, falling).clamp(0, 1), 0.0))
    angle = share * (math.pi / 2)
    return original * angle.cos().to(original) + made.to(original) * angle.sin().to(original)
