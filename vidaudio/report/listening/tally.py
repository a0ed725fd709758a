"""Tally of a listening test: answers evaluated with the key and summed up by system, as in the papers.

`which` gives shares of correct, wrong, both and none (CLIPSep, table 5). `mos` gives mean opinion scores of fidelity
and relevance, by group if the items have groups (CLIPSonic's table). Standard errors are computed in two ways: over all
answers, as in the papers, and over listeners' own means, which does not treat one person's answers as independent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from vidaudio.report.listening.agreement import krippendorff_alpha
from vidaudio.report.listening.answers import Listener, best_of_each, find_answers, read_answers, read_key
from vidaudio.report.listening.items import ListeningError
from vidaudio.report.listening.scores import OUTCOMES, Score, Tally
from vidaudio.report.listening.study import CHOICES, WHICH, Key, KeyTrial


def tally(paths: Sequence[Path], key: Path, *, complete_only: bool = False) -> Tally:
    """Sum up the answers to one page.

    Args:
        paths: Files that listeners saved, or folders of such files.
        key: Path of the page's key.
        complete_only: Whether to leave out incomplete files. By default, an incomplete file counts if its listener
            saved no complete one, and it is noted.

    Raises:
        ListeningError: When there are no answers, or a file answers another page or cannot come from this page.
    """
    opened = read_key(key)
    files = [_opened(path, opened) for path in find_answers(paths, key)]
    listeners, others = best_of_each([one for one in files if one.is_complete] if complete_only else files)
    notes = [
        f"{one.path} left out: {one.answers.participant} saved a "
        f"{'complete' if counted.is_complete and not one.is_complete else 'later'} one."
        for one, counted in others
    ]
    for one in files if complete_only else listeners:
        if not one.is_complete:
            share = f"{len(one.answers.answers)} of {len(opened.trials)} sounds"
            notes.append(f"{one.path}: {one.answers.participant} answered {share}{', left out' * complete_only}.")
    if not any(one.answers.answers for one in listeners):
        raise ListeningError("no listener answered anything: there is nothing to sum up.")
    return Tally(
        page=opened.page,
        kind=opened.kind.value,
        systems=opened.systems,
        groups=sorted({trial.group for trial in opened.trials.values()}),
        listeners=len(listeners),
        sounds=len(opened.trials),
        scores=_scores(opened, listeners),
        agreement={question: _agreement(opened, listeners, question) for question in opened.questions},
        notes=notes,
    )


def _opened(path: Path, key: Key) -> Listener:
    answers = read_answers(path, key)
    return Listener(path, answers, is_complete=len(answers.answers) == len(key.trials))


def _scores(key: Key, listeners: Sequence[Listener]) -> list[Score]:
    scores = []
    for system in key.systems:
        for group in sorted({trial.group for trial in key.trials.values()}):
            for question in key.questions:
                for measure in OUTCOMES if question == WHICH else (question,):
                    by_listener = _values(key, listeners, system, group, question, _measured(measure))
                    if any(by_listener):
                        scores.append(_score(system, group, measure, [own for own in by_listener if own]))
    return scores


def _values(
    key: Key,
    listeners: Sequence[Listener],
    system: str,
    group: str,
    question: str,
    measured: Callable[[KeyTrial, int | str], float],
) -> list[list[float]]:
    """Return, for each listener, the values of their answers on a system and group."""
    wanted = {name: trial for name, trial in key.trials.items() if (trial.system, trial.group) == (system, group)}
    return [
        [measured(wanted[a.trial], a.values[question]) for a in one.answers.answers if a.trial in wanted]
        for one in listeners
    ]


def _measured(measure: str) -> Callable[[KeyTrial, int | str], float]:
    """Return the value function of an answer: a rating itself, or 1 for a choice with this outcome and 0 otherwise."""
    if measure in OUTCOMES:
        return lambda trial, value: float(_outcome(trial, value) == measure)
    return lambda _trial, value: float(value)


def _outcome(trial: KeyTrial, value: int | str) -> str:
    if value not in ("first", "second"):
        return str(value)
    return "correct" if value == trial.target else "wrong"


def _score(system: str, group: str, measure: str, by_listener: Sequence[Sequence[float]]) -> Score:
    everything = [value for own in by_listener for value in own]
    means = [float(np.mean(own)) for own in by_listener]
    return Score(
        system=system,
        group=group,
        measure=measure,
        mean=float(np.mean(everything)),
        listener_mean=float(np.mean(means)),
        standard_error=_standard_error(everything),
        listener_standard_error=_standard_error(means),
        answers=len(everything),
        listeners=len(means),
    )


def _standard_error(values: Sequence[float]) -> float | None:
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None


def _agreement(key: Key, listeners: Sequence[Listener], question: str) -> float | None:
    """Return Krippendorff's alpha over all sounds: nominal for choices, interval for ratings."""
    place = {name: number for number, name in enumerate(key.trials)}
    ratings = np.full((len(listeners), len(place)), np.nan)
    for row, one in zip(ratings, listeners, strict=True):
        for answer in one.answers.answers:
            value = answer.values[question]
            row[place[answer.trial]] = CHOICES.index(value) if question == WHICH else value
    return krippendorff_alpha(ratings, nominal=question == WHICH)
