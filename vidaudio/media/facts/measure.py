"""All facts of a clip's sound and pictures, by the fields of the facts table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vidaudio.media.facts.pictures import measure_pictures
from vidaudio.media.facts.sound import measure_sound

ENVELOPES = ("motion_envelope", "onset_envelope")


def measure_media(
    samples: np.ndarray, sample_rate: int, start_seconds: float, images: Sequence[np.ndarray]
) -> dict[str, Any]:
    """Return what is measured of a clip's sound and pictures, without motion.

    Args:
        samples: Mono sound, int16 `[samples]`, at least one.
        sample_rate: Hz.
        start_seconds: Time of the first sample on the clip's clock.
        images: RGB pictures in order, uint8 `[size, size, 3]`, at least one.
    """
    sound, pictures = measure_sound(samples, sample_rate, start_seconds), measure_pictures(images)
    return {
        "loudness_lufs": round(sound.loudness_lufs, 2),
        "silent_share": round(sound.silent_share, 4),
        "clipped_share": sound.clipped_share,
        "bandwidth_hz": round(sound.bandwidth_hz, 1),
        "onset_envelope": as_float16(sound.onsets),
        "still_share": round(pictures.still_share, 4),
        "black_share": round(pictures.black_share, 4),
        "cuts": pictures.cuts,
    }


def as_float16(values: np.ndarray) -> np.ndarray:
    """Return values that are not negative as float16, those too large for it as its largest."""
    return np.minimum(values, np.finfo(np.float16).max).astype(np.float16)
