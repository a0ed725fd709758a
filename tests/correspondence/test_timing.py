"""Timing: lag curves against a slow formula, planted offsets found, shifts of an envelope."""

from __future__ import annotations

import numpy as np
import pytest

from vidaudio.correspondence.timing import (
    LAGS,
    ONSETS_A_MOTION,
    RATE,
    WIDE_LAGS,
    TimingSettings,
    envelopes_at_one_rate,
    lag_curves,
    measure_timing,
    read_timing,
    shifted_onsets,
    train_timing,
)
from vidaudio.media.facts.motion import MOTION_RATE
from vidaudio.media.facts.sound import ONSET_RATE


def events(seed: int, seconds: float = 8.0) -> tuple[np.ndarray, np.ndarray]:
    """Motion at 25 Hz and onsets at 100 Hz of the same events, with noise of their own."""
    generator = np.random.default_rng(seed)
    times = np.sort(generator.uniform(0.3, seconds - 0.3, 7))
    motion, onsets = (generator.uniform(0, 1, round(seconds * rate)) for rate in (RATE, 4 * RATE))
    for time in times:
        motion[round(time * RATE)] += generator.uniform(4, 9)
        onsets[round(time * 4 * RATE)] += generator.uniform(4, 9)
    return motion, onsets


def test_the_envelopes_have_the_rates_that_facts_are_measured_at():
    assert RATE == MOTION_RATE
    assert RATE * ONSETS_A_MOTION == ONSET_RATE


def test_the_first_curve_is_the_correlation_coefficient_at_every_lag():
    motion, onsets = envelopes_at_one_rate(*events(0))
    curves = lag_curves(motion, onsets, 60)
    smooth = [np.convolve(x, (0.25, 0.5, 0.25), "same") for x in (motion, onsets)]
    for lag in (-60, -7, 0, 3, 60):
        a = smooth[0][max(0, -lag) : len(motion) - max(0, lag)]
        b = smooth[1][max(0, lag) : len(motion) - max(0, -lag)]
        assert curves[0, lag + 60] == pytest.approx(np.corrcoef(a, b)[0, 1], abs=1e-5)


def test_lags_at_which_a_short_clip_hardly_overlaps_say_nothing():
    motion, onsets = (x[: round(2 * rate)] for x, rate in zip(events(0), (RATE, 4 * RATE), strict=True))
    curves = lag_curves(*envelopes_at_one_rate(motion, onsets))
    assert curves.shape == (4, 2 * WIDE_LAGS + 1)
    assert not curves[:, : WIDE_LAGS - RATE].any()
    assert curves[0, WIDE_LAGS - 5 : WIDE_LAGS + 6].any()
    assert not lag_curves(np.zeros(0), np.zeros(0)).any()


@pytest.mark.parametrize("seconds", [0.5, -0.5, 0.0, 30.0, -30.0])
def test_a_shift_moves_every_onset_by_the_seconds_asked_for(seconds: float):
    onsets = np.zeros(800)
    onsets[400] = 5.0
    moved = shifted_onsets(onsets, seconds)
    assert len(moved) == 800
    if abs(seconds) < 1:
        assert int(np.argmax(moved)) == 400 + round(100 * seconds)
    else:
        assert not moved.any()


def test_planted_offsets_are_found_and_foreign_sounds_have_none():
    clips = [events(seed) for seed in range(120)]
    own = np.stack([lag_curves(*envelopes_at_one_rate(*clip)) for clip in clips[:80]])
    swapped = np.stack([lag_curves(*envelopes_at_one_rate(clips[n][0], clips[(n + 17) % 80][1])) for n in range(80)])
    head = train_timing(own, swapped, TimingSettings(steps=150))
    generator = np.random.default_rng(5)
    found, foreign = [], []
    for number, (motion, onsets) in enumerate(clips[80:]):
        late = float(generator.integers(-40, 41)) / RATE
        timing = measure_timing(head, motion, shifted_onsets(onsets, late))
        found.append(abs(timing.offset_seconds - late) <= 0.04)
        assert timing.in_sync <= timing.can_synchronise + 1e-6
        if number % 2:
            foreign.append((timing.can_synchronise, measure_timing(head, motion, clips[number][1]).can_synchronise))
    assert np.mean(found) >= 0.9
    assert np.mean([own > other for own, other in foreign]) >= 0.9


def test_the_offset_is_the_lag_with_the_most_around_it():
    probabilities = np.zeros(2 * LAGS + 2)
    probabilities[LAGS + 10 : LAGS + 13] = (0.1, 0.4, 0.1)
    probabilities[5] = 0.2
    probabilities[-1] = 0.2
    timing = read_timing(probabilities)
    assert timing.offset_seconds == pytest.approx(11 / RATE)
    assert timing.offset_confidence == pytest.approx(0.6)
    assert timing.can_synchronise == pytest.approx(0.8)
    assert timing.in_sync == 0
