"""Windows of a clip that are scored: a stretch of sound, and the pictures on screen during it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

WINDOW_SECONDS = 4.0
# What is left at a clip's end is a window of its own from this length on; a shorter rest is left out.
LEAST_SECONDS = 1.0


def window_starts(seconds: float) -> np.ndarray:
    """Return the starts of the windows of a sound, float64 `[windows]`, seconds: one after the other, at least one.

    Args:
        seconds: Length of the sound.
    """
    whole = int(seconds // WINDOW_SECONDS)
    rest = seconds - whole * WINDOW_SECONDS
    return np.arange(max(1, whole + (rest >= LEAST_SECONDS))) * WINDOW_SECONDS


def sound_window(samples: np.ndarray, sample_rate: int, start_seconds: float) -> np.ndarray:
    """Return one window of a sound, `[samples]`; what the sound lacks at its end is silence."""
    first, length = round(start_seconds * sample_rate), round(WINDOW_SECONDS * sample_rate)
    window = samples[first : first + length]
    return np.pad(window, (0, length - len(window)))


def picture_of_window(
    vectors: np.ndarray, grid_seconds: Sequence[float] | np.ndarray, audio_start_seconds: float, start_seconds: float
) -> np.ndarray:
    """Return the mean direction of the pictures on screen during a window, float32 `[D]`, unit length.

    Args:
        vectors: Vectors of the clip's pictures `[pictures, D]`.
        grid_seconds: When each picture is on screen, on the clip's clock.
        audio_start_seconds: When the sound begins, on the clip's clock.
        start_seconds: Start of the window in the sound. Without a picture in it, the nearest one stands for it.
    """
    times = np.asarray(grid_seconds) - audio_start_seconds
    inside = (times >= start_seconds - 1e-6) & (times < start_seconds + WINDOW_SECONDS)
    if not inside.any():
        inside[np.abs(times - start_seconds - WINDOW_SECONDS / 2).argmin()] = True
    chosen = unit(vectors[inside].astype(np.float32))
    return unit(chosen.mean(axis=0))


def unit(vectors: np.ndarray) -> np.ndarray:
    """Return vectors `[..., D]` scaled to length 1; a zero vector stays zero."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
