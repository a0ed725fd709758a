"""Resampling between any two sample rates, by polyphase filtering at the exact rational ratio."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from scipy.signal import resample_poly


def resample(audio: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    """Resample along the last axis with scipy's linear-phase anti-aliasing filter (Kaiser window, beta 5).

    Args:
        audio: Sound, floating point [..., L].
        from_rate: Sample rate of the sound, Hz.
        to_rate: Sample rate of the result, Hz.

    Returns:
        float32 [..., ceil(L to_rate / from_rate)]; a copy when the rates are equal.

    Raises:
        ValueError: When a rate is below 1, or the samples are not floating point (scale integers first).
    """
    if from_rate < 1 or to_rate < 1:
        raise ValueError(f"Sample rates must be at least 1 Hz; got {from_rate} and {to_rate}.")
    audio = np.asarray(audio)
    if not np.issubdtype(audio.dtype, np.floating):
        raise ValueError(f"audio is {audio.dtype}; expected floating point (int16 / 32768).")
    ratio = Fraction(to_rate, from_rate)
    if ratio == 1 or audio.shape[-1] == 0:
        return audio.astype(np.float32)
    return resample_poly(audio, ratio.numerator, ratio.denominator, axis=-1).astype(np.float32)
