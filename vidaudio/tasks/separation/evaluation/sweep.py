"""Several runs over the same mixtures: side by side, or along a training setting.

A setting such as gamma belongs to training, so a sweep evaluates one run per value, found by the run's recipe (CLIPSep,
figure 6). Values without a run are reported; nothing is trained here.
"""

from __future__ import annotations

import csv
import difflib
import io
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel

from vidaudio.errors import CheckpointError, RecipeError
from vidaudio.markdown import markdown_table
from vidaudio.tasks.separation.evaluation.report import EvaluationReport, figure
from vidaudio.tasks.separation.evaluation.scorers import MEASURES
from vidaudio.tasks.separation.evaluation.tables import as_csv, as_markdown, mean_and_error, modality_table
from vidaudio.tasks.separation.recipe import SeparationRecipe
from vidaudio.training.checkpoint import holds_weights, read_checkpoint

# The papers' names of some settings.
SHORT_NAMES = {"gamma": "model.noise.gamma", "lambda": "model.noise.activation_weight"}


@dataclass(frozen=True, slots=True)
class Sweep:
    """A key of the recipe, and the values to evaluate."""

    key: str
    values: tuple[Any, ...]

    @classmethod
    def parse(cls, text: str) -> Sweep:
        """Parse `KEY=V1,V2 ...`; `gamma` and `lambda` are short for the NIT settings.

        Raises:
            RecipeError: When the text does not have that form, or recipes have no such key.
        """
        key, equals, listed = text.partition("=")
        if not equals or not key.strip() or not listed.strip():
            raise RecipeError(f"--sweep wants KEY=VALUE,VALUE,..., such as gamma=0,0.1,0.25, not {text!r}")
        values = tuple(yaml.safe_load(value) for value in listed.split(","))
        key = key.strip()
        if key not in SHORT_NAMES:
            _require_key(key)
        return cls(SHORT_NAMES.get(key, key), values)


@dataclass(frozen=True, slots=True)
class SweepReport:
    """Reports of a sweep.

    Attributes:
        sweep: The key and its values.
        points: Value, treatment of the noise heads, and report of each evaluation.
        missing: Values without a run.
        left_out: Runs with none of the values, each with its own value.
    """

    sweep: Sweep
    points: tuple[tuple[Any, str, EvaluationReport], ...]
    missing: tuple[Any, ...]
    left_out: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.as_markdown()

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-able dict."""
        points = [{"value": v, "noise_heads": heads, **r.as_dict()} for v, heads, r in self.points]
        return {"key": self.sweep.key, "missing": list(self.missing), "left_out": list(self.left_out), "points": points}

    def as_markdown(self) -> str:
        """Return a table with a row per value and treatment of the noise heads, and a column per method."""
        methods = _methods(self.points)
        heads = [self.sweep.key, "noise heads", *(method.replace("_", " ") for method in methods)]
        rows = []
        for value, noise_heads, report in self.points:
            cells = []
            for method in methods:
                found = report.summary(method)
                mark = " *" if method in report.oracles else ""
                gain = figure(report.improvement(method, "si_sdr").mean)
                told = f"{gain} / {mean_and_error(found)} / {figure(found.median)}{mark}"
                cells.append(told if found.count else f"-{mark}")
            rows.append([value, noise_heads, *cells])
        lines = [
            f"# {self.points[0][2].about.tested}, by {self.sweep.key}",
            "",
            "SI-SDR gain over the mixture / SDR of the target, mean ± standard error / median, dB.",
            "",
            *markdown_table(heads, rows, texts=2),
        ]
        if any(report.oracles for *_, report in self.points):
            lines += ["", "\\* An oracle: of the noise heads the one that scores best is kept."]
        lines += ["", f"No run was given for: {', '.join(map(str, self.missing))}."] if self.missing else []
        lines += ["", f"Runs left out: {'; '.join(self.left_out)}."] if self.left_out else []
        left_out = [
            f"{self.sweep.key}={value}, noise heads {heads}, {line}"
            for value, heads, report in self.points
            for line in report.left_out()
        ]
        shared = {line for *_, report in self.points for line in (*report.asked(), *report.about.notes)}
        remarks = [*left_out, *sorted(shared)]
        return "\n".join([*lines, *(["", *(f"- {remark}" for remark in remarks)] if remarks else [])]) + "\n"

    def as_csv(self) -> str:
        """Return a row per value, treatment of the noise heads, method and measure."""
        sink = io.StringIO()
        writer = csv.writer(sink, lineterminator="\n")
        writer.writerow([self.sweep.key, "noise_heads", "method", "measure", "mean_db", "se_db", "median_db", "n"])
        for value, heads, report in self.points:
            for method in report.methods:
                for measure in MEASURES:
                    s = report.summary(method, measure)
                    # As in a CSV of scores: a missing number is an empty cell.
                    figures = ["" if math.isnan(v) else f"{v:.4f}" for v in (s.mean, s.standard_error, s.median)]
                    writer.writerow([value, heads, method, measure, *figures, s.count])
        return sink.getvalue()


def find_runs(runs: Sequence[str | Path], sweep: Sweep) -> tuple[list[tuple[Any, Path]], list[Any], list[str]]:
    """Return (value, run) pairs in the sweep's order, values without a run, and runs with none of the values.

    Args:
        runs: Folders or weights files of runs; a folder without weights means all runs in it.
        sweep: The key and the values to evaluate.

    Raises:
        CheckpointError: When no run has one of the values, or two runs have the same value.
    """
    found: dict[int, Path] = {}
    left_out = []
    for path in _expanded(runs):
        value = setting_of(path, sweep.key)
        if value not in sweep.values:
            left_out.append(f"{path} has no {sweep.key}" if value is None else f"{path} has {sweep.key}={value}")
        for place, wanted in enumerate(sweep.values):
            if value == wanted:
                if place in found:
                    raise CheckpointError(f"{found[place]} and {path} both have {sweep.key}={wanted}; name one of them")
                found[place] = path
    if not found:
        raise CheckpointError(
            f"none of the runs has {sweep.key} in {', '.join(map(str, sweep.values))}: {'; '.join(left_out)}"
        )
    missing = [value for place, value in enumerate(sweep.values) if place not in found]
    return [(sweep.values[place], found[place]) for place in sorted(found)], missing, left_out


def setting_of(run: Path, key: str) -> Any:
    """Return a setting of the recipe that a run was trained with; None if its recipe has no such key."""
    value: Any = read_checkpoint(run)[1]["recipe"]
    for part in key.split("."):
        if not isinstance(value, dict) or part not in value:
            return None
        value = value[part]
    return value


def run_sweep(
    runs: Sequence[str | Path],
    sweep: Sweep,
    evaluate: Callable[[Path, str], EvaluationReport],
    noise_heads: Sequence[str] = ("drop",),
) -> SweepReport:
    """Evaluate the run of each value with `evaluate(run, noise_heads)`.

    Raises:
        CheckpointError: When `find_runs` raises it.
    """
    found, missing, left_out = find_runs(runs, sweep)
    points = [(value, heads, evaluate(path, heads)) for value, path in found for heads in noise_heads]
    return SweepReport(sweep, tuple(points), tuple(missing), tuple(left_out))


def draw_sweep(report: SweepReport, path: Path) -> None:
    """Draw mean SDR and standard error along the values, a line per method and noise-head treatment; SVG."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    FigureCanvasSVG(figure)
    axis = figure.subplots()
    at = {value: place for place, value in enumerate(dict.fromkeys(value for value, *_ in report.points))}
    lines: dict[tuple[str, str], list[Any]] = {}
    for value, heads, each in report.points:
        for method in _methods(report.points):
            if method.startswith("wrong_"):
                continue  # would add two more lines each; the table has them
            lines.setdefault((method, heads), []).append((at[value], each.summary(method)))
    for (method, heads), points in lines.items():
        style = "--" if heads == "keep" else "-"
        label = f"{method.replace('_', ' ')}, noise heads: {heads}"
        means, errors = [s.mean for _, s in points], [s.standard_error for _, s in points]
        axis.errorbar([x for x, _ in points], means, yerr=errors, fmt=style, marker="o", capsize=3, label=label)
    axis.set_xticks(list(at.values()), [str(value) for value in at])
    axis.set_xlabel(report.sweep.key)
    axis.set_ylabel("SDR, dB, mean ± standard error")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    figure.savefig(path, format="svg", metadata={"Date": None})


def write_sweep(report: SweepReport, folder: str | Path) -> Path:
    """Write `sweep.json`, `.md`, `.csv` and `.svg` into a folder, and return the path of the JSON file."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sweep.json").write_text(json.dumps(report.as_dict(), indent=2, sort_keys=True) + "\n")
    (folder / "sweep.md").write_text(report.as_markdown())
    (folder / "sweep.csv").write_text(report.as_csv())
    draw_sweep(report, folder / "sweep.svg")
    return folder / "sweep.json"


def write_comparison(reports: Sequence[EvaluationReport], folder: str | Path, *, published: bool = False) -> Path:
    """Write the comparison of systems as `comparison.md`, `.json` and `.csv`, and return the path of the JSON file."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "comparison.md").write_text(comparison(reports, published=published))
    described = json.dumps([report.as_dict() for report in reports], indent=2, sort_keys=True)
    (folder / "comparison.json").write_text(described + "\n")
    lines: list[str] = []
    for report in reports:
        header, *rows = as_csv(report).splitlines()
        lines += [] if lines else [f"checkpoint,{header}"]
        lines += [f"{json.dumps(report.about.checkpoint)},{row}" for row in rows]
    (folder / "comparison.csv").write_text("\n".join(lines) + "\n")
    return folder / "comparison.json"


def comparison(reports: Sequence[EvaluationReport], *, published: bool = False) -> str:
    """Return a Markdown table with a row per system and method, and one of train modality by test modality."""
    modalities = f"\n## Train modality by test modality\n\n{modality_table(reports)}"
    return as_markdown(reports, published=published) + modalities


def _methods(points: Sequence[tuple[Any, str, EvaluationReport]]) -> list[str]:
    common = [set(report.methods) for *_, report in points]
    return [method for method in points[0][2].methods if method != "mixture" and all(method in c for c in common)]


def _require_key(key: str) -> None:
    known = sorted(_keys(SeparationRecipe))
    if key not in known:
        near = difflib.get_close_matches(key, [*SHORT_NAMES, *known], n=1)
        hint = f"did you mean {near[0]}?" if near else "docs/models.md and train/*.yaml show which there are"
        raise RecipeError(f"--sweep: recipes have no setting {key!r}; {hint}")


def _keys(model: type[BaseModel], before: str = "") -> Iterator[str]:
    """Yield all settings of a recipe, also those of its blocks, with dots, and the blocks themselves."""
    for name, about in model.model_fields.items():
        yield before + name
        for kind in (about.annotation, *get_args(about.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from _keys(kind, f"{before}{name}.")


def _expanded(runs: Sequence[str | Path]) -> list[Path]:
    paths: list[Path] = []
    for run in map(Path, runs):
        inside = sorted(filter(holds_weights, run.glob("*/"))) if run.is_dir() and not holds_weights(run) else []
        paths += inside or [run]
    return paths
