"""Table of training on selected clips: what each arm keeps, three ways to ask, and the gain over as many at random."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.noisy_tables import WAYS
from benchmarks.seeds import scores_over_seeds
from vidaudio.markdown import markdown_table

# Arms in the table's order, as (system, variant), and how they are called.
ARMS: Mapping[tuple[str, str], str] = {
    ("clipsep", ""): "all clips",
    ("clipsep", "random"): "as many as filtered, at random",
    ("clipsep", "filtered"): "filtered, P > 0.5",
    ("clipsep", "weighted"): "weighted by P",
    ("clipsep", "oracle"): "those that correspond (oracle)",
    ("clipsep_nit", "start 600"): "all clips, CLIPSep-NIT",
}
BASE = ("clipsep", "random")
HEADS = ("trained on", "seeds", *WAYS.values(), "in words, over random")


def selection_markdown(results: Sequence[Mapping[str, Any]]) -> str:
    """Return the table, and what the filter kept; empty without a result."""
    longest = max((result["settings"]["steps"] for result in results), default=0)
    arms: dict[tuple[str, str], dict[int, Mapping[str, Any]]] = {}
    for result in results:
        settings = result["settings"]
        if settings["steps"] == longest:
            arms.setdefault((settings["system"], settings["variant"]), {})[settings["seed"]] = result["results"]
    if not arms:
        return ""
    rows = []
    for arm, name in ARMS.items():
        if arm in arms:
            runs = arms[arm]
            cells = [scores_over_seeds([run["summaries"][way] for run in runs.values()]) for way in WAYS]
            gain = "" if arm == BASE else _gain(runs, arms.get(BASE, {}))
            rows.append([name, str(len(runs)), *cells, gain])
    about = (
        "SI-SDR gain over the mixture; SDR with its standard error (over seeds where there are several, else over "
        "mixtures), dB. Over random: SDR in words as they are, seed by seed, with the error over seeds."
    )
    return "\n".join([*markdown_table(HEADS, rows), "", f"{about} {_kept(results)}"])


def _gain(runs: Mapping[int, Mapping[str, Any]], base: Mapping[int, Mapping[str, Any]]) -> str:
    """Return the mean difference of text SDR to the base over seeds that both have, and its error."""
    gains = [_text_sdr(runs[seed]) - _text_sdr(base[seed]) for seed in sorted(set(runs) & set(base))]
    if not gains:
        return ""
    error = f" ± {statistics.stdev(gains) / len(gains) ** 0.5:.2f}" if len(gains) > 1 else ""
    return f"{statistics.mean(gains):+.2f}{error}"


def _text_sdr(run: Mapping[str, Any]) -> float:
    return float(run["summaries"]["text"]["sdr"]["mean"])


def _kept(results: Sequence[Mapping[str, Any]]) -> str:
    """Return what the scorer of each seed said and kept."""
    by_seed = {result["settings"]["seed"]: result["results"]["selection"] for result in results}
    told = []
    for seed, facts in sorted(by_seed.items()):
        told.append(
            f"seed {seed} estimated {100 * facts['estimated_share']:.0f} % (truth {100 * facts['share']:.0f} %), "
            f"kept {facts['kept']:,} of {facts['clips']:,}, of which {facts['kept_that_correspond']:,} correspond"
        )
    return (
        "What the scorers say of the share of the whole corpus that does not correspond, and what the filter keeps of "
        f"the training and validation clips, seed by seed: {'; '.join(told)}."
    )
