"""Least scores of a pack: the best share of its clips, and the best of every label, resolved to numbers once.

A threshold for all clips wipes out whole labels, whose sounds a scorer finds harder. So every label can keep its best
clips, whatever the threshold.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from vidaudio.config.corpus import PackBlock

# By which clips are ranked: P(corresponds) has many equal values.
RANKED_BY = "correspondence"
# Columns that `keeps` reads.
READ = (RANKED_BY, "labels")


@dataclass(frozen=True)
class Thresholds:
    """Least scores.

    Attributes:
        score: Of any clip; infinity where only the best of every label are kept.
        by_label: Least score of a clip of a label that is kept all the same.
    """

    score: float
    by_label: Mapping[str, float]

    def keeps(self, clips: pd.DataFrame) -> np.ndarray:
        """Return which clips are kept, bool `[clips]`; one without a score is not."""
        scores = clips[RANKED_BY].to_numpy(np.float64)
        kept = scores >= self.score
        if self.by_label:
            floors = [
                min((self.by_label.get(label, math.inf) for label in labels), default=math.inf)
                for labels in clips["labels"]
            ]
            kept |= scores >= np.array(floors)
        return kept

    def as_dict(self) -> dict[str, Any]:
        """Return the thresholds, JSON-able."""
        return {"score": None if math.isinf(self.score) else self.score, "by_label": dict(self.by_label)}


def resolve_thresholds(batches: Iterable[pd.DataFrame], settings: PackBlock) -> Thresholds | None:
    """Return the thresholds that the settings come to; None if they ask for none.

    Args:
        batches: The clips that the rest of the selection leaves, with the columns `READ`.
        settings: Settings of the pack.
    """
    if settings.keep_top is None and settings.keep_per_label is None:
        return None
    scores: list[np.ndarray] = []
    by_label: dict[str, list[float]] = {}
    for clips in batches:
        values = clips[RANKED_BY].to_numpy(np.float64)
        scores.append(values)
        if settings.keep_per_label is not None:
            for value, labels in zip(values.tolist(), clips["labels"], strict=True):
                for label in labels:
                    by_label.setdefault(label, []).append(value)
    known = np.concatenate([np.zeros(0), *scores])
    least = _least(known, settings.keep_top) if settings.keep_top is not None else math.inf
    share = settings.keep_per_label
    floors = {} if share is None else {label: _least(np.array(of), share) for label, of in sorted(by_label.items())}
    return Thresholds(least, {label: floor for label, floor in floors.items() if not math.isinf(floor)})


def _least(scores: np.ndarray, share: float) -> float:
    """Return the least score of the best share of clips, rounded up to a whole clip; infinity without scores."""
    ranked = np.sort(scores[~np.isnan(scores)])[::-1]
    return float(ranked[math.ceil(share * len(ranked)) - 1]) if len(ranked) else math.inf
