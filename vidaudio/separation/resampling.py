"""Any sample rate to any other, by polyphase filtering at the exact rational ratio."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from scipy.signal import resample_poly


def resample(audio: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    """Resample along the last axis with scipy's linear-phase anti-aliasing filter (Kaiser window, beta 5).

    Args:
        audio: Floating point [..., L].
        from_rate: Its sample rate, Hz.
        to_rate: The wanted one, Hz.

    Returns:
        float32 [..., ceil(L to_rate / from_rate)]; a copy when the rates are equal.

    Raises:
        ValueError: A rate below 1, or integer samples (scale them first).
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
