"""The tables of weak supervision: which runs are their rows and columns."""

from __future__ import annotations

from typing import Any

from benchmarks.bimodal_tables import bimodal_markdown
from benchmarks.trainings import load_budget, recipe_of


def run(system: str, gain: float, variant: str = "", seed: int = 0, steps: int = 100) -> dict[str, Any]:
    method = "best_head" if system == "mixit" else "text"
    tested = {
        str(count): {
            method: {"sdr_improvement": {"mean": gain - count + 2}},
            "wrong_text": {"suppression": {"mean": 10 * gain}},
        }
        for count in (2, 3, 4)
    }
    settings = {"system": system, "variant": variant, "seed": seed, "steps": steps}
    return {"settings": settings, "results": {"mixtures": 5, "tested": tested}}


def test_rows_have_a_column_for_each_number_of_training_sources():
    runs = [run("bimodal_weak", 6.0), run("bimodal_weak", 7.0, seed=1), run("bimodal_weak", 5.0, "K 3")]
    runs += [run("bimodal_supervised", 8.0), run("mixit", 3.0), run("bimodal_semi", 9.0, "75")]
    runs.append(run("bimodal_weak", 1.0, steps=10))
    lines = bimodal_markdown(runs).splitlines()
    assert lines[2] == "| BiModal | 6.50 ± 0.50 (2) | 5.00 (1) |  |"
    assert lines[3] == "| BiModal, single sounds in 75 % of the mixtures | 9.00 (1) |  |  |"
    assert lines[4] == "| single sounds (full supervision) | 8.00 (1) | 8.00 (1) | 8.00 (1) |"
    assert lines[5] == "| MixIT, best output (oracle) | 3.00 (1) |  |  |"
    by_test = next(line for line in lines[7:] if line.startswith("| BiModal |"))
    assert by_test == "| BiModal | 6.50 ± 0.50 (2) | 5.50 ± 0.50 (2) | 4.50 ± 0.50 (2) | 65.00 ± 5.00 (2) |"
    assert bimodal_markdown([]) == ""


def test_every_system_of_the_recipe_is_a_recipe():
    budget = load_budget("bimodal")
    for system in budget.systems:
        recipe = recipe_of(budget, system, 0)
        assert recipe.model.unet.width == 16
        assert recipe.model.condition is None
        assert recipe.data.mixed == {"K 3": 3, "K 4": 4}.get(system.partition("+")[2], recipe.data.mixed)
