"""Which clips a round of fitting sets aside."""

from __future__ import annotations

import numpy as np
import pytest

from vidaudio.tasks.correspondence.fit import MOST_SET_ASIDE, _kept


@pytest.mark.parametrize("share", [0.0, 0.3, MOST_SET_ASIDE])
def test_each_fold_sets_its_own_lowest_aside(share: float):
    generator = np.random.default_rng(0)
    folds = np.repeat([0, 1], 100)
    # The scores of the folds are of two models, and do not compare.
    scores = generator.normal(size=200) + 5 * folds
    kept = _kept(scores, folds, share)
    for fold in (0, 1):
        own = scores[folds == fold]
        assert kept[folds == fold].mean() == pytest.approx(1 - share, abs=0.02)
        assert not (share and own[kept[folds == fold]].min() < own[~kept[folds == fold]].max())


def test_a_scorer_that_doubts_all_clips_leaves_some_to_learn_from():
    assert _kept(np.zeros(10), np.repeat([0, 1], 5), MOST_SET_ASIDE).all()
    assert _kept(np.arange(10.0), np.repeat([0, 1], 5), MOST_SET_ASIDE).sum() >= 2
