"""Facts of pictures: still, black and cut against pictures made to be so."""

from __future__ import annotations

import numpy as np
import pytest

from vidaudio.media.facts.pictures import measure_pictures

SIDE = 224


def plain(red: int, green: int, blue: int) -> np.ndarray:
    return np.full((SIDE, SIDE, 3), (red, green, blue), np.uint8)


def textured(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (SIDE, SIDE, 3), np.uint8)


def grainy(picture: np.ndarray, seed: int, spread: float) -> np.ndarray:
    grain = np.random.default_rng(seed).normal(0, spread, (SIDE, SIDE, 1))
    return np.clip(picture + grain, 0, 255).astype(np.uint8)


def test_grain_is_still_and_a_change_is_not():
    base = plain(90, 120, 60)
    # The squared difference of two grains has twice their variance: 4.5 here, and 5 is the bound.
    assert measure_pictures([grainy(base, seed, 1.5) for seed in range(5)]).still_share == 1
    assert measure_pictures([grainy(base, seed, 1.7) for seed in range(5)]).still_share == 0
    assert measure_pictures([base, base, textured(0), textured(0), textured(1)]).still_share == 0.5


def test_one_picture_is_a_still():
    assert measure_pictures([textured(3)]).still_share == 1


def test_black_is_all_but_a_logo():
    black = plain(4, 4, 4)
    logo, title = black.copy(), black.copy()
    logo[:28, :28] = 255
    title[:56, :56] = 255
    assert measure_pictures([black, logo, title, textured(0)]).black_share == 0.5


@pytest.mark.parametrize(
    ("pictures", "cuts"),
    [
        ([plain(200, 30, 30), plain(30, 30, 200), plain(30, 200, 30)], 2),
        ([textured(0), textured(0)], 0),
        # The same shot, brighter or darker by little: no cut.
        ([plain(96, 96, 96), plain(104, 104, 104)], 0),
        # Another place of the same colours: no cut is seen in the colours.
        ([np.roll(textured(0), 8, axis=1), textured(0)], 0),
    ],
)
def test_cuts_are_between_pictures_of_other_colours(pictures: list[np.ndarray], cuts: int):
    assert measure_pictures(pictures).cuts == cuts


def test_many_pictures_are_counted_as_if_at_once():
    pictures = [textured(0)] * 20 + [plain(2, 2, 2)] * 15 + [plain(200, 30, 30), plain(30, 30, 200)] * 5
    facts = measure_pictures(pictures)
    assert facts.still_share == pytest.approx((19 + 14) / 44)
    assert facts.black_share == pytest.approx(15 / 45)
    assert facts.cuts == 1 + 1 + 9
