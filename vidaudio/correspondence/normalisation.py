"""A score without hubs: where a clip's own score lies among those with fixed partners of other sources, both ways.

A raw cosine has hubs: some sounds are close to every picture. So it is compared with the scores of the same sound with
other clips' pictures, and of the same pictures with other clips' sounds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

PARTNERS = 256
# Spread of partners' scores below which a clip's own would be divided by nothing.
LEAST_SPREAD = 1e-3


@dataclass(frozen=True)
class Partners:
    """Fixed clips that every clip of a fold is compared with.

    Attributes:
        sounds, pictures: Unit vectors of their windows `[K, D]`.
        sources: Hash of the source of each, uint64 `[K]`.
    """

    sounds: np.ndarray
    pictures: np.ndarray
    sources: np.ndarray

    def normalised(self, sounds: np.ndarray, pictures: np.ndarray, source: int) -> tuple[float, float]:
        """Return the raw score of a clip and the one normalised both ways.

        Args:
            sounds: Unit vectors of the sound of the clip's windows `[windows, D]`.
            pictures: Unit vectors of the pictures of those windows `[windows, D]`.
            source: Hash of the clip's source; partners of the same source are left out.

        Returns:
            The mean cosine over the windows, -1 to 1; and the mean of its two distances from the partners' means, in
            standard deviations.
        """
        raw = float(np.einsum("wd,wd->w", sounds, pictures).mean())
        others = self.sources != np.uint64(source)
        by_sound = (sounds.mean(axis=0) @ self.pictures.T)[others]
        by_picture = (pictures.mean(axis=0) @ self.sounds.T)[others]
        return raw, (_distance(raw, by_sound) + _distance(raw, by_picture)) / 2


def _distance(score: float, others: np.ndarray) -> float:
    return float((score - others.mean()) / max(float(others.std()), LEAST_SPREAD))
