"""Scores of the clips that a scorer was fitted to, and of three kinds of negatives, each by the other fold's model."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from vidaudio.correspondence.calibration import auc
from vidaudio.correspondence.model import CorrespondenceModel
from vidaudio.correspondence.normalisation import PARTNERS, Partners
from vidaudio.correspondence.scorer import FOLDS
from vidaudio.tasks.correspondence.fit_data import FitData
from vidaudio.tasks.correspondence.training import encode_cached

NEGATIVES = {
    "other_source": "of another source, another label",
    "same_label": "of another source, same label",
    "shifted": "its own sound, 0.5 to 2 s off",
}
# Pairs with another source that are drawn of each clip.
SWAPPED = 4
SHIFT_SECONDS = (0.5, 2.0)

Encoded = tuple[np.ndarray, np.ndarray]


class JudgedClips:
    """Scores of all clips and of negatives.

    Args:
        data: The clips.
        models: One a fold, trained on the sources of the other one.
        usable: Which clips may be partners, and lend their sound to another's pictures, bool `[N]`: a clip that has
            another label's sound itself would lend one that may fit.
        seed: Of the draws.

    Attributes:
        partners: One a fold.
        own: Normalised score of each clip `[N]`.
        own_sources: Number of its source `[N]`.
        other_source: Scores of pictures with the sound of another source and, where there are labels, another label
            `[M]`: what is heard from off screen is rarely one more of what is seen.
        other_sources: Number of the source of those pictures `[M]`.
    """

    def __init__(self, data: FitData, models: Sequence[CorrespondenceModel], usable: np.ndarray, seed: int) -> None:
        self._data, self._models, self._seed = data, models, seed
        generator = np.random.default_rng(seed)
        rows = range(len(data.clips))
        self._windows = [self._encoded(row) for row in rows]
        self.partners = [self._partners(fold, usable, generator) for fold in range(FOLDS)]
        others = [(row, o) for row in rows for o in data.other_sources(row, SWAPPED, generator, "another", usable)]
        self.own = np.array([self._score(row, *self._windows[row]) for row in rows])
        self.own_sources = np.array([clip.source for clip in data.clips])
        self.other_source = self._exchanged(others)
        self.other_sources = self.own_sources[[row for row, _ in others]]

    @functools.cached_property
    def same_label(self) -> np.ndarray:
        """Scores of pictures with the sound of another source and the same label."""
        generator = np.random.default_rng([self._seed, 1])
        rows = range(len(self._data.clips))
        return self._exchanged([(row, o) for row in rows for o in self._data.other_sources(row, 1, generator, "same")])

    @functools.cached_property
    def shifted(self) -> np.ndarray:
        """Scores of clips whose own sound is shifted."""
        generator, count = np.random.default_rng([self._seed, 2]), len(self._data.clips)
        late = generator.uniform(*SHIFT_SECONDS, count) * generator.choice((-1, 1), count)
        return np.array([self._score(row, *self._encoded(row, float(late[row]))) for row in range(count)])

    def auc(self, negatives: str) -> float | None:
        """Return the area under the curve of the clips against some negatives; None where there are none."""
        scores = getattr(self, negatives)
        return round(auc(self.own, scores), 4) if len(scores) else None

    def _exchanged(self, pairs: Sequence[tuple[int, int]]) -> np.ndarray:
        """Return the scores of clips' pictures with other clips' sounds."""
        return np.array([self._score(row, self._windows[other][0], self._windows[row][1]) for row, other in pairs])

    def _encoded(self, row: int, late_seconds: float = 0.0) -> Encoded:
        model = self._models[self._data.folds[row]]
        return encode_cached(model, self._data.cache, row, self._data.clips[row], late_seconds)

    def _score(self, row: int, sounds: np.ndarray, pictures: np.ndarray) -> float:
        windows = min(len(sounds), len(pictures))
        partners = self.partners[self._data.folds[row]]
        return partners.normalised(sounds[:windows], pictures[:windows], int(self._data.sources[row]))[1]

    def _partners(self, fold: int, usable: np.ndarray, generator: np.random.Generator) -> Partners:
        rows = generator.permutation(np.flatnonzero((self._data.folds == fold) & usable))[:PARTNERS]
        sounds, pictures = (np.stack([self._windows[row][part].mean(axis=0) for row in rows]) for part in (0, 1))
        return Partners(sounds, pictures, self._data.sources[rows])
