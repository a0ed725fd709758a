"""Evaluation report: scores by method and mixture, their summaries, and remarks that belong to them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from vidaudio.separation import Summary, gain_words, is_above_error, summarise
from vidaudio.tasks.separation.evaluation.methods import wrong_method
from vidaudio.tasks.separation.evaluation.scorers import MEASURES, MixtureScores, Score
from vidaudio.tasks.separation.evaluation.suppression import SUPPRESSION
from vidaudio.text import number_of


@dataclass(frozen=True)
class ReportHeader:
    """Description of the evaluated model and of the test.

    Attributes:
        checkpoint: Path of the model.
        system: System of the model.
        step: Number of optimiser steps of the model's training.
        train_query: Kind of query in training: image, text, hybrid, label, none.
        data: Packed corpus of the test.
        protocol: Name of the protocol, or the split.
        split: Split of the corpus.
        planned: Number of mixtures in the protocol.
        scorer: museval or batched.
        noise_heads: drop or keep.
        phrasings: Additional phrasings of text queries, name to sentences.
        gap: Methods against the modality gap that queries went through, by `train` and `ask`.
        offscreen_db: Level of the sound from off screen in every mixture relative to the target's, dB; None for none.
        sources: Number of sounds in a mixture, without the one from off screen.
        every_source: Whether each sound of a mixture is asked for in turn, a test item each.
        different_labels: Whether all sounds of a mixture have different labels.
        notes: Remarks for the reader: missing clips, unlabelled targets, leaks.
        incomplete: Whether clips of the protocol are missing, so that the scores are not comparable with the papers.
    """

    checkpoint: str
    system: str
    step: int
    train_query: str
    data: str
    protocol: str
    split: str
    planned: int
    scorer: str
    noise_heads: str = "drop"
    phrasings: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    gap: Mapping[str, str] = field(default_factory=dict)
    offscreen_db: float | None = None
    sources: int = 2
    every_source: bool = False
    different_labels: bool = False
    notes: tuple[str, ...] = ()
    incomplete: bool = False

    @property
    def tested(self) -> str:
        """Return what was tested, in words: the protocol, and what differs from two sounds of any labels."""
        words = [self.protocol]
        words += [f"mixtures of {self.sources} sources"] if self.sources != 2 else []
        words += ["different labels"] if self.different_labels else []
        words += ["every source is asked for"] if self.every_source else []
        return ", ".join(words)


@dataclass(frozen=True)
class EvaluationReport:
    """Scores of every method over the same mixtures.

    Attributes:
        about: Description of the model and of the test.
        methods: Methods in the order of the rows.
        mixtures: Number of test mixtures.
        scores: Mixture number to scores by method; None where a signal is silent.
        labels: Mixture number to the target's label; empty if it has none.
        names: Mixture number to the keys of the target, the interference and further sounds.
        oracles: Methods whose score is the best of several estimates, or that know the sources.
        suppression: Mixture number to the suppression by each method that asks for an absent sound, dB, see
            `vidaudio.tasks.separation.evaluation.suppression`. Unlike the scores, it includes silent estimates.
    """

    about: ReportHeader
    methods: tuple[str, ...]
    mixtures: int
    scores: Mapping[int, MixtureScores]
    labels: Mapping[int, str] = field(default_factory=dict)
    names: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    oracles: frozenset[str] = frozenset()
    suppression: Mapping[int, Mapping[str, float]] = field(default_factory=dict)

    @property
    def sdr(self) -> dict[str, dict[int, float]]:
        """Return each method's SDR of every mixture that it could be scored on, dB, by mixture number."""
        return {method: self.values(method, "sdr") for method in self.methods}

    def values(self, method: str, measure: str = "sdr") -> dict[int, float]:
        """Return one measure of a method, dB, by mixture number: one of `MEASURES`, or `suppression`."""
        if measure == SUPPRESSION:
            return {number: row[method] for number, row in self.suppression.items() if method in row}
        found: dict[int, float] = {}
        for number, row in self.scores.items():
            score: Score | None = row.get(method)
            if score is not None:
                found[number] = getattr(score, measure)
        return found

    def silent(self, method: str) -> int:
        """Return the number of a method's estimates that are left out because a signal is silent."""
        return sum(method in row and row[method] is None for row in self.scores.values())

    def remarks(self) -> list[str]:
        """Return the remarks below a table: the sentences of phrasings, mixtures left out, and the notes."""
        through = self.about.gap.get("ask")
        gap = [f"queries in words went through {through}, fitted against the modality gap"] if through else []
        return [*gap, *self.asked(), *self.left_out(), *self.about.notes]

    def asked(self) -> list[str]:
        """Return the sentences of each phrasing."""
        return [f"{name}: {' / '.join(sentences)}" for name, sentences in self.about.phrasings.items()]

    def left_out(self) -> list[str]:
        """Return, for each method that was not scored on all mixtures, the number left out and the reason."""
        lines = []
        for method in self.methods:
            silent = self.silent(method)
            if silent:
                share = f"{silent} of {number_of(silent + len(self.values(method)), 'mixture')}"
                why = "a source, the estimate, or what the estimate leaves of the mixture is silent"
                lines.append(f"{method.replace('_', ' ')}: {share} left out, where {why}")
        return lines

    def summary(self, method: str, measure: str = "sdr") -> Summary:
        """Return the summary of one measure of a method."""
        return summarise(self.values(method, measure).values())

    def improvement(self, method: str, measure: str = "sdr") -> Summary:
        """Return the summary of the method's scores minus the mixture's own, mixture by mixture."""
        return self._gain(method, "mixture", measure)

    def difference(self, method: str, other: str) -> float:
        """Return how much higher one method's SDR is than another's, mean over mixtures, dB."""
        return self._gain(method, other, "sdr").mean

    def over_wrong(self, method: str) -> Summary | None:
        """Return how much higher a method's SDR is than that of the corresponding wrong query, mixture by mixture.

        None if the method has no query, or no mixture was asked with a wrong one.
        """
        found = self._gain(method, wrong, "sdr") if (wrong := wrong_method(method)) in self.methods else None
        return found if found is not None and found.count else None

    def is_gain_of_asking(self, method: str) -> bool | None:
        """Return whether the right query beats a wrong one by more than 2 standard errors; None if unknown."""
        found = self.over_wrong(method)
        return None if found is None else is_above_error(found.mean, found.standard_error)

    def is_compared(self, method: str) -> bool | None:
        """Return whether a query was compared with a wrong one; None for a method without a query."""
        if wrong_method(method) is None:
            return None
        return self.over_wrong(method) is not None

    @property
    def lacks_comparison(self) -> bool:
        """Return whether a query's SDR gain was not compared with a wrong query's, and is marked."""
        return any(self.is_compared(method) is False and self.improvement(method).mean > 0 for method in self.methods)

    def gain_figures(self, method: str) -> tuple[str, str, str]:
        """Return the headline figures as text: SI-SDR gain, gain over wrong queries, SDR gain.

        An SDR gain that wrong queries reach as well is `none`, with its dB in brackets. One of a query that was not
        compared with a wrong query is marked.
        """
        wrong = self.over_wrong(method)
        is_compared = self.is_compared(method) is not False
        return (
            gain_words(self.improvement(method, "si_sdr").mean),
            "-" if wrong is None else gain_words(wrong.mean),
            gain_words(self.improvement(method).mean, self.is_gain_of_asking(method), is_compared=is_compared),
        )

    @property
    def has_suppression(self) -> bool:
        """Return whether a method asked for an absent sound, so that tables have a column for it."""
        return any(self.suppression.values())

    def by_label(self, method: str) -> dict[str, tuple[Summary, Summary]]:
        """Return summaries of the SDR and of its gain over the mixture, for each label of the targets."""
        return self.by_label_of(method, "sdr")

    def by_label_of(self, method: str, measure: str) -> dict[str, tuple[Summary, Summary]]:
        """Return summaries of a measure and of its gain over the mixture, for each label of the targets."""
        sdr, mixture = self.values(method, measure), self.values("mixture", measure)
        table = {}
        for label in sorted(set(self.labels.values()) - {""}):
            numbers = [n for n in sdr if self.labels[n] == label]
            if numbers:
                gains = summarise(sdr[n] - mixture[n] for n in numbers if n in mixture)
                table[label] = (summarise(sdr[n] for n in numbers), gains)
        return table

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-able dict with the summaries and the scores themselves."""
        return {
            **asdict(self.about),
            "mixtures": self.mixtures,
            "oracles": sorted(self.oracles),
            "summaries": {
                method: {
                    **{measure: rounded(self.summary(method, measure)) for measure in MEASURES},
                    "sdr_improvement": rounded(self.improvement(method)),
                    "si_sdr_improvement": rounded(self.improvement(method, "si_sdr")),
                    "over_wrong": None if (wrong := self.over_wrong(method)) is None else rounded(wrong),
                    "gain_of_asking": self.is_gain_of_asking(method),
                    SUPPRESSION: rounded(summary) if (summary := self.summary(method, SUPPRESSION)).count else None,
                    "silent": self.silent(method),
                }
                for method in self.methods
            },
            "by_label": {
                method: {
                    label: {"sdr": rounded(sdr), "sdr_improvement": rounded(gain)}
                    for label, (sdr, gain) in self.by_label(method).items()
                }
                for method in self.methods
                if method != "mixture"
            },
            "scores": {
                str(number): {
                    "target": self.names[number][0],
                    "interference": self.names[number][1],
                    **({"others": list(others)} if (others := self.names[number][2:]) else {}),
                    "label": self.labels.get(number, ""),
                    **{method: None if score is None else score.as_dict() for method, score in row.items()},
                }
                for number, row in self.scores.items()
            },
            SUPPRESSION: {
                method: {str(number): round(value, 4) for number, value in values.items()}
                for method in self.methods
                if (values := self.values(method, SUPPRESSION))
            },
        }

    def __str__(self) -> str:
        about = self.about
        further = (SUPPRESSION,) if self.has_suppression else ()
        columns = (
            "SI-SDR gain",
            "over wrong",
            "SDR gain",
            "SDR",
            "+- se",
            "median",
            "SIR",
            "SAR",
            "SI-SDR",
            "level",
            "n",
            *further,
        )
        lines = [
            f"Separation of the target, dB, {about.scorer}, {self.mixtures} mixtures of {about.tested}",
        ]
        table: list[tuple[str, Sequence[str]]] = [("method", columns)]
        for method in self.methods:
            summary = self.summary(method)
            # The mixture contains nothing except the sources: its SAR is infinite apart from rounding.
            sar = math.inf if method == "mixture" else self.summary(method, "sar").mean
            name = method.replace("_", " ") + (" *" if method in self.oracles else "")
            cells = [
                *self.gain_figures(method),
                *map(figure, (summary.mean, summary.standard_error, summary.median)),
                figure(self.summary(method, "sir").mean),
                figure(sar),
                figure(self.summary(method, "si_sdr").mean),
                gain_words(self.summary(method, "level").mean),
                str(summary.count),
                *(figure(self.summary(method, measure).mean) for measure in further),
            ]
            table.append((name, cells))
        longest = (max(map(len, column)) for column in zip(*(cells for _, cells in table), strict=True))
        widths = [max(width, 1 + length) for width, length in zip(_WIDTHS, longest, strict=False)]
        lines += [f"  {name:<22}" + "".join(map(str.rjust, cells, widths)) for name, cells in table]
        if self.oracles & set(self.methods):
            lines.append("  * an oracle: knows the sources, or the best of several estimates counts")
        if any(self.is_gain_of_asking(method) is False for method in self.methods):
            lines.append(f"  none: {NO_GAIN}")
        if self.lacks_comparison:
            lines.append(f"  not compared: {NOT_COMPARED}")
        return "\n".join([*lines, *(f"  {remark}" for remark in self.remarks())])

    def _gain(self, method: str, other: str, measure: str) -> Summary:
        own, base = self.values(method, measure), self.values(other, measure)
        return summarise(own[n] - base[n] for n in sorted(own.keys() & base.keys()))


_WIDTHS = (13, 12, 14, 8, 8, 9, 8, 8, 8, 8, 6, 13)
NO_GAIN = (
    "a wrong query gains as much SDR, within 2 standard errors of the paired difference, so the gain is one of level "
    "and not of separation"
)

NOT_COMPARED = "no wrong query was scored beside it, so the SDR gain may be one of level and not of separation"


def figure(decibels: float, digits: int = 2) -> str:
    """Format a number of a table; NaN (too few scores) becomes a dash."""
    return "-" if math.isnan(decibels) else f"{decibels:.{digits}f}"


def rounded(summary: Summary) -> dict[str, Any]:
    """Return a summary for JSON: four decimals, None for a value that is not finite."""
    values = asdict(summary)
    return {k: v if k == "count" else (round(v, 4) if v == v and abs(v) < 1e9 else None) for k, v in values.items()}


def counted(what: Sequence[tuple[int, str, str]]) -> tuple[str, ...]:
    """Return notes of the counts that are not 0; each entry is a count, its singular text and its plural text."""
    return tuple(number_of(count, one, many) for count, one, many in what if count)
