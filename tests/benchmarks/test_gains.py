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
        "| SI-SDR / SDR over the mixture, dB | pictures | noisy world, in words |",
        "| --- | ---: | ---: |",
        "| CLIPSep |  | +1.50 |",
        "| SOP (frozen ResNet) | -0.50 |  |",
    ]


def test_si_sdr_stands_first_as_stored_or_from_the_means_of_method_and_mixture():
    stored = result("systems", "clipsep", 0, 1, text=5.0)
    stored["results"]["summaries"]["text"]["si_sdr_improvement"] = {"mean": 4.0}
    older = result("systems", "clipsep", 1, 1, text=6.0)
    older["results"]["summaries"]["text"]["si_sdr"] = {"mean": 7.0, "count": 9}
    older["results"]["summaries"]["mixture"] = {"si_sdr": {"mean": 1.0, "count": 9}}
    assert gains_markdown([stored, older]).splitlines()[2] == "| CLIPSep | +5.00 / +5.50 |"
    # Means over other mixtures do not compare.
    older["results"]["summaries"]["mixture"]["si_sdr"]["count"] = 8
    assert gains_markdown([stored, older]).splitlines()[2] == "| CLIPSep | +5.50 |"


def test_what_cannot_be_asked_is_marked():
    results = [result("esc10", "pit", 0, 1, mask_or_complement=5.0), result("esc10", "labelsep", 0, 1, text=6.0)]
    lines = gains_markdown(results).splitlines()
    assert lines[2:4] == ["| LabelSep | +6.00 |", "| PIT | +5.00 * |"]
    assert lines[-1].startswith("\\* ")


def test_there_is_no_table_without_results():
    assert gains_markdown([]) == ""
