"""Scores of a listening test, and the tables that a paper prints of them."""

from __future__ import annotations

import csv
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from vidaudio.markdown import markdown_table

OUTCOMES = ("correct", "wrong", "both", "none")


@dataclass(frozen=True, slots=True)
class Score:
    """One number of the table.

    Attributes:
        system: System that made the sounds.
        group: Group of the items; empty if the items have no groups.
        measure: `fidelity` or `relevance`, mean of 1 to 5; or `correct`, `wrong`, `both`, `none`, share of 0 to 1.
        mean: Mean over all answers.
        listener_mean: Mean of the listeners' own means; each listener counts once, whatever the number of answers.
        standard_error: Standard error over all answers; None for a single answer.
        listener_standard_error: Standard error over the listeners' own means; None for a single listener.
        answers: Number of answers.
        listeners: Number of listeners with such an answer.
    """

    system: str
    group: str
    measure: str
    mean: float
    listener_mean: float
    standard_error: float | None
    listener_standard_error: float | None
    answers: int
    listeners: int


@dataclass(frozen=True, slots=True)
class Tally:
    """All scores of a test, the listeners' agreement, and notes on answers that were left out or incomplete."""

    page: str
    kind: str
    systems: list[str]
    groups: list[str]
    listeners: int
    sounds: int
    scores: list[Score]
    agreement: dict[str, float | None]
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, object]:
        """Return the tally as JSON-ready values."""
        return asdict(self)

    def __str__(self) -> str:
        return markdown(self)


def markdown(tally: Tally) -> str:
    """Return tables of mean ± standard error over answers and over listeners' means, with agreement and notes."""
    people = f"{tally.listeners} {'listener' if tally.listeners == 1 else 'listeners'}, {tally.sounds} sounds"
    # A single listener has no standard error over listeners.
    wide = any(score.listener_standard_error is not None for score in tally.scores)
    parts = [f"{people}; mean ± standard error over answers", _table(tally, "mean", "standard_error")]
    if wide:
        over_listeners = _table(tally, "listener_mean", "listener_standard_error")
        parts += ["mean ± standard error over listeners' own means", over_listeners]
    agreed = ", ".join(f"{name} {_alpha(value)}" for name, value in tally.agreement.items())
    parts.append(f"Krippendorff's alpha between listeners: {agreed}")
    return "\n\n".join([*parts, *(["\n".join(f"note: {note}" for note in tally.notes)] if tally.notes else [])])


def write_csv(tally: Tally, path: Path) -> None:
    """Write one line per score, with the fields of `Score` as columns; missing errors are empty."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        names = [one.name for one in fields(Score)]
        writer.writerow(names)
        writer.writerows([getattr(score, name) for name in names] for score in tally.scores)


def _table(tally: Tally, mean: str, error: str) -> str:
    is_which = tally.kind == "which"
    measures = OUTCOMES if is_which else tuple(tally.agreement)
    columns = [(group, measure) for group in tally.groups for measure in measures]
    found = {(score.system, score.group, score.measure): score for score in tally.scores}
    heads = [f"{group} {measure}".strip() + " %" * is_which for group, measure in columns]
    rows = []
    for system in tally.systems:
        scores = [found.get((system, *column)) for column in columns]
        # All questions of a sound are answered together, so a group's answers are counted once.
        counted = {score.group: score.answers for score in scores if score is not None}
        cells = [_cell(score, mean, error, is_which) for score in scores]
        rows.append([_plain(system), *cells, sum(counted.values())])
    return "\n".join(markdown_table(["system", *heads, "answers"], rows))


def _cell(score: Score | None, mean: str, error: str, is_share: bool) -> str:
    if score is None:
        return "-"
    scale, digits = (100, 1) if is_share else (1, 2)
    spread = getattr(score, error)
    shown = f"{getattr(score, mean) * scale:.{digits}f}"
    return shown if spread is None else f"{shown} ± {spread * scale:.{digits}f}"


def _alpha(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.2f}"


def _plain(text: str) -> str:
    return " ".join(text.split())
