"""Tables of the trainings in results/: a row a system and budget, over all seeds that are there.

A row is printed only for a finished run whose frozen encoder, if it has one, says what it was trained on.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks import common
from benchmarks.bimodal_tables import bimodal_markdown
from benchmarks.common import machine_words
from benchmarks.gap_tables import gap_markdown
from benchmarks.generation_tables import esc_markdown, generation_markdown, modern_markdown
from benchmarks.noisy_tables import noisy_markdown
from benchmarks.selection_tables import selection_markdown
from vidaudio.tasks.separation.evaluation.protocols import load_protocol
from vidaudio.text import number_of

# In this order; what is said above each.
TITLES: Mapping[str, tuple[str, str]] = {
    "systems": (
        "The eight systems on the demo world",
        "Rendered videos of eight kinds of things; one budget for all, a U-Net of 0.2 million numbers (that of "
        "`train/demo.yaml` has 1.3) and 2 s of sound. Tested on mixtures of held-out videos of two kinds; words are "
        "asked as they are. `python -m benchmarks.systems`; CLIPSep, -Text and -Hybrid are runs of "
        "`python -m benchmarks.gap`.",
    ),
    "gap": (
        "Pictures in training, words afterwards",
        "CLIPSep trained with pictures on the demo world, and asked in words through every method against the gap "
        "between the two; below, methods and systems that change training. [What each does](gap.md). "
        "`python -m benchmarks.gap`",
    ),
    "noisy": (
        "The eight systems in a noisy world",
        "The same world, but half of the training videos also hold the sound of a thing that is not in the picture, 0 "
        "to 6 dB below the visible one. Noise heads are dropped at test. CLIPSep-NIT trains its heads from step 600 "
        "on, with gamma 0.25 as in the paper, unless a row says otherwise; activation is the mean sum of both noise "
        "masks at the end of the training. "
        "`python -m benchmarks.noisy`",
    ),
    "selection": (
        "Trained on what corresponds",
        "The same world, but a third of the training and validation videos have the sound of another kind. A scorer is "
        "fitted to the corpus as it is; equal steps for all arms; all tested on the same clean mixtures. "
        "`python -m benchmarks.selection`",
    ),
    "bimodal": (
        "Trained on mixtures",
        "The same kinds of things, 1,200 training videos, CLIPSep's U-Net of 0.2 million numbers, 4.1 s. What is in a "
        "training mixture is known by its labels alone. [What each is](weak_supervision.md). "
        "`python -m benchmarks.bimodal`",
    ),
    "generation": (
        "Generated sounds",
        "The same kinds of things, 1,200 training videos, 64 x 128 mels (4.1 s), a U-Net of 2.8 million numbers, 25 "
        "steps of SDE-DPM-Solver++ with w = 1.5, Griffin-Lim. [What each is](generation.md). "
        "`python -m benchmarks.generation`",
    ),
    "modern_generation": (
        "CLIPSonic-IQ and its modern twin",
        "Sizes and data of the table above, half of its steps; one line an ingredient. "
        "`python -m benchmarks.modern_generation`",
    ),
    "esc10_generation": (
        "Real sounds, generated",
        "CLIP-TTA of the size above, trained on 120 sounds of five classes of ESC-10 with real CLIP text vectors. "
        "YAMNet judges: the share whose class it finds the likeliest of the five, and distances to half of fold 4. "
        "`python -m benchmarks.esc10_generation`",
    ),
    "esc10": (
        "Real sounds: ESC-10",
        "Trained on folds 1 to 3 (240 sounds of 5 s, ten classes), tested on fold 4, every sound mixed with one of "
        "another class (protocol `esc`). `python -m benchmarks.esc10`",
    ),
    "esc10_words": (
        "Real sounds, asked by real CLIP vectors",
        "The same on the five classes that have a CLIP text vector (dog, helicopter, chainsaw, clock, and rooster as "
        "`cock`). CLIPSep-Text is trained and asked with those vectors.",
    ),
}
METHOD_NAMES: Mapping[str, str] = {
    "text": "asked in words",
    "image": "asked by pictures",
    "mask_or_complement": "better of mask and complement (oracle)",
    "best_head": "better head (oracle)",
    "first_head": "first head",
}
NAMES: Mapping[str, str] = {
    "clipsep": "CLIPSep",
    "clipsep_nit": "CLIPSep-NIT",
    "clipsep_text": "CLIPSep-Text",
    "clipsep_hybrid": "CLIPSep-Hybrid",
    "labelsep": "LabelSep",
    "bertsep": "BERTSep",
    "sop": "SOP (frozen ResNet)",
    "pit": "PIT",
    **dict.fromkeys(("bimodal_weak", "bimodal_semi", "bimodal_supervised", "bimodal_mixsep"), "BiModal"),
    **dict.fromkeys(("mixit", "mixit_ranked"), "MixIT"),
    "clipsonic_iq": "CLIPSonic-IQ",
    "clipsonic_iq_modern": "CLIPSonic-IQ, modern",
    "clip_tta": "CLIP-TTA",
    "clap_tta": "CLAP-TTA",
}
# Of the steps, at the end of which validation is looked at for whether it still improves.
LAST_PART = 0.2
# Variants of a table that are a system's own recipe, where a run without a variant is not.
DEFAULT_VARIANTS: Mapping[tuple[str, str], str] = {("noisy", "clipsep_nit"): "start 600"}
WITHOUT_ENCODER = ("labelsep", "pit", "mixit")


def training_results(table: str | None = None) -> list[dict[str, Any]]:
    """The newest result of every finished training of a table, or of all; tries are left out."""
    newest: dict[str, dict[str, Any]] = {}
    for path in sorted(common.RESULTS.glob("*.json")):
        result = json.loads(path.read_text())
        settings = result["settings"]
        if settings.get("kind") != "training" or settings["quick"] or not may_be_shown(settings):
            continue
        if table is not None and not is_of_table(settings, table):
            continue
        known = newest.get(result["benchmark"])
        if known is None or result["date"] > known["date"]:
            newest[result["benchmark"]] = result
    return [newest[name] for name in sorted(newest)]


def may_be_shown(settings: Mapping[str, Any]) -> bool:
    """Whether a run's encoder is known to have been trained; systems without one may always be shown."""
    if settings["system"] in WITHOUT_ENCODER:
        return True
    encoder = settings.get("encoder") or {}
    own = encoder.get("steps", 0) > 0 and bool(encoder.get("measured"))
    return bool(encoder.get("weights_sha256")) and (own or encoder.get("published") is True)


def training_markdown(results: Sequence[Mapping[str, Any]], tables: Iterable[str] = tuple(TITLES)) -> str:
    """Some tables (all by default), their encoders and where they were made."""
    parts = []
    for table in tables:
        title, about = TITLES[table]
        rows = [result for result in results if is_of_table(result["settings"], table)]
        shown = _shown(table, rows) if rows else ""
        if shown:
            parts.append(f"## {title}\n\n{about}\n\n{shown}\n\n{_made(rows)}")
            parts += _apart(rows)
            parts += _published(rows)
    encoders = _encoders(results)
    return "\n\n".join(parts + ([encoders] if encoders else []))


def is_of_table(settings: Mapping[str, Any], table: str) -> bool:
    """Return whether a run belongs to a table; some runs without a variant are also rows of another one."""
    if settings["table"] == table:
        return True
    if settings.get("variant"):
        return False
    return table == "systems" and settings["table"] == "gap"


def _shown(table: str, rows: Sequence[Mapping[str, Any]]) -> str:
    if table == "gap":
        return gap_markdown(rows)
    if table == "bimodal":
        return bimodal_markdown(rows)
    if table == "generation":
        return generation_markdown(rows)
    if table == "esc10_generation":
        return esc_markdown(rows)
    if table == "modern_generation":
        return modern_markdown(rows)
    if table == "selection":
        return selection_markdown(rows)
    return noisy_markdown(rows, NAMES) if table == "noisy" else table_markdown(rows)


def table_markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """One table: a row a system and budget. SDR in dB, mean and standard error, and the gain over the mixture."""
    groups: dict[tuple[int, str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        settings = row["settings"]
        groups.setdefault((settings["steps"], settings["system"], settings.get("variant", "")), []).append(row)
    order = list(NAMES)
    keys = sorted(groups, key=lambda key: (key[0], order.index(key[1]), key[2]))
    methods = [m for m in METHOD_NAMES if any(m in row["results"]["summaries"] for row in rows)]
    head = ["system", "trained with", "mixtures seen", "seeds", *(METHOD_NAMES[method] for method in methods)]
    lines = ["| " + " | ".join(head) + " |", "| --- " * len(head) + "|"]
    for key in keys:
        group = groups[key]
        settings = group[0]["settings"]
        name = ", ".join(filter(None, [NAMES[key[1]], key[2]]))
        cells = [name, settings["train_query"], f"{settings['mixtures']:,}", str(len(group))]
        cells += [_cell([row["results"]["summaries"] for row in group], method) for method in methods]
        lines.append("| " + " | ".join(cells) + " |")
    mixture = rows[0]["results"]["summaries"]["mixture"]["sdr"]
    counts = sorted({row["results"]["mixtures"] for row in rows})
    lines.append(
        "\nSI-SDR gain over the mixture; SDR of the target (BSSEval v4) with its standard error, and in brackets its "
        f"gain over the mixture{_over_wrong_words(rows)}; all in dB, over {' or '.join(map(str, counts))} test "
        f"mixtures. The mixture itself scores {_plain(mixture['mean'])} dB SDR."
    )
    if any(len(group) > 1 for group in groups.values()):
        lines[-1] += " Of several seeds: the mean of their means, and its error over the seeds, not over the mixtures."
    return "\n".join(lines)


def _plain(decibels: float) -> str:
    """Two digits, and no minus before a zero."""
    return f"{round(decibels, 2) + 0.0:.2f}"


def _cell(runs: Sequence[Mapping[str, Any]], method: str) -> str:
    """SI-SDR gain; SDR with its error and gain, and what that is over a wrong query, as far as the runs have them."""
    known = [summaries for summaries in runs if method in summaries]
    if not known:
        return ""
    asked = [summaries[method] for summaries in known]
    means = [summary["sdr"]["mean"] for summary in asked]
    over_seeds = statistics.stdev(means) / len(means) ** 0.5 if len(means) > 1 else None
    error = asked[0]["sdr"]["standard_error"] if over_seeds is None else over_seeds
    told = "" if error is None else f" ± {error:.2f}"
    brackets = [_gain([summary["sdr_improvement"]["mean"] for summary in asked], asked)]
    wrong = [summary["over_wrong"]["mean"] for summary in asked if summary.get("over_wrong")]
    if len(wrong) == len(asked):
        brackets.append(f"{statistics.mean(wrong):+.2f} over wrong")
    scale_invariant = si_sdr_gains(known, method)
    first = f"{statistics.mean(scale_invariant):+.2f}; " if scale_invariant else ""
    return f"{first}{statistics.mean(means):.2f}{told} ({', '.join(brackets)})"


def _gain(gains: Sequence[float], asked: Sequence[Mapping[str, Any]]) -> str:
    """Mean SDR gain; `none` where in no run the right query gained more than a wrong one."""
    mean = statistics.mean(gains)
    of_level = all(summary.get("gain_of_asking") is False for summary in asked)
    return f"none ({mean:+.2f})" if of_level and mean > 0 else f"{mean:+.2f}"


def si_sdr_gains(runs: Sequence[Mapping[str, Any]], method: str) -> list[float]:
    """Mean SI-SDR gain of each run; of runs stored before it was, from the means of method and mixture.

    Empty where a run has neither.
    """
    found = []
    for summaries in runs:
        asked, mixture = summaries[method], summaries.get("mixture", {})
        if "si_sdr_improvement" in asked:
            found.append(asked["si_sdr_improvement"]["mean"])
        elif "si_sdr" in asked and asked["si_sdr"]["count"] == mixture.get("si_sdr", {}).get("count"):
            found.append(asked["si_sdr"]["mean"] - mixture["si_sdr"]["mean"])
        else:
            return []
    return found


def _over_wrong_words(rows: Sequence[Mapping[str, Any]]) -> str:
    stored = any(s.get("over_wrong") for row in rows for s in row["results"]["summaries"].values())
    return " and the gain over a query for a sound that is not there" if stored else ""


def _apart(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What a system made of the class it was never trained on."""
    told = []
    for row in rows:
        unseen = row["results"].get("unseen")
        if unseen and "sdr" in unseen:
            told.append(
                f"{NAMES[row['settings']['system']]}, asked for *{unseen['label']}*, a class it was never trained on, "
                f"by CLIP's vector of *a {unseen['asked_as']}*: {unseen['sdr']['mean']:.2f} dB "
                f"({unseen['sdr_improvement']['mean']:+.2f}) over {unseen['sdr']['count']} mixtures."
            )
    return told


def _published(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The paper's figures for a protocol, where it has some: for context, on other data and another budget."""
    name = rows[0]["results"].get("protocol")
    if name is None or name.startswith("split "):
        return []
    published = load_protocol(name).published
    if published is None:
        return []
    figures = "; ".join(f"{row.model} {row.mean:.2f} ± {row.standard_error:.2f}" for row in published.rows)
    return [f"For context only, on all of ESC-50 and at full size and length ({published.source}): {figures}."]


def _made(rows: Iterable[Mapping[str, Any]]) -> str:
    rows = list(rows)
    machines = sorted({machine_words(row["machine"]) for row in rows})
    commits = sorted({commit or "unknown" for row in rows for commit in row["settings"]["commits"] or [row["commit"]]})
    made = f"Trained on {'; '.join(machines)}; commit {', '.join(commits)}."
    return " ".join(filter(None, [_flatness(rows), made]))


def _flatness(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return how much validation still changed at the end of the runs whose curve is known; empty where none is."""
    changes = []
    # A generator's curve is that of its loss.
    for row in [row for row in rows if "rows" not in row["results"]]:
        curve = {int(step): gain for step, gain in row["results"].get("validation_curve", {}).items()}
        earlier = [step for step in curve if step <= (1 - LAST_PART) * row["settings"]["steps"]]
        if earlier:
            changes.append(curve[max(curve)] - curve[max(earlier)])
    if not changes:
        return ""
    mean, low, high = statistics.mean(changes), min(changes), max(changes)
    return (
        f"In the last {100 * LAST_PART:.0f} % of the steps, the SI-SDR gain in validation changed by {mean:+.2f} dB on "
        f"average ({low:+.2f} to {high:+.2f}, {number_of(len(changes), 'run')})."
    )


def _encoders(results: Sequence[Mapping[str, Any]]) -> str:
    """What the frozen encoders of the rows were trained on."""
    shown = [row["settings"] for row in results if row["settings"]["encoder"]]
    facts = {settings["encoder"]["weights_sha256"]: settings["encoder"] for settings in shown}
    if not facts:
        return ""
    lines = ["| of | trained on | steps | on held-out examples |", "| --- | --- | --- | --- |"]
    for sha, encoder in facts.items():
        users = {NAMES[settings["system"]] for settings in shown if settings["encoder"]["weights_sha256"] == sha}
        measured = sorted((encoder.get("measured") or {}).items())
        figures = ", ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in measured)
        steps = f"{encoder['steps']:,}" if encoder.get("steps") else "published"
        lines.append(f"| {', '.join(sorted(users))} | {encoder['trained_on']} | {steps} | {figures} |")
    return "## The frozen encoders\n\n" + "\n".join(lines)
