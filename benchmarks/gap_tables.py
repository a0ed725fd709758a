"""Table of the methods against the modality gap: what each brings in words, and what it leaves of the gap."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from benchmarks.gap import MEASURES, PLAIN
from benchmarks.seeds import scores_over_seeds
from vidaudio.markdown import markdown_table
from vidaudio.modality_gap import ASKING_METHODS, METHODS

RESAMPLES = 4_000
HEADS = (
    "asked by",
    "texts it needs",
    "seeds",
    "SI-SDR gain; SDR (gain)",
    "share of the gap closed",
    "centroids apart",
    "Fréchet",
    "MMD",
    "R@1",
)
CEILING, FLOOR = "pictures", "words as they are"
LABELS = "labels in training"
# Systems beside plain CLIPSep, as (system, variant).
SYSTEMS: Mapping[tuple[str, str], tuple[str, str]] = {
    ("clipsep", "noise"): ("words, trained with noise", "none"),
    ("clipsep", "centred noise"): ("words, trained without means, with noise", "unpaired"),
    ("clipsep", "dropout"): ("words, trained with dropout", "none"),
    ("clipsep", "dropout 0.25"): ("words, trained with dropout, rate 0.25", "none"),
    ("clipsep", "dropout 0.75"): ("words, trained with dropout, rate 0.75", "none"),
    ("clipsep", "mixup"): ("words, trained with mixup", LABELS),
    ("clipsep_hybrid", ""): ("words, CLIPSep-Hybrid", LABELS),
    ("clipsep_text", ""): ("words, CLIPSep-Text", LABELS),
}


def gap_markdown(results: Sequence[Mapping[str, Any]]) -> str:
    """Return the table and what it says about the measures; empty before plain CLIPSep is measured."""
    runs: dict[tuple[str, str], dict[int, Mapping[str, Any]]] = {}
    longest = max((result["settings"]["steps"] for result in results), default=0)
    for result in results:
        settings = result["settings"]
        if settings["steps"] == longest:
            key = (settings["system"], settings.get("variant", ""))
            runs.setdefault(key, {})[settings["seed"]] = result["results"]
    plain = runs.get(("clipsep", ""), {})
    if not plain:
        return ""
    rows = [_row(CEILING, "", plain, plain, "image", ""), _row(FLOOR, "", plain, plain, PLAIN, PLAIN)]
    for method in _measured(plain):
        rows.append(_row(f"words, {method.replace('_', ' ')}", _texts(method), plain, plain, method, method))
    for key, (name, texts) in SYSTEMS.items():
        if key in runs:
            rows.append(_row(name, texts, runs[key], plain, PLAIN, PLAIN))
    count = len(next(iter(plain.values()))["scores"][PLAIN]["sdr"])
    about = (
        f"Over {count} test mixtures; dB. Share: of the SDR between words as they are and pictures, over all seeds, "
        "with a 95 % interval (bootstrap over seeds and mixtures). The measures are those of `vidaudio gap`, after the "
        f"method. {_prediction(plain)}"
    )
    return "\n".join([*markdown_table(HEADS, rows, texts=2), "", about])


def share_closed(results: Mapping[int, Mapping[str, Any]], plain: Mapping[int, Mapping[str, Any]], way: str) -> str:
    """Return the share of the gap in SDR that a way of asking closes, with its interval.

    Args:
        results: Results of the way's runs by seed.
        plain: Results of plain CLIPSep by seed; seeds without one are left out.
        way: Name of the scores in `results`.
    """
    seeds = sorted(set(results) & set(plain))
    rows = [(_sdr(results[seed], way), _sdr(plain[seed], PLAIN), _sdr(plain[seed], "image")) for seed in seeds]
    # Mixtures that were scored every way, in all seeds.
    known = sorted(set.intersection(*(set(scores) for row in rows for scores in row)))
    asked, floor, ceiling = np.array([[[scores[n] for n in known] for scores in row] for row in rows]).swapaxes(0, 1)
    share, low, high = _ratio_interval(asked - floor, ceiling - floor)
    return f"{100 * share:.0f} % [{100 * low:.0f}, {100 * high:.0f}]"


def _ratio_interval(part: NDArray[np.float64], whole: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return the ratio of the means of two arrays [seeds, mixtures], and its 95 % interval by bootstrap over both."""
    rng = np.random.default_rng(0)
    seeds, mixtures = part.shape
    chosen_seeds = rng.integers(seeds, size=(RESAMPLES, seeds, 1))
    chosen_mixtures = rng.integers(mixtures, size=(RESAMPLES, 1, mixtures))
    ratios = part[chosen_seeds, chosen_mixtures].mean((1, 2)) / whole[chosen_seeds, chosen_mixtures].mean((1, 2))
    low, high = np.percentile(ratios, [2.5, 97.5])
    return float(part.mean() / whole.mean()), float(low), float(high)


def _sdr(result: Mapping[str, Any], way: str) -> dict[int, float]:
    return {int(number): value for number, value in result["scores"][way]["sdr"].items()}


def _measured(plain: Mapping[int, Mapping[str, Any]]) -> list[str]:
    """Return the methods of asking that were tried in all seeds: results are older than the newest methods."""
    return [method for method in ASKING_METHODS if all(method in result["through"] for result in plain.values())]


def _texts(method: str) -> str:
    needs = METHODS[method].needs
    if "pairs" in needs:
        return "pairs"
    return "unpaired" if "texts" in needs else "none"


def _row(
    name: str,
    texts: str,
    results: Mapping[int, Mapping[str, Any]],
    plain: Mapping[int, Mapping[str, Any]],
    way: str,
    measured: str,
) -> list[str]:
    summaries = [_summary(result, way) for result in results.values()]
    gain = statistics.mean(summary["sdr_improvement"]["mean"] for summary in summaries)
    scores = f"{scores_over_seeds(summaries)} ({gain:+.2f})"
    share = "" if name == FLOOR else "100 %" if name == CEILING else share_closed(results, plain, way)
    measures = [_mean_measure(results, measured, measure) for measure in MEASURES]
    shown = ("" if value is None else f"{value:.3f}" for value in measures)
    return [name, texts, str(len(results)), scores, share, *shown]


def _summary(result: Mapping[str, Any], way: str) -> Mapping[str, Any]:
    return result["summaries"][way] if way in ("image", PLAIN) else result["through"][way]


def _mean_measure(results: Mapping[int, Mapping[str, Any]], name: str, measure: str) -> float | None:
    values = [result["gap"].get(name, {}).get(measure) for result in results.values()]
    return statistics.mean(values) if values and None not in values else None


def _prediction(plain: Mapping[int, Mapping[str, Any]]) -> str:
    """Return which measure orders the ways of asking CLIPSep as their SDR does."""
    ways = [PLAIN, *_measured(plain)]
    sdr = [statistics.mean(_summary(result, way)["sdr"]["mean"] for result in plain.values()) for way in ways]
    told = []
    for head, measure in zip(HEADS[-len(MEASURES) :], MEASURES, strict=True):
        values = [_mean_measure(plain, way, measure) for way in ways]
        if None not in values and len(set(values)) > 1:
            told.append(f"{head} {spearmanr(values, sdr).statistic:+.2f}")
    return f"Rank correlation with SDR over these {len(ways)} ways of asking CLIPSep: {', '.join(told)}."
