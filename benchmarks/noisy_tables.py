"""Table of the systems in a noisy world: clean and noisy tests, all ways to ask, and levels."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.noisy import TESTS
from benchmarks.seeds import scores_over_seeds
from benchmarks.world import THROUGH
from vidaudio.markdown import markdown_table

WAYS = {"text": "in words", THROUGH: "in words, through the nearest pictures", "image": "by pictures"}
# What is said of variants beside the system's name. The system's own recipe at this budget has `start 600`.
VARIANTS: Mapping[tuple[str, str], str] = {
    ("clipsep_nit", ""): "heads from the first step",
    ("clipsep_nit", "bias -3"): "heads from the first step, bias -3",
    ("clipsep_nit", "start 600"): "",
    ("clipsep_nit", "start 600 gamma 0.1"): "gamma 0.1",
    ("clipsep_nit", "start 600 gamma 0"): "gamma 0",
}
UNASKED = {"mask_or_complement": "better of mask and complement (oracle)"}
HEADS = ("system", "seeds", "noise activation", "test")


def noisy_markdown(results: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> str:
    """Return the table; empty without a result.

    Args:
        results: Results of the table's runs.
        names: How systems are called.
    """
    longest = max((result["settings"]["steps"] for result in results), default=0)
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for result in results:
        settings = result["settings"]
        if settings["steps"] == longest:
            groups.setdefault((settings["system"], settings.get("variant", "")), []).append(result["results"])
    if not groups:
        return ""
    summaries = [run["tests"][test] for runs in groups.values() for run in runs for test in TESTS]
    ways = {way: head for way, head in (WAYS | UNASKED).items() if any(way in found for found in summaries)}
    rows = []
    for (system, variant), runs in sorted(groups.items()):
        name = ", ".join(filter(None, [names[system], VARIANTS.get((system, variant), variant)]))
        activations = [run["noise_activation"] for run in runs if run["noise_activation"] is not None]
        activation = f"{statistics.mean(activations):.2f}" if activations else ""
        for test in TESTS:
            cells = [_cell([run["tests"][test][way] for run in runs if way in run["tests"][test]]) for way in ways]
            rows.append([name, str(len(runs)), activation, test, *cells])
    mixtures = {test: next(iter(groups.values()))[0]["tests"][test]["mixture"]["sdr"]["mean"] for test in TESTS}
    told = " and ".join(f"{value:.2f} dB ({test})" for test, value in mixtures.items())
    about = (
        "SI-SDR gain over the mixture; SDR with its standard error (over seeds where there are several, else over "
        f"mixtures); and the level of what came out, relative to the target; dB. The mixture itself scores {told} SDR."
    )
    return "\n".join([*markdown_table([*HEADS, *ways.values()], rows), "", about])


def _cell(summaries: Sequence[Mapping[str, Any]]) -> str:
    if not summaries:
        return ""
    level = statistics.mean(summary["level"]["mean"] for summary in summaries)
    return f"{scores_over_seeds(summaries)}; {level:+.1f}"
