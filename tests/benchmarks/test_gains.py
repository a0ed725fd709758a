"""The small table of all trainings: one column a world and way to ask, one row a system."""

from __future__ import annotations

from typing import Any

from benchmarks.gains import gains_markdown


def result(table: str, system: str, seed: int, steps: int, **gains: float) -> dict[str, Any]:
    summaries = {method: {"sdr_improvement": {"mean": gain}} for method, gain in gains.items()}
    settings = {"table": table, "system": system, "seed": seed, "steps": steps}
    return {"settings": settings, "results": {"summaries": summaries}}


def test_seeds_are_averaged_and_the_longest_budget_counts():
    results = [
        result("noisy", "clipsep", 0, 100, text=9.0),
        result("noisy", "clipsep", 0, 200, text=1.0),
        result("noisy", "clipsep", 1, 200, text=2.0),
        result("systems", "sop", 0, 100, image=-0.5),
    ]
    assert gains_markdown(results).splitlines() == [
        "| SDR over the mixture, dB | by pictures | noisy world, in words |",
        "| --- | ---: | ---: |",
        "| CLIPSep |  | +1.50 |",
        "| SOP (frozen ResNet) | -0.50 |  |",
    ]


def test_what_cannot_be_asked_is_marked():
    results = [result("esc10", "pit", 0, 1, mask_or_complement=5.0), result("esc10", "labelsep", 0, 1, text=6.0)]
    lines = gains_markdown(results).splitlines()
    assert lines[2:4] == ["| LabelSep | +6.00 |", "| PIT | +5.00 * |"]
    assert lines[-1].startswith("\\* ")


def test_there_is_no_table_without_results():
    assert gains_markdown([]) == ""
