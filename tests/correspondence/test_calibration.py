"""The share of mismatched pairs and P(corresponds), on scores whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from vidaudio.correspondence.calibration import (
    auc,
    calibrate,
    calibration_error,
    is_above_chance,
    mismatched_share,
    precision_at,
)


def drawn(share: float, distance: float, clips: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores of own pairs, of which a share is mismatched, of swapped pairs, and which own pairs correspond."""
    generator = np.random.default_rng(seed)
    truth = np.arange(clips) >= round(share * clips)
    own = generator.normal(size=clips) + distance * truth
    return own, generator.normal(size=4 * clips), truth


@pytest.mark.parametrize("share", [0.1, 0.2, 0.33, 0.5])
@pytest.mark.parametrize(("distance", "tolerance"), [(4.0, 0.02), (2.5, 0.03)])
def test_the_share_is_near_the_truth(share: float, distance: float, tolerance: float):
    estimates = [mismatched_share(*drawn(share, distance, 3000, seed)[:2]) for seed in range(10)]
    assert np.mean(estimates) == pytest.approx(share, abs=tolerance)
    assert np.std(estimates) < 0.05


@pytest.mark.parametrize("share", [0.1, 0.33, 0.5])
def test_the_interval_covers_the_truth_about_as_often_as_it_says(share: float):
    covered = 0
    for seed in range(20):
        own, swapped, _ = drawn(share, 3.5, 400, seed)
        found = calibrate(own, swapped, np.arange(400), np.repeat(np.arange(400), 4), resamples=100, seed=seed)
        assert 0 <= found.low <= found.mismatched_share <= found.high <= 1
        covered += found.low <= share <= found.high
    assert covered >= 17


@pytest.mark.parametrize("distance", [1.5, 3.0])
def test_probabilities_are_what_they_say(distance: float):
    own, swapped, truth = drawn(0.33, distance, 4000, 0)
    found = calibrate(own, swapped, np.arange(4000), np.repeat(np.arange(4000), 4), resamples=20)
    said = found.probability(own)
    assert calibration_error(said, truth) < 0.06
    assert (np.diff(found.probabilities) >= 0).all()
    assert said.min() >= 0
    assert said.max() <= 1
    # The precision that is expected of those kept is theirs.
    for kept, expected in zip((0.3, 0.6), precision_at(np.array([0.3, 0.6]), said), strict=True):
        best = np.argsort(-own)[: round(kept * len(own))]
        assert truth[best].mean() == pytest.approx(expected, abs=0.05)


def test_scores_of_chance_tell_nothing():
    sources = np.arange(60)
    chance = [is_above_chance(*drawn(1.0, 2.0, 60, seed)[:2], sources) for seed in range(200)]
    # One side of a test at 95 %, which is a little stricter with the four swapped pairs of each source.
    assert np.mean(chance) < 0.05
    assert all(is_above_chance(*drawn(0.3, 2.0, 60, seed)[:2], sources) for seed in range(20))
    own, swapped, _ = drawn(1.0, 2.0, 60, 0)
    found = calibrate(own, swapped, sources, np.repeat(sources, 4), resamples=20)
    assert (found.low, found.high) == (0, 1)
    # 60 clips of three sources are three, not 60.
    own, swapped, _ = drawn(0.5, 2.0, 60, 0)
    assert is_above_chance(own, swapped, sources)
    assert not is_above_chance(own, swapped, sources % 3)


def test_no_mismatch_and_no_overlap_are_no_special_cases():
    own, swapped = np.linspace(5, 6, 50), np.linspace(-6, -5, 200)
    with np.errstate(all="raise"):
        found = calibrate(own, swapped, np.arange(50), np.repeat(np.arange(50), 4), resamples=20)
    assert found.mismatched_share < 0.02
    assert found.probability(own).min() > 0.9
    assert found.probability(np.array([-5.5])) < 0.1


def test_clips_of_one_source_are_drawn_together():
    # 20 sources of 50 equal clips each: the interval is that of 20 numbers, not of 1,000.
    generator = np.random.default_rng(0)
    sources = np.repeat(np.arange(20), 50)
    own = np.repeat(np.where(np.arange(20) < 6, 0.0, 5.0), 50) + 0.1 * generator.normal(size=1000)
    swapped = 0.1 * generator.normal(size=4000)
    together = calibrate(own, swapped, sources, np.repeat(sources, 4))
    apart = calibrate(own, swapped, np.arange(1000), np.repeat(np.arange(1000), 4))
    assert together.mismatched_share == pytest.approx(0.3, abs=0.05)
    assert together.high - together.low > 1.5 * (apart.high - apart.low)


def test_one_source_alone_has_no_other():
    with pytest.raises(ValueError, match="one source alone"):
        calibrate(np.zeros(3), np.zeros(3), np.zeros(3, int), np.zeros(3, int))


def test_the_area_under_the_curve_is_the_share_of_pairs_in_order():
    generator = np.random.default_rng(1)
    positive, negative = generator.integers(0, 6, 40), generator.integers(0, 6, 30)
    slow = np.mean([(p > n) + 0.5 * (p == n) for p in positive for n in negative])
    assert auc(positive, negative) == pytest.approx(slow)


def test_the_calibration_error_is_the_mean_distance_over_bins():
    said, truth = np.array([0.05, 0.05, 0.95, 0.95]), np.array([False, True, True, True])
    assert calibration_error(said, truth) == pytest.approx((2 * abs(0.05 - 0.5) + 2 * abs(0.95 - 1)) / 4)
