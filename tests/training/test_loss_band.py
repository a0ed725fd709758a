"""Loss bands: the range itself, when a run is warned of, and what a resumed run remembers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.trained import TINY
from vidaudio.errors import RecipeError
from vidaudio.tasks.registry import load_train_recipe
from vidaudio.training.blocks import BandBlock
from vidaudio.training.loss_band import INSIDE, BandWatch, geometric_mean, is_band_state, limits

POINTS = ((10, 0.5, 2.0), (100, 0.1, 0.4), (1000, 0.05, 0.1))


def watch(values: int = 2) -> BandWatch:
    return BandWatch(BandBlock(values=values, points=((10, 0.5, 2.0), (1000, 0.5, 2.0))))


def warnings(watched: BandWatch, losses: list[float], first: int = 10) -> list[str | None]:
    return [watched.update(first + 10 * number, {"train/loss": loss}) for number, loss in enumerate(losses)]


def test_the_band_is_linear_in_the_logarithms():
    block = BandBlock(points=POINTS)
    steps, lows, highs = (np.log([point[part] for point in POINTS]) for part in range(3))
    for step in (10, 11, 37, 99, 100, 101, 500, 1000):
        expected = [math.exp(np.interp(math.log(step), steps, values)) for values in (lows, highs)]
        assert limits(block, step) == pytest.approx(expected, rel=1e-12)
    assert limits(block, 9) is None
    assert limits(block, 1001) is None


def test_the_mean_is_geometric_and_keeps_what_is_not_finite():
    values = [0.3, 4.0, 1.7]
    assert geometric_mean(values) == pytest.approx(np.prod(values) ** (1 / 3))
    assert geometric_mean([1.0, 0.0]) == geometric_mean([1.0, -2.0]) == 0.0
    assert math.isnan(geometric_mean([1.0, math.nan, 2.0]))
    assert geometric_mean([1.0, math.inf]) == math.inf


def test_an_exit_is_reported_once_until_the_run_has_come_back():
    watched = watch(values=2)
    # The mean of two is outside from the second 9 on, and inside again from the second 1 on.
    told = warnings(watched, [9.0, 9.0, 9.0, 1.0, 1.0, 9.0, 1.0, 1.0, 1.0, 0.01, 0.01])
    assert [number for number, sentence in enumerate(told) if sentence is not None] == [1, 9]
    assert [(left.step, left.side) for left in watched.exits] == [(20, "above"), (100, "below")]
    assert "step 20: train/loss is 9 (mean of the last 2 logged values), above the 0.5 to 2 of healthy" in told[1]
    assert "optimiser.learning_rate is far too high or too low" in told[1]
    assert "the sounds are silent" in told[9]


def test_nothing_is_compared_before_enough_values_and_outside_the_points():
    watched = BandWatch(BandBlock(values=3, points=((30, 0.5, 2.0), (50, 0.5, 2.0))))
    compared = []
    for step in (10, 20, 30, 40, 50, 60):
        watched.update(step, {"train/loss": 1.0})
        compared.append(watched.numbers)
    assert compared == [{}, {}, {INSIDE: 1.0}, {INSIDE: 1.0}, {INSIDE: 1.0}, {}]
    assert warnings(watched, [9.0] * 5, first=70) == [None] * 5


def test_a_loss_that_is_not_finite_is_outside_at_every_step():
    watched = BandWatch(BandBlock(points=((100, 0.5, 2.0), (200, 0.5, 2.0))))
    assert "step 10: train/loss is nan. Frequent causes:" in watched.update(10, {"train/loss": math.nan})
    assert watched.numbers == {INSIDE: 0.0}
    assert watched.update(20, {"train/loss": 1.0}) is None
    assert watched.exits[0].as_dict() == {"step": 10, "side": "not finite", "mean": None, "low": None, "high": None}


def test_a_number_that_is_not_logged_is_named_once():
    watched = BandWatch(BandBlock(number="train/lsos", points=POINTS))
    assert watched.update(10, {"train/loss": 1.0, "train/bound": 2.0}) == (
        "step 10 logs no train/lsos to compare with the recipe's band (band.number), only train/bound, train/loss"
    )
    assert watched.update(20, {"train/loss": 1.0}) is None


def test_a_step_may_lack_the_number():
    watched = watch(values=2)
    assert warnings(watched, [1.0, 1.0]) == [None, None]
    assert watched.update(30, {}) is None
    assert watched.numbers == {}


@pytest.mark.parametrize("stopped_after", range(11))
def test_a_resumed_watch_goes_on_as_if_it_had_not_stopped(stopped_after):
    losses = [9.0, 9.0, 9.0, 1.0, 1.0, 9.0, math.nan, 1.0, 1.0, 0.01, 0.01]
    whole, first = watch(), watch()
    expected = warnings(whole, losses)
    told = warnings(first, losses[:stopped_after])
    assert is_band_state(first.state())
    second = BandWatch(first.block, first.state())
    assert told + warnings(second, losses[stopped_after:], first=10 + 10 * stopped_after) == expected
    assert repr(second.state()) == repr(whole.state())


def test_the_state_of_another_number_is_not_taken():
    watched = watch()
    warnings(watched, [9.0, 9.0])
    other = BandWatch(BandBlock(number="train/error", points=POINTS), watched.state())
    assert other.exits == []


def test_states_of_other_programs_are_recognised():
    watched = watch()
    warnings(watched, [9.0, 9.0])
    state = watched.state()
    assert is_band_state(state)
    wrong = ({"number": 3}, {"values": ["a"]}, {"is_outside": 1}, {"exits": [{}]}, {"exits": [3]}, {"more": 0})
    for change in wrong:
        assert not is_band_state({**state, **change}), change
    for change in ({"step": "1"}, {"side": "left"}, {"low": None}, {"mean": 1}):
        assert not is_band_state({**state, "exits": [{**state["exits"][0], **change}]}), change
    assert not is_band_state([])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("[[50, 1, 2]]", "band.points wants 2 values or more"),
        (
            "[[50, 1, 2], [50, 1, 2]]",
            "band: points.1 is at step 50, and its step must be more than 50, the step",
        ),
        ("[[0, 1, 2], [50, 1, 2]]", "band: points.0 is at step 0, and its step must be at least 1"),
        ("[[50, 1, 2], [90, 2, 1]]", "band: points.1, at step 90, goes from 2 to 1: it must go from more than 0 to a"),
        ("[[50, 0, 2], [90, 1, 2]]", "band: points.0, at step 50, goes from 0 to 2"),
        ("[[50, 1, .nan], [90, 1, 2]]", "band: points.0, at step 50, goes from 1 to nan"),
        ("[[50, 1, high], [90, 1, 2]]", "band.points.0.2 wants a number, not 'high'"),
        ("[[50, 1], [90, 1, 2]]", "band.points.0.2 is missing"),
        (
            "[[50, 1, 2], [90, 1, 2]]",
            "band ends at step 90, before 10 values are logged every 50 steps; set log.",
        ),
    ],
)
def test_wrong_points_are_refused(setting, message):
    with pytest.raises(RecipeError) as refused:
        load_train_recipe("clipsep", (*TINY, f"band.points={setting}"))
    assert message in str(refused.value)
