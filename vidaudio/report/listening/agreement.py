"""Agreement of listeners: Krippendorff's alpha."""

from __future__ import annotations

import numpy as np


def krippendorff_alpha(ratings: np.ndarray, *, nominal: bool) -> float | None:
    """Return Krippendorff's alpha (Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", section E).

    1 is agreement, 0 is chance, and a negative value is worse than chance.

    Args:
        ratings: Float [listeners, units], NaN where a listener gave no rating.
        nominal: Whether values are categories, equal or different; otherwise they are numbers, whose differences are
            squared (interval).

    Returns:
        None if nothing can be compared: no unit with two ratings, or the same value throughout.
    """
    values = np.unique(ratings[~np.isnan(ratings)])
    coincidences = np.zeros((len(values), len(values)))
    for unit in ratings.T:
        counts = (unit[~np.isnan(unit)][:, None] == values).sum(0).astype(np.float64)
        if (raters := counts.sum()) > 1:
            coincidences += (np.outer(counts, counts) - np.diag(counts)) / (raters - 1)
    totals = coincidences.sum(0)
    pairable = totals.sum()
    distance = values[:, None] != values if nominal else np.square(values[:, None] - values)
    expected = float((np.outer(totals, totals) * distance).sum())
    if expected == 0:
        return None
    return 1 - (pairable - 1) * float((coincidences * distance).sum()) / expected
