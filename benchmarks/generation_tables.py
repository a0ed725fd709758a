"""Tables of the generators in the demo world: what is heard, and how far it is from real sounds."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.generation import JUDGE, MODERN, PRETRAINED
from vidaudio.markdown import markdown_table

HEADS = ("sounds", "seeds", "right %", "KAD x100", "FD", "coverage", "density", "copying", "level dB")
SCORES = ("right", "kernel", "frechet", "coverage", "density", "copying", "level_db")
DIGITS = {"right": 1, "kernel": 2, "frechet": 1, "coverage": 2, "density": 2, "copying": 2, "level_db": 1}
# Rows in their order: system, variant, name of the set, and what the table calls it.
ROWS = (
    ("clipsonic_iq", "", "real", "real sounds (floor)"),
    ("clipsonic_iq", "", "vocoded", "real sounds through mel and Griffin-Lim"),
    ("clipsonic_iq", "", "image", "CLIPSonic-IQ"),
    ("clipsonic_iq", "", "text", "CLIPSonic-ZS: words as they are"),
    ("clipsonic_iq", "", f"text+{PRETRAINED}", "CLIPSonic-PD: another world's prior"),
    ("clipsonic_iq", "", "text+prior", "CLIPSonic-SD: the corpus's prior"),
    ("clipsonic_iq", "", "text+bridge", "words, bridge"),
    ("clipsonic_iq", "", "text+mean_shift", "words, mean shift"),
    ("clipsonic_iq", "", "text+mlp", "words, mlp"),
    ("clipsonic_iq", "", "text+retrieval", "words, retrieval"),
    ("clipsonic_iq", "dropout", "image", "trained with dropout, pictures"),
    ("clipsonic_iq", "dropout", "text", "trained with dropout, words"),
    ("clip_tta", "", "text", "CLIP-TTA"),
    ("clap_tta", "", "text", "CLAP-TTA"),
)

# The table of ESC-10's sounds.
ESC_NAMES = {"real": "real sounds (floor)", "vocoded": "real sounds through mel and Griffin-Lim"}
ESC_SCORES = ("kernel", "frechet", "coverage", "copying", "level_db")
ESC_HEADS = ("sounds", "seeds", "YAMNet hears the class %", "KAD x100", "FD", "coverage", "copying", "level dB")
# Lines of the table of ingredients: variant, name of the way to ask, and what the table calls it.
INGREDIENTS = (
    ("velocity", "as trained", "velocity prediction, constant variance"),
    ("", "as trained", "the same, zero terminal SNR"),
    ("flow", "as trained", "flow matching instead"),
    ("", "w = 1", "zero terminal SNR, w = 1"),
    ("", "w = 2", "zero terminal SNR, w = 2"),
    ("", "w = 3", "zero terminal SNR, w = 3"),
    ("", "interval", "+ guidance in [0.1, 0.9]"),
    ("", "rescale", "+ guidance rescaled by 0.7"),
    ("", "interval and rescale", "+ both: the recipe's default"),
    ("", "average 0.02", "+ average of width 0.02 instead of 0.05"),
    ("", "average 0.1", "+ average of width 0.1"),
    ("", "average 0.2", "+ average of width 0.2"),
    ("", "autoguidance w = 1.5", "+ autoguidance, w = 1.5"),
    ("", "autoguidance w = 2", "+ autoguidance, w = 2"),
    ("", "autoguidance w = 3", "+ autoguidance, w = 3"),
)


def generation_markdown(results: Sequence[Mapping[str, Any]]) -> str:
    """Return the table over all seeds, and the sweep over guidance; empty without results."""
    longest = max((result["settings"]["steps"] for result in results), default=0)
    runs = [result for result in results if result["settings"]["steps"] == longest]
    if not runs:
        return ""
    rows = []
    for system, variant, name, shown in ROWS:
        found = [row for run in runs if _is_of(run, system, variant) for row in run["results"]["rows"]]
        row = _row(shown, [row for row in found if row["name"] == name])
        rows += [row] if row else []
    clips = runs[0]["results"]["clips"]
    right = runs[0]["results"]["judge"]["right"]
    about = (
        f"{clips} sounds a row and seed; mean ± standard error over the seeds, or half of the 95 % interval of one "
        f"seed. The classifier that judges is right on {100 * right:.0f} % of held-out real sounds. KAD and FD are "
        f"distances of its vectors to {clips} further real sounds."
    )
    lines = [*markdown_table(HEADS, rows), "", about]
    sweep = [row for run in runs for row in run["results"].get("sweep", ())]
    if sweep:
        scales = sorted({row["guidance"] for row in sweep})
        rows = [
            row for scale in scales if (row := _row(f"{scale:g}", [one for one in sweep if one["guidance"] == scale]))
        ]
        lines += ["", "CLIPSonic-IQ by the scale w of guidance:", "", *markdown_table(("w", *HEADS[1:]), rows)]
    return "\n".join(lines)


def modern_markdown(results: Sequence[Mapping[str, Any]]) -> str:
    """Return a line for each ingredient of the modern twin, beside CLIPSonic-IQ of the same seeds; or nothing."""
    longest = max((result["settings"]["steps"] for result in results), default=0)
    runs = [result for result in results if result["settings"]["steps"] == longest]
    before = {run["settings"]["seed"]: _named(run, "as trained") for run in runs if _is_of(run, "clipsonic_iq", "")}
    modern = [run for run in runs if run["settings"]["system"] == MODERN]
    seeds = {run["settings"]["seed"] for run in modern} & set(before)
    if not seeds:
        return ""
    rows = [[*_row("CLIPSonic-IQ", [before[seed] for seed in sorted(seeds)]), ""]]
    for variant, name, shown in INGREDIENTS:
        found = {
            run["settings"]["seed"]: row
            for run in modern
            if run["settings"]["variant"] == variant
            and run["settings"]["seed"] in seeds
            and (row := _named(run, name)) is not None
        }
        if found:
            changes = [_kernel(row) - _kernel(before[seed]) for seed, row in sorted(found.items())]
            error = f" ± {statistics.stdev(changes) / len(changes) ** 0.5:.2f}" if len(changes) > 1 else ""
            shown_change = f"{statistics.mean(changes):+.2f}{error}"
            rows.append([*_row(shown, [found[seed] for seed in sorted(found)]), shown_change])
    about = (
        "The last column: KAD x100 less that of CLIPSonic-IQ of the same seed, mean ± standard error over the seeds."
    )
    return "\n".join([*markdown_table((*HEADS, "KAD - IQ's"), rows), "", about])


def esc_markdown(results: Sequence[Mapping[str, Any]]) -> str:
    """Return the table of ESC-10's sounds over all seeds."""
    longest = max(result["settings"]["steps"] for result in results)
    results = [result for result in results if result["settings"]["steps"] == longest]
    names = list(dict.fromkeys(row["name"] for run in results for row in run["results"]["rows"]))
    rows = []
    for name in names:
        found = [row for run in results for row in run["results"]["rows"] if row["name"] == name]
        heard = statistics.mean(row["opinion"]["all"] for row in found)
        shown = ESC_NAMES.get(name) or name.replace("text", "CLIP-TTA,").replace("w=", "w = ")
        cells = _row(shown, found, judge="yamnet", names=ESC_SCORES)
        rows.append([*cells[:2], f"{100 * heard:.0f}", *cells[2:]])
    clips = results[0]["results"]["clips"]
    about = f"{clips} sounds a row and seed; ± standard error over the seeds, or half of the 95 % interval of one seed."
    return "\n".join([*markdown_table(ESC_HEADS, rows), "", about])


def _named(run: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    return next((row for row in run["results"]["rows"] if row["name"] == name), None)


def _kernel(row: Mapping[str, Any]) -> float:
    return row["scores"][JUDGE]["kernel"]["value"]


def _is_of(run: Mapping[str, Any], system: str, variant: str) -> bool:
    return (run["settings"]["system"], run["settings"]["variant"]) == (system, variant)


def _row(
    shown: str, found: Sequence[Mapping[str, Any]], *, judge: str = JUDGE, names: Sequence[str] = SCORES
) -> list[str]:
    """Return a row over the seeds; empty without any."""
    if not found:
        return []
    cells = [shown, str(len(found))]
    for name in names:
        # The level belongs to the sounds, all else to the judge.
        scores = [(row if name == "level_db" else row["scores"][judge]).get(name) for row in found]
        known = [score for score in scores if score is not None]
        if not known:
            cells.append("-")
            continue
        factor = 100 if name == "right" else 1
        values = [factor * score["value"] for score in known]
        half = factor * (known[0]["high"] - known[0]["low"]) / 2
        error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else half
        cells.append(f"{statistics.mean(values):.{DIGITS[name]}f} ± {error:.{DIGITS[name]}f}")
    return cells
