"""Table of the methods against the modality gap: shares of the gap, their intervals, and which measure predicts."""

from __future__ import annotations

import statistics
from typing import Any

import numpy as np
import pytest

from benchmarks.gap import MEASURES, PLAIN
from benchmarks.gap_tables import gap_markdown, share_closed
from benchmarks.systems import TABLES
from benchmarks.trainings import load_budget, recipe_of
from vidaudio.modality_gap import ASKING_METHODS, TRAINING_METHODS

MIXTURES = 64


def summary(sdr: list[float]) -> dict[str, Any]:
    mean = statistics.mean(sdr)
    return {
        "sdr": {"mean": mean, "standard_error": 0.5},
        "sdr_improvement": {"mean": mean - 1},
        "si_sdr_improvement": {"mean": mean - 2},
    }


def plain_result(seed: int, closed: dict[str, float]) -> dict[str, Any]:
    """CLIPSep with 2 dB in words and 10 dB by pictures, whose methods close given shares of it."""
    rng = np.random.default_rng(seed)
    floor = 2 + rng.normal(0, 1, MIXTURES)
    ceiling = floor + 8 + rng.normal(0, 0.5, MIXTURES)
    ways = {PLAIN: floor, "image": ceiling} | {m: floor + s * (ceiling - floor) for m, s in closed.items()}
    scores = {way: {"sdr": {str(n): float(v) for n, v in enumerate(sdr)}} for way, sdr in ways.items()}
    gap = {way: dict.fromkeys(MEASURES, 1 - closed.get(way, 0.0)) for way in (PLAIN, *closed)}
    return {
        "settings": {"system": "clipsep", "variant": "", "seed": seed, "steps": 100},
        "results": {
            "scores": scores,
            "gap": gap,
            "summaries": {way: summary(list(ways[way])) for way in (PLAIN, "image")},
            "through": {method: summary(list(ways[method])) for method in closed},
        },
    }


@pytest.fixture
def results() -> list[dict[str, Any]]:
    closed = {method: number / 10 for number, method in enumerate(ASKING_METHODS, start=1)}
    return [plain_result(seed, closed) for seed in range(3)]


def test_the_share_of_the_gap_is_that_of_the_scores_and_its_interval_holds_it(results: list[dict[str, Any]]):
    plain = {number: result["results"] for number, result in enumerate(results)}
    for number, method in enumerate(ASKING_METHODS, start=1):
        assert share_closed(plain, plain, method) == f"{10 * number} % [{10 * number}, {10 * number}]"
    noisy = np.random.default_rng(9).normal(0, 8, MIXTURES)
    for result in plain.values():
        asked = result["scores"]["ridge"]["sdr"]
        result["scores"]["ridge"]["sdr"] = {n: v + e for (n, v), e in zip(asked.items(), noisy, strict=True)}
    share, interval = share_closed(plain, plain, "ridge").split(" % ")
    low, high = (int(end) for end in interval.strip("[]").split(", "))
    assert low < int(share) < high
    # The standard error of the mean of 64 errors of 8 dB is 1 dB, an eighth of the gap: 95 % lie within 24.5 %.
    assert 35 < high - low < 65


def test_the_table_has_ceiling_floor_and_every_method(results: list[dict[str, Any]]):
    mixup = plain_result(0, {})
    mixup["settings"] |= {"variant": "mixup"}
    table = gap_markdown([*results, mixup])
    rows = [line for line in table.split("\n") if line.startswith("| ")][1:]
    assert len(rows) == 2 + len(ASKING_METHODS) + 1
    assert "| 100 % |" in rows[0]
    assert "| words, retrieval | unpaired | 3 |" in table
    assert "| words, ridge | pairs | 3 |" in table
    assert "| words, trained with mixup | labels in training | 1 |" in table
    # The nearer a method brings words to pictures, the better it is asked, in these results.
    assert "centroids apart -1.00" in table
    assert gap_markdown([mixup]) == ""


def test_the_benchmark_trains_every_method_of_training():
    budget = load_budget("gap")
    assert "gap" in TABLES
    trained = {recipe_of(budget, system, 0).query.gap.train for system in budget.systems}
    assert trained == {"none", *TRAINING_METHODS}
