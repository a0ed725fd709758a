"""Offsets that a pack corrects: those of clips whose sound is surely later or earlier than its pictures."""

from __future__ import annotations

import numpy as np
import pandas as pd

OFFSET_COLUMNS = ("offset_seconds", "offset_confidence")
# Less is within what is measured, and within what a viewer notices.
LEAST_SECONDS = 0.08


def sure_offsets(clips: pd.DataFrame, least_confidence: float) -> np.ndarray:
    """Return how much later the sound of each clip is than its pictures, float64 `[clips]`, seconds.

    It is 0 where the offset is not sure enough, is not known, or is less than two frames at 25 a second.

    Args:
        clips: Clips with the columns `OFFSET_COLUMNS`.
        least_confidence: Confidence from which an offset is corrected, 0 to 1.
    """
    offsets, confidence = (clips[name].to_numpy(np.float64, na_value=np.nan) for name in OFFSET_COLUMNS)
    sure = (confidence >= least_confidence) & (np.abs(offsets) >= LEAST_SECONDS)
    return np.where(sure, offsets, 0.0)
