"""Table of the noisy world: clean and noisy tests, three ways to ask, levels, and what noise heads take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.noisy import TESTS, _last_activation
from benchmarks.noisy_tables import noisy_markdown
from benchmarks.training_tables import NAMES


def result(system: str, variant: str, seed: int, sdr: float, activation: float | None) -> dict[str, Any]:
    summary = {
        "sdr": {"mean": sdr, "standard_error": 0.5},
        "si_sdr_improvement": {"mean": sdr - 1},
        "level": {"mean": -3.04},
    }
    tests = {test: dict.fromkeys(("text", "retrieval", "image", "mixture"), summary) for test in TESTS}
    return {
        "settings": {"system": system, "variant": variant, "seed": seed, "steps": 100},
        "results": {"tests": tests, "noise_activation": activation},
    }


def test_seeds_are_one_row_a_test_with_levels_and_the_activation():
    runs = [result("clipsep_nit", "start 600", seed, sdr, 0.2 + seed / 10) for seed, sdr in enumerate((4.0, 6.0))]
    table = noisy_markdown([*runs, result("clipsep", "", 0, 3.0, None)], NAMES)
    lines = [line for line in table.splitlines() if line.startswith("| CLIPSep")]
    assert len(lines) == 2 * len(TESTS)
    assert lines[0].startswith("| CLIPSep | 1 |  | clean | +2.00; 3.00 ± 0.50; -3.0 |")
    assert lines[2].startswith("| CLIPSep-NIT | 2 | 0.25 | clean | +4.00; 5.00 ± 1.00; -3.0 |")
    assert noisy_markdown([], NAMES) == ""


def test_the_activation_is_that_of_the_end_of_the_training(tmp_path: Path):
    (tmp_path / "logs").mkdir()
    log = tmp_path / "logs" / "metrics.csv"
    rows = [f"{step},{1.0 if step < 10 else 0.3}" for step in range(20)]
    log.write_text("\n".join(["step,train/noise_activation", *rows, "20,"]))
    assert _last_activation(tmp_path) == pytest.approx(0.3)
    log.write_text("step,train/loss\n1,0.5\n")
    assert _last_activation(tmp_path) is None
