"""Choice of a pack's clips: the selection and the thresholds, and the cause for every clip that they leave out."""

from __future__ import annotations

import numpy as np
import pandas as pd

from vidaudio.packs.selection import selected
from vidaudio.packs.thresholds import Thresholds

# Causes for which clips are in no sample of a pack, in the order in which they are looked for.
NOT_EXTRACTED, WHERE, KEEP_TOP = "not_extracted", "where", "keep_top"
TOO_SHORT, NEAR_DUPLICATE = "too_short", "near_duplicate"
CHOSEN = ""


def causes(clips: pd.DataFrame, where: str | None, thresholds: Thresholds | None) -> np.ndarray:
    """Return why each usable clip is left out, `where` or `keep_top`, or `CHOSEN`; texts `[clips]`.

    Args:
        clips: Clips with the columns that the selection and the thresholds read.
        where: Expression of the selection; None selects all clips.
        thresholds: Least scores; None keeps every selected clip.

    Raises:
        SelectionError: When the expression is not valid.
    """
    is_selected = clips.index.isin(selected(clips, where).index)
    found = np.where(is_selected, CHOSEN, WHERE).astype(object)
    if thresholds is not None:
        found[is_selected & ~thresholds.keeps(clips)] = KEEP_TOP
    return found
