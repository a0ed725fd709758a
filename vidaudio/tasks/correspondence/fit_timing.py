"""Fitting of the timing heads, one a fold, and what they tell clips from: the three kinds of negatives."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from vidaudio.correspondence.calibration import auc
from vidaudio.correspondence.scorer import FOLDS
from vidaudio.correspondence.timing import (
    TimingHead,
    TimingSettings,
    envelopes_at_one_rate,
    lag_curves,
    measure_timing,
    shifted_onsets,
    train_timing,
)
from vidaudio.cpus import one_thread
from vidaudio.tasks.correspondence.fit_data import LEAST_SOURCES, FitData, Labels
from vidaudio.tasks.correspondence.judging import SHIFT_SECONDS

MOST_CLIPS = 20_000
# Clips of which this is surer than not have timing that can be seen.
VISIBLE = 0.5


def fit_timing(
    data: FitData, usable: np.ndarray, settings: TimingSettings, advance: Callable[[int], object]
) -> tuple[list[TimingHead], dict[str, dict[str, float | None]]] | None:
    """Train a head a fold and measure them; None where too few clips have envelopes.

    Args:
        data: The clips.
        usable: Which clips to learn from, bool `[N]`.
        settings: How each head is trained.
        advance: Called with the number of steps just made.

    Returns:
        The heads; and by kind of negatives the area under the curve of `in_sync`, over all clips and over those whose
        timing can be seen.
    """
    known = np.array([row for row, envelopes in enumerate(data.envelopes) if envelopes is not None], np.int64)[
        :MOST_CLIPS
    ]
    if any((data.folds[known] == fold).sum() < LEAST_SOURCES // FOLDS for fold in range(FOLDS)):
        return None
    generator = np.random.default_rng(settings.seed)
    pairs = [
        (row, other) for row in known for other in data.other_sources(int(row), 1, generator, "another") if usable[row]
    ]
    pairs = [(row, other) for row, other in pairs if data.envelopes[other] is not None]
    heads = []
    for fold in range(FOLDS):
        rows = [row for row in known if data.folds[row] != fold and usable[row]]
        own = np.stack([_curves(data, row, row) for row in rows])
        swapped = np.stack([_curves(data, row, other) for row, other in pairs if data.folds[row] != fold])
        with one_thread():
            heads.append(train_timing(own, swapped, settings, advance))
    return heads, _measured(data, known, heads, generator)


def _curves(data: FitData, seen: int, heard: int) -> np.ndarray:
    """Return the lag curves of one clip's pictures with one's sound."""
    motion, onsets = (data.envelopes[row] for row in (seen, heard))
    assert motion is not None, "only clips with envelopes are drawn"
    assert onsets is not None, "only clips with envelopes are drawn"
    return lag_curves(*envelopes_at_one_rate(motion[0], onsets[1]))


def _measured(
    data: FitData, rows: np.ndarray, heads: Sequence[TimingHead], generator: np.random.Generator
) -> dict[str, dict[str, float | None]]:
    own, visible = [], []
    negatives: dict[str, list[tuple[bool, float]]] = {"other_source": [], "same_label": [], "shifted": []}
    for row in map(int, rows):
        head, envelopes = heads[data.folds[row]], data.envelopes[row]
        assert envelopes is not None, "only clips with envelopes are measured"
        motion, onsets = envelopes
        timing = measure_timing(head, motion, onsets)
        seen = timing.can_synchronise >= VISIBLE
        own.append(timing.in_sync)
        visible.append(seen)
        late = float(generator.uniform(*SHIFT_SECONDS) * generator.choice((-1, 1)))
        sounds = {"shifted": shifted_onsets(onsets, late)}
        kinds: tuple[tuple[str, Labels], ...] = (("other_source", "another"), ("same_label", "same"))
        for name, labels in kinds:
            for other in data.other_sources(row, 1, generator, labels):
                if (theirs := data.envelopes[other]) is not None:
                    sounds[name] = theirs[1]
        for name, sound in sounds.items():
            negatives[name].append((seen, measure_timing(head, motion, sound).in_sync))
    clips, shown = np.array(own), np.array(visible)
    return {name: _curves_of(clips, shown, pairs) for name, pairs in negatives.items()}


def _curves_of(own: np.ndarray, visible: np.ndarray, pairs: Sequence[tuple[bool, float]]) -> dict[str, float | None]:
    of_visible = np.array([score for seen, score in pairs if seen])
    scores = np.array([score for _, score in pairs])
    return {
        "all": round(auc(own, scores), 4) if len(scores) else None,
        "visible": round(auc(own[visible], of_visible), 4) if visible.any() and len(of_visible) else None,
    }
