"""Tables in the layout of the papers': Markdown for reading, CSV for computing."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path

from vidaudio.errors import RecipeError
from vidaudio.markdown import markdown_table
from vidaudio.separation import Summary, gain_words
from vidaudio.tasks.separation.evaluation.protocols import Published, load_protocol
from vidaudio.tasks.separation.evaluation.report import NO_GAIN, NOT_COMPARED, EvaluationReport, figure
from vidaudio.tasks.separation.evaluation.scorers import MEASURES
from vidaudio.tasks.separation.evaluation.suppression import SUPPRESSION

COLUMNS = (
    *("model", "train query", "test query"),
    *("SI-SDR gain", "over wrong", "SDR gain", "SDR", "median", "SIR", "SAR", "SI-SDR", "level", "n"),
)
TEST_QUERY = {"text": "text", "image": "image", "wrong_text": "wrong text", "wrong_image": "wrong image"}


def as_csv(report: EvaluationReport) -> str:
    """Return a row per method and mixture that has a score.

    `others` holds the keys of further sounds, with spaces between them. `suppression_db` is empty for methods that do
    not ask for an absent sound.
    """
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    header = ["method", "mixture", "target", "interference", "label", *(f"{name}_db" for name in MEASURES), "candidate"]
    writer.writerow([*header, "others", f"{SUPPRESSION}_db"])
    for method in report.methods:
        for number, row in report.scores.items():
            score = row.get(method)
            if score is not None:
                values = [f"{getattr(score, name):.4f}" for name in MEASURES]
                target, interference, *others = report.names[number]
                about = [target, interference, report.labels.get(number, "")]
                suppression = report.suppression.get(number, {}).get(method)
                further = [" ".join(others), "" if suppression is None else f"{suppression:.4f}"]
                writer.writerow([method, number, *about, *values, score.candidate, *further])
    return sink.getvalue()


def as_markdown(reports: Sequence[EvaluationReport], *, published: bool = False) -> str:
    """Return evaluations over the same mixtures as one table: the mixture once, then a row per system and method.

    Args:
        reports: Reports of one protocol.
        published: Whether to add the papers' rows below ours, marked.
    """
    first = reports[0].about
    further = (SUPPRESSION,) if any(report.has_suppression for report in reports) else ()
    power = " `suppression` is the power of the mixture over that of the answer to a query for an absent sound."
    lines = [
        f"# {first.tested}",
        "",
        f"Separation of the target, dB, scored by {first.scorer}. Gains are over the mixture; `over wrong` is the SDR "
        "over that of a query for a sound that is not in the mixture; `level` is the estimate's level over the true "
        f"sound's. All are means, SDR with its standard error.{power if further else ''}",
        "",
        *markdown_table((*COLUMNS, *further), _rows(reports, further), texts=3),
    ]
    marked = any(report.oracles & set(report.methods) for report in reports)
    lines += ["", "\\* An oracle: it knows the sources, or the best of several estimates counts."] if marked else []
    if any(report.is_gain_of_asking(method) is False for report in reports for method in report.methods):
        lines += ["", f"none: {NO_GAIN}."]
    if any(report.lacks_comparison for report in reports):
        lines += ["", f"not compared: {NOT_COMPARED}."]
    for report, name in zip(reports, model_names(reports), strict=True):
        lines += ["", *(f"- {name}: {remark}" for remark in report.remarks())]
    if published:
        lines += ["", *published_lines(first.protocol)]
    for report, name in zip(reports, model_names(reports), strict=True):
        lines += ["", *_by_label(report, name)]
    return "\n".join(lines).rstrip() + "\n"


def model_names(reports: Sequence[EvaluationReport]) -> list[str]:
    """Return a name for each evaluated model: its system and, where several models are of that system, its run."""
    systems = [report.about.system for report in reports]
    folders = [(report.about.system, Path(report.about.checkpoint).name) for report in reports]
    names = []
    for report, folder in zip(reports, folders, strict=True):
        system, run = folder
        if systems.count(system) == 1:
            names.append(system)
        else:
            names.append(f"{system}, {run if folders.count(folder) == 1 else report.about.checkpoint}")
    return names


def modality_table(reports: Sequence[EvaluationReport]) -> str:
    """Return train modality by test modality (CLIPSep, figure 4): a row per system, columns per query modality."""
    heads = "model", "train query", "text: SI-SDR gain", "SDR", "median", "image: SI-SDR gain", "SDR", "median"
    rows = []
    for report, name in zip(reports, model_names(reports), strict=True):
        cells = [name, report.about.train_query]
        for method in ("text", "image"):
            known = method in report.methods
            gain = figure(report.improvement(method, "si_sdr").mean) if known else "-"
            cells += [gain, *(_cells(report.summary(method)) if known else ("-", "-"))]
        rows.append(cells)
    return "\n".join(markdown_table(heads, rows, texts=2)) + "\n"


def _rows(reports: Sequence[EvaluationReport], measures: Sequence[str]) -> list[list[str]]:
    """Return a row per system and method, with the means of some further measures at its end."""
    rows = []
    for number, (report, model) in enumerate(zip(reports, model_names(reports), strict=True)):
        about = report.about
        for method in report.methods:
            if method == "mixture" and number:
                continue
            name = "Mixture" if method == "mixture" else model
            asked = "-" if method == "mixture" else TEST_QUERY.get(method, method.replace("_", " "))
            asked += " *" if method in report.oracles else ""
            mean, median = _cells(report.summary(method))
            # The mixture contains only the sources: no artifacts.
            sar = "∞" if method == "mixture" else figure(report.summary(method, "sar").mean)
            further = [
                figure(report.summary(method, "sir").mean),
                sar,
                figure(report.summary(method, "si_sdr").mean),
                gain_words(report.summary(method, "level").mean),
                str(report.summary(method).count),
                *(figure(report.summary(method, measure).mean) for measure in measures),
            ]
            trained = "-" if method == "mixture" else about.train_query
            rows.append([name, trained, asked, *report.gain_figures(method), mean, median, *further])
    return rows


def _cells(summary: Summary) -> tuple[str, str]:
    return mean_and_error(summary), figure(summary.median)


def mean_and_error(summary: Summary) -> str:
    """Format mean ± standard error, dB; the error is left out if there are too few scores for it."""
    error = "" if math.isnan(summary.standard_error) else f" ± {figure(summary.standard_error)}"
    return figure(summary.mean) + error


def _by_label(report: EvaluationReport, name: str) -> list[str]:
    methods = [method for method in report.methods if method != "mixture"]
    tables = {method: report.by_label(method) for method in methods}
    scale_invariant = {method: report.by_label_of(method, "si_sdr") for method in methods}
    labels = sorted({label for table in tables.values() for label in table})
    if not labels:
        return []
    rows: list[list[object]] = []
    for label in labels:
        cells, count = [], 0
        for method in methods:
            found = tables[method].get(label)
            gains = (
                "-" if found is None else f"{figure(scale_invariant[method][label][1].mean)} / {figure(found[1].mean)}"
            )
            cells.append(gains)
            count = max(count, 0 if found is None else found[0].count)
        rows.append([label, count, *cells])
    title = f"## {name}, SI-SDR gain / SDR gain over the mixture by kind of target, dB"
    heads = ["kind", "n", *(method.replace("_", " ") for method in methods)]
    return [title, "", *markdown_table(heads, rows)]


def published_lines(protocol: str) -> list[str]:
    """Return the papers' results with a protocol, as a Markdown table that names their origin."""
    try:
        found: Published | None = load_protocol(protocol).published
    except RecipeError:
        found = None
    if found is None:
        return ["Nothing is published for these mixtures."]
    rows = [
        (row.model, row.train_query, row.test_query, f"{row.mean:.2f} ± {row.standard_error:.2f}", f"{row.median:.2f}")
        for row in found.rows
    ]
    table = markdown_table(("model", "train query", "test query", "SDR", "median"), rows, texts=3)
    return [f"## Published, not measured here: {found.source}", "", *table]
