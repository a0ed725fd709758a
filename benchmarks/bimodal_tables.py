"""Tables of weak supervision: by the sources of the training mixtures, and by those of the test mixtures."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from vidaudio.markdown import markdown_table

# Rows: system, variant without its K, and what the table calls them.
ROWS = (
    ("bimodal_mixsep", "", "mixtures as if they were single sounds (baseline)"),
    ("bimodal_weak", "", "BiModal"),
    ("bimodal_weak", "single sounds", "BiModal, its encoder trained on single sounds"),
    ("bimodal_semi", "", "BiModal, single sounds in 5 % of the mixtures"),
    ("bimodal_semi", "75", "BiModal, single sounds in 75 % of the mixtures"),
    ("bimodal_supervised", "", "single sounds (full supervision)"),
    ("mixit", "", "MixIT, best output (oracle)"),
    ("mixit_ranked", "", "MixIT, output by its vector"),
)
TRAINED = TESTED = (2, 3, 4)
# Ways to ask, of which a run has one.
METHODS = ("text", "best_head")


def bimodal_markdown(results: Sequence[Mapping[str, Any]]) -> str:
    """Return both tables over all seeds; empty without results."""
    longest = max((result["settings"]["steps"] for result in results), default=0)
    runs = [result for result in results if result["settings"]["steps"] == longest]
    if not runs:
        return ""
    heads = ["trained on", *(f"{count} sounds a mixture" for count in TRAINED)]
    by_training, by_test = [], []
    for system, variant, shown in ROWS:
        cells = [_cell(_of(runs, system, variant, trained), 2) for trained in TRAINED]
        if any(cells):
            by_training.append([shown, *cells])
        tested = [_cell(_of(runs, system, variant, 2), count) for count in TESTED]
        if any(tested):
            suppression = _mean(_of(runs, system, variant, 2), 2, "wrong_text", "suppression")
            by_test.append([shown, *tested, suppression])
    count = runs[0]["results"]["mixtures"]
    about = (
        f"SDR gain over the mixture in dB (BSSEval v4), mean over all sounds of {count} test mixtures of two sounds; "
        "± the standard error over the seeds, whose number stands in brackets."
    )
    more = (
        "The runs of two sounds a mixture, tested on mixtures of more; and by how many dB a mixture of two is quieter "
        "where a sound is asked for that it does not hold:"
    )
    heads_of_tests = ["trained on", *(f"{count} sounds" for count in TESTED), "absent sound, dB"]
    return "\n".join(
        [*markdown_table(heads, by_training), "", about, "", more, "", *markdown_table(heads_of_tests, by_test)]
    )


def _of(runs: Sequence[Mapping[str, Any]], system: str, variant: str, trained: int) -> list[Mapping[str, Any]]:
    """Return the runs of a row and a K; full supervision has no K."""
    words = [variant, "" if trained == 2 else f"K {trained}"]
    wanted = " ".join(filter(None, words))
    if system == "bimodal_supervised":
        wanted = variant
    return [run for run in runs if (run["settings"]["system"], run["settings"]["variant"]) == (system, wanted)]


def _cell(runs: Sequence[Mapping[str, Any]], tested: int) -> str:
    method = next((name for name in METHODS if runs and name in runs[0]["results"]["tested"][str(tested)]), "text")
    return _mean(runs, tested, method, "sdr_improvement")


def _mean(runs: Sequence[Mapping[str, Any]], tested: int, method: str, measure: str) -> str:
    found = [run["results"]["tested"][str(tested)].get(method, {}).get(measure) for run in runs]
    values = [each["mean"] for each in found if each]
    if not values:
        return ""
    error = f" ± {statistics.stdev(values) / len(values) ** 0.5:.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{error} ({len(values)})"
