"""Report of an evaluation of generators: a row per set of sounds, the scores by embedding model, and remarks."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from vidaudio.markdown import markdown_table
from vidaudio.tasks.generation.evaluation.scores import SCORES, Score, SetScores

# Columns in the order of reading; the Frechet distance has the model's name.
_HEADS = {
    "frechet": "FD-{}",
    "kernel": "KAD x100",
    "coverage": "coverage",
    "density": "density",
    "copying": "copying",
    "divergence": "KL",
    "inception": "IS",
    "right": "right %",
    "similarity": "similarity",
}
_LEGEND = (
    "Scores of reference and sets at equal numbers, with the half width of a 95 % interval. FD, KAD and KL: lower is "
    "better; coverage, density, IS, right and similarity: higher. Copying: distance to the nearest training sound over "
    "that of held-out real sounds; below 0.9, sounds are copied. Similarity: cosine of sound and words. Level: median "
    "over the real sounds of the clips asked for; 0 is best."
)
# CLIPSonic, table 1, as far as it can be read: VGGSound, guidance 1.5.
_PUBLISHED = (
    ("CLIPSonic-IQ", "image", "image", "2.97"),
    ("CLIPSonic-ZS", "image", "text", "3.43"),
    ("CLIPSonic-PD", "image", "text", "3.04"),
    ("CLIPSonic-SD", "image", "text", "2.37"),
)


@dataclass(frozen=True, slots=True)
class ReportRow:
    """A set of sounds in the report.

    Attributes:
        name: Name of the set.
        kind: `real`, `vocoded`, `generated` or `folder`.
        scores: Scores by the name of the embedding model.
        paper: Name in CLIPSonic's tables; None if there is none.
        trained_with, asked_by: Query in training and at test; empty for sounds that were not asked for.
        guidance: Scale of guidance; None for sounds that are not generated here.
        sounds: Folder of the sounds; None if there is none.
        level: Median level over that of the real sounds of the clips that were asked for, dB.
    """

    name: str
    kind: str
    scores: Mapping[str, SetScores]
    paper: str | None = None
    trained_with: str = ""
    asked_by: str = ""
    guidance: float | None = None
    sounds: str | None = None
    level: Score | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        facts = {
            "name": self.name,
            "kind": self.kind,
            "paper": self.paper,
            "trained_with": self.trained_with,
            "asked_by": self.asked_by,
            "guidance": self.guidance,
            "level_db": None if self.level is None else asdict(self.level),
            "sounds": self.sounds,
        }
        kept = {name: value for name, value in facts.items() if value not in (None, "")}
        return kept | {"scores": {model: scores.as_dict() for model, scores in self.scores.items()}}


@dataclass(frozen=True, slots=True)
class GenerationReport:
    """Report of an evaluation.

    Attributes:
        about: Settings of the evaluation; plain JSON values.
        models: Description of each embedding model, by its name.
        rows: The sets: real sounds that were not compared with themselves (the floor), vocoded ones, then all others.
        asked_for: Label or caption of each clip that was asked for, by its key.
        notes: Remarks for the reader.
    """

    about: Mapping[str, Any]
    models: Mapping[str, Mapping[str, Any]]
    rows: Sequence[ReportRow]
    asked_for: Mapping[str, str]
    notes: Sequence[str] = ()

    def __str__(self) -> str:
        return self.as_markdown()

    def row(self, name: str) -> ReportRow:
        """Return the row of a set.

        Raises:
            KeyError: When there is no such set.
        """
        return {row.name: row for row in self.rows}[name]

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "about": dict(self.about),
            "models": {name: dict(facts) for name, facts in self.models.items()},
            "rows": [row.as_dict() for row in self.rows],
            "notes": list(self.notes),
        }

    def as_markdown(self, *, published: bool = False) -> str:
        """Return a table per embedding model, and one in the shape of CLIPSonic's.

        Args:
            published: Whether to add the paper's rows.
        """
        lines = [f"# Generated sounds, {self.about['data']}", "", _LEGEND]
        for model in self.models:
            lines += ["", f"## By {model}", "", *self._table(model)]
        lines += ["", "## As in CLIPSonic", "", *self._paper_table(published)]
        lines += ["", *(f"- {note}" for note in self.notes)] if self.notes else []
        return "\n".join(lines) + "\n"

    def _table(self, model: str) -> list[str]:
        shown = [score for score in SCORES if any(getattr(row.scores[model], score) is not None for row in self.rows)]
        heads = ["set", "sounds", *(_HEADS[score].format(model) for score in shown), "level dB"]
        rows = []
        for row in self.rows:
            scores = row.scores[model]
            cells = [figure(getattr(scores, name), percent=name == "right") for name in shown]
            rows.append([row.name, scores.sounds, *cells, figure(row.level)])
        return markdown_table(heads, rows)

    def _paper_table(self, published: bool) -> list[str]:
        models = list(self.models)
        speaks = [model for model in models if any(row.scores[model].similarity is not None for row in self.rows)]
        heads = ["model", "trained with", "asked by", "w", *(f"FD-{model}" for model in models)]
        heads += [f"{model} score" for model in speaks]
        rows = []
        for row in self.rows:
            scale = "" if row.guidance is None else f"{row.guidance:g}"
            cells = [figure(row.scores[model].frechet) for model in models]
            cells += [figure(row.scores[model].similarity) for model in speaks]
            rows.append([row.paper or row.name, row.trained_with, row.asked_by, scale, *cells])
        if published:
            for name, trained, asked, distance in _PUBLISHED:
                said = f"published, FAD by VGGish on VGGSound: {distance}"
                rows.append([f"{name} ({said})", trained, asked, "1.5", *["-"] * (len(heads) - 4)])
        return markdown_table(heads, rows, texts=3)

    def as_csv(self) -> str:
        """Return a line per set, embedding model and score; the level, which no model judges, has none."""
        sink = io.StringIO()
        writer = csv.writer(sink, lineterminator="\n")
        writer.writerow(["set", "kind", "guidance", "model", "score", "value", "low", "high", "sounds"])
        for row in self.rows:
            scale = "" if row.guidance is None else row.guidance
            told = [
                (model, name, getattr(scores, name), scores.sounds)
                for model, scores in row.scores.items()
                for name in SCORES
            ]
            if told:
                told.append(("", "level_db", row.level, told[0][-1]))
            for model, name, score, sounds in told:
                if score is not None:
                    ends = [f"{value:.6g}" for value in (score.value, score.low, score.high)]
                    writer.writerow([row.name, row.kind, scale, model, name, *ends, sounds])
        return sink.getvalue()


def figure(score: Score | None, *, percent: bool = False) -> str:
    """Return a score as a cell of a table: value and half width, to three digits; a dash for none."""
    if score is None:
        return "-"
    if percent:
        return f"{100 * score.value:.1f} ± {100 * score.half_width:.1f}"
    size = max(abs(score.value), score.half_width)
    digits = 3 if size < 1 else 2 if size < 10 else 1
    return f"{score.value:.{digits}f} ± {score.half_width:.{digits}f}"
