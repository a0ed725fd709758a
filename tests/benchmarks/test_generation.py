"""The table of generators: which runs and sets are its rows, over seeds and alone."""

from __future__ import annotations

from typing import Any

from benchmarks.generation_tables import esc_markdown, generation_markdown, modern_markdown


def row(name: str, right: float, *, guidance: float | None = None) -> dict[str, Any]:
    scores = {"right": {"value": right, "low": right - 0.02, "high": right + 0.02}}
    scores["kernel"] = {"value": 2 * right, "low": 0.0, "high": 4 * right}
    level = {"value": -1.0, "low": -1.5, "high": -0.5}
    return {"name": name, "guidance": guidance, "level_db": level, "scores": {"judge": {"sounds": 8, **scores}}}


def run(system: str, seed: int, rows: list[dict[str, Any]], variant: str = "", steps: int = 100) -> dict[str, Any]:
    settings = {"system": system, "variant": variant, "seed": seed, "steps": steps}
    results = {"judge": {"right": 1.0}, "clips": 8, "rows": rows, "sweep": []}
    return {"settings": settings, "results": results}


def test_rows_are_means_over_seeds_in_the_tables_order():
    runs = [run("clipsonic_iq", seed, [row("image", 0.9 + 0.04 * seed), row("text", 0.5)]) for seed in (0, 1)]
    runs[0]["results"]["sweep"] = [row("image w=1", 0.7, guidance=1.0), row("image w=2", 0.8, guidance=2.0)]
    runs.append(run("clipsonic_iq", 0, [row("image", 0.1)], "dropout"))
    lines = generation_markdown(runs).splitlines()
    assert lines[2] == "| CLIPSonic-IQ | 2 | 92.0 ± 2.0 | 1.84 ± 0.04 | - | - | - | - | -1.0 ± 0.0 |"
    assert lines[3].startswith("| CLIPSonic-ZS: words as they are | 2 | 50.0 ± 0.0 |")
    # Of one seed, half of its interval.
    assert lines[4].startswith("| trained with dropout, pictures | 1 | 10.0 ± 2.0 | 0.20 ± 0.20 |")
    assert [line.split("|")[1].strip() for line in lines[-2:]] == ["1", "2"]


def test_shorter_tries_are_no_rows():
    runs = [run("clip_tta", 0, [row("text", 0.9)]), run("clip_tta", 1, [row("text", 0.1)], steps=10)]
    assert "| CLIP-TTA | 1 | 90.0" in generation_markdown(runs)
    assert generation_markdown([]) == ""


def test_ingredients_are_compared_with_the_same_seed():
    runs = [run("clipsonic_iq", seed, [row("as trained", 0.5 + 0.1 * seed)]) for seed in (0, 1, 2)]
    assert modern_markdown(runs) == ""
    for seed in (0, 1):
        runs.append(run("clipsonic_iq_modern", seed, [row("as trained", 0.25 + 0.05 * seed), row("interval", 0.1)]))
    runs.append(run("clipsonic_iq_modern", 0, [row("as trained", 0.75)], "flow"))
    lines = modern_markdown(runs).splitlines()
    assert lines[2].startswith("| CLIPSonic-IQ | 2 | 55.0 ± 5.0 |")
    assert lines[3].startswith("| the same, zero terminal SNR | 2 | 27.5 ± 2.5 |")
    assert lines[3].endswith("| -0.55 ± 0.05 |")
    assert lines[4].startswith("| flow matching instead | 1 |")
    assert lines[4].endswith("| +0.50 |")
    assert len(lines) == 8


def test_sounds_of_esc_are_shown_with_yamnets_opinion():
    rows = [row("real", 0.5), row("text w=1.5", 1.0)]
    for one, heard in zip(rows, (0.9, 0.6), strict=True):
        one["scores"]["yamnet"] = one["scores"].pop("judge")
        one["opinion"] = {"all": heard, "dog": heard}
    lines = esc_markdown([run("clip_tta", 0, rows)]).splitlines()
    assert lines[2] == "| real sounds (floor) | 1 | 90 | 1.00 ± 1.00 | - | - | - | -1.0 ± 0.5 |"
    assert lines[3] == "| CLIP-TTA, w = 1.5 | 1 | 60 | 2.00 ± 2.00 | - | - | - | -1.0 ± 0.5 |"
