"""A gain that a wrong query has as well is none: in the report, its tables, validation, and at the command line."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.trained import TINY
from vidaudio.separation import headline_figures, is_above_error
from vidaudio.separation.fast_sdr import scale_invariant_sdr
from vidaudio.separation.sdr import si_sdr
from vidaudio.stream.loader import MixtureStream, StreamConfig
from vidaudio.tasks.registry import load_train_recipe, train
from vidaudio.tasks.separation.evaluate import EvaluateRequest, evaluate
from vidaudio.tasks.separation.evaluation.report import EvaluationReport, ReportHeader
from vidaudio.tasks.separation.evaluation.scorers import Score
from vidaudio.tasks.separation.evaluation.tables import as_markdown
from vidaudio.tasks.separation.wrong_queries import WrongQueries


def report_of(mixture: np.ndarray, right: np.ndarray, wrong: np.ndarray | None) -> EvaluationReport:
    """Scores of three ways to ask, all SDR; SI-SDR of the mixture and of the right query are told apart by 0.5."""
    rows = {}
    for number in range(len(mixture)):
        rows[number] = {
            "mixture": Score(mixture[number], 0, 0, 1.0, level=0),
            "text": Score(right[number], 0, 0, 1.5, level=0),
        }
        if wrong is not None:
            rows[number]["wrong_text"] = Score(wrong[number], 0, 0, 1.0, level=0)
    about = ReportHeader("run", "clipsep", 20, "image", "data", "split test", "test", len(mixture), "batched")
    return EvaluationReport(about, tuple(rows[0]), len(mixture), rows, names=dict.fromkeys(rows, ("a", "b")))


def test_a_gain_of_level_alone_is_none_and_one_of_asking_stands():
    rng = np.random.default_rng(0)
    mixture = rng.normal(0, 3, 40)
    louder = mixture + 1.75 + rng.normal(0, 0.3, 40)
    alike = louder + rng.normal(0, 0.5, 40)
    apart = louder + 6 + rng.normal(0, 0.5, 40)
    none, real = report_of(mixture, alike, louder), report_of(mixture, apart, louder)
    assert none.improvement("text").mean > 1.5
    assert none.is_gain_of_asking("text") is False
    assert real.is_gain_of_asking("text") is True
    assert real.over_wrong("text").mean == pytest.approx(6, abs=0.3)
    for text in (str(none), as_markdown([none])):
        assert f"none ({none.improvement('text').mean:+.2f})" in text
        assert "a wrong query gains as much SDR" in text
    for text in (str(real), as_markdown([real])):
        assert f"{real.improvement('text').mean:+.2f}" in text
        assert "none" not in text
    assert none.as_dict()["summaries"]["text"]["gain_of_asking"] is False
    assert none.as_dict()["summaries"]["text"]["si_sdr_improvement"]["mean"] == 0.5
    assert real.as_dict()["summaries"]["text"]["over_wrong"]["count"] == 40


@pytest.mark.parametrize("seed", range(20))
def test_the_difference_is_paired(seed: int):
    """Mixtures of very different difficulty do not hide a small gain that all of them have."""
    rng = np.random.default_rng(seed)
    mixture = rng.normal(0, 20, 50)
    wrong = mixture + rng.normal(1, 0.2, 50)
    assert report_of(mixture, wrong + rng.normal(0.3, 0.2, 50), wrong).is_gain_of_asking("text") is True
    assert report_of(mixture, wrong - rng.normal(0.3, 0.2, 50), wrong).is_gain_of_asking("text") is False


def test_without_a_wrong_query_or_with_one_mixture_nothing_is_claimed():
    mixture = np.zeros(3)
    alone = report_of(mixture, mixture + 1, None)
    assert alone.over_wrong("text") is alone.is_gain_of_asking("text") is None
    assert " +1.00 (not compared)" in str(alone)
    never = report_of(mixture, mixture + 1, None)
    never = replace(never, methods=(*never.methods, "wrong_text"))  # evaluated, but no mixture had a wrong query
    assert never.over_wrong("text") is never.is_gain_of_asking("text") is None
    assert " +1.00 (not compared)" in str(never)
    one = report_of(mixture[:1], mixture[:1] + 1, mixture[:1] + 1)
    assert one.is_gain_of_asking("text") is None
    assert "none" not in str(one)
    assert is_above_error(math.nan, 1.0) is is_above_error(1.0, math.nan) is None


def test_headline_figures_say_what_was_measured_and_no_more():
    assert headline_figures({}) == {}
    numbers = {"si_sdr_improvement": 0.01, "sdr_improvement": 1.75, "over_wrong_query": 0.02}
    numbers = {f"validation/{name}": value for name, value in numbers.items()}
    assert headline_figures(numbers) == {"SI-SDRi": "+0.01", "over wrong": "+0.02", "SDRi": "+1.75"}
    assert headline_figures(numbers | {"validation/over_wrong_query_error": 0.05})["SDRi"] == "none (+1.75)"
    assert headline_figures(numbers | {"validation/over_wrong_query_error": 0.001})["SDRi"] == "+1.75"
    del numbers["validation/over_wrong_query"]
    assert headline_figures(numbers) == {"SI-SDRi": "+0.01", "SDRi": "+1.75 (not compared)"}


def test_a_system_trained_for_a_moment_shows_no_gain(tmp_path: Path, packed: Path):
    recipe = load_train_recipe("clipsep", (*TINY, "schedule={steps: 2}", "validation={every_steps: 2}"))
    done = train(recipe, str(packed), tmp_path / "run", progress=False)
    assert done.numbers["validation/sdr_improvement"] > 1
    assert abs(done.numbers["validation/si_sdr_improvement"]) < 0.5
    assert abs(done.numbers["validation/over_wrong_query"]) < 0.5
    assert "SI-SDRi" in done.gains()
    report = evaluate(EvaluateRequest(tmp_path / "run", str(packed), scorer="batched", progress=False))
    assert report.methods == ("mixture", "text", "image", "wrong_text", "wrong_image")
    assert report.improvement("text").mean > 1
    assert abs(report.improvement("text", "si_sdr").mean) < 0.5
    assert abs(report.over_wrong("text").mean) < 0.5


def test_wrong_queries_are_of_no_sound_in_the_mixture_and_of_the_target_alone(packed: Path):
    from vidaudio.stream.windows import WindowShape

    def encode(batch):
        return batch["rows"], None  # the row stands for its query

    found = {}
    for size in (1, 2, 5):
        config = StreamConfig(split="val", shape=WindowShape(samples=8191), batch_size=size, shuffle=False)
        stream = MixtureStream(str(packed), config)
        labels = [row[0] for row in stream.index.table["labels"].to_pylist()]
        wrong = WrongQueries(stream, encode, torch.device("cpu"))
        for step in range(stream.batches_per_epoch):
            batch = stream.batch(step)
            chosen, is_wrong = wrong.draw(batch, None)
            for rows, row, known in zip(batch["rows"].tolist(), chosen.tolist(), is_wrong.tolist(), strict=True):
                held = {labels[r] for r in rows}
                assert known == (len(held) < 3)
                assert not known or labels[row] not in held
                found.setdefault(rows[0], set()).add(labels[row] if known else None)
    assert all(len(each) == 1 for each in found.values())


def test_si_sdr_in_batches_equals_the_plain_one():
    rng = np.random.default_rng(0)
    reference, estimate = rng.normal(size=(2, 3, 500))
    batched = scale_invariant_sdr(torch.from_numpy(reference), torch.from_numpy(estimate + reference))
    assert batched.tolist() == pytest.approx([si_sdr(r, e + r) for r, e in zip(reference, estimate, strict=True)])
    assert torch.isnan(scale_invariant_sdr(torch.zeros(2, 9), torch.ones(2, 9))).all()
