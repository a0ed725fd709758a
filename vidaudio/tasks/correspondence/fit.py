"""Fitting of a scorer to a corpus: in two folds by source, in three rounds, with what its scores mean.

The corpus's own pairs teach what belongs together, though some of them do not. So the first round's scores, of models
that have not heard a clip's source, say which clips to set aside; the second round learns from the others and judges
better, so that there is a third. Every score that the calibration sees is of a model that has not heard the source.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from tqdm import tqdm

from vidaudio.corpus.corpus import open_corpus
from vidaudio.correspondence.calibration import AT_CHANCE, calibrate, is_above_chance, mismatched_share, precision_at
from vidaudio.correspondence.scorer import FOLDS, Scorer
from vidaudio.correspondence.timing import TimingSettings
from vidaudio.pipeline.stages.scored_clips import check_sample_rate
from vidaudio.pipeline.stages.scorer_files import check_new_scorer, write_scorer
from vidaudio.tasks.correspondence.fit_data import FitData, read_fit_data
from vidaudio.tasks.correspondence.fit_timing import fit_timing
from vidaudio.tasks.correspondence.judging import NEGATIVES, JudgedClips
from vidaudio.tasks.correspondence.training import FitSettings, train_model

MOST_CLIPS = 200_000
# Where half of the clips carry a foreign sound, the second round still set the wrong ones aside.
ROUNDS = 3
# Few epochs: with more, a model learns by heart which sound goes with which picture, and the foreign ones as well.
EPOCHS, LEAST_STEPS, MOST_STEPS = 16, 100, 6_000
BATCH_SIZES = (32, 128)
# However many seem not to correspond: without clips there is nothing to learn from, and a poor scorer doubts all.
MOST_SET_ASIDE = 0.7
KEPT_SHARES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)


@dataclass(frozen=True)
class ScorerReport:
    """What a scorer was fitted to, and what its scores mean; `str` gives it as text.

    Attributes:
        corpus: The corpus.
        name: Of the scorer.
        facts: As they are stored with the scorer.
    """

    corpus: str
    name: str
    facts: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Return the report, JSON-able."""
        return {"corpus": self.corpus, "scorer": self.name, **self.facts}

    def __str__(self) -> str:
        facts = self.facts
        low, high = facts["mismatched_interval"]
        lines = [
            f"scorer {self.name} of {self.corpus}: {facts['clips']:,} clips of {facts['sources']:,} sources, two folds",
            f"do not correspond: {facts['mismatched_share']:.0%} of the clips, 95 % interval {low:.0%} to {high:.0%}",
            "own clips against others (area under the curve, chance 0.5):",
        ]
        for name, told in NEGATIVES.items():
            measured = facts["auc"][name]
            shown = ", ".join(f"{what} {_shown(measured[what])}" for what in AUC_SHOWN)
            lines.append(f"  {told:<{LONGEST_NEGATIVE}}  {shown}")
        if not facts["above_chance"]:
            return "\n".join([*lines, AT_CHANCE])
        lines.append("expected share of corresponding clips, by the share that is kept:")
        kept = zip(facts["kept_shares"], facts["precision"], strict=True)
        lines.append("  " + ", ".join(f"{share:.0%}: {precision:.1%}" for share, precision in kept))
        return "\n".join(lines)


LONGEST_NEGATIVE = max(map(len, NEGATIVES.values()))
AUC_SHOWN = ("score", "timing", "visible timing")


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def fit_scorer(
    corpus: str,
    name: str = "default",
    *,
    max_clips: int = MOST_CLIPS,
    seed: int = 0,
    settings: FitSettings | None = None,
    progress: bool = True,
) -> ScorerReport:
    """Fit a scorer to a corpus that is extracted and embedded, and write it to `scorers/NAME/`.

    Args:
        corpus: Folder or fsspec URL of the corpus.
        name: Name of the scorer.
        max_clips: Clips to learn from, at most; drawn where there are more.
        seed: Seed of the draws and of the training.
        settings: How each model is trained; the number of steps follows from the number of clips by default.
        progress: Whether to show a progress bar.

    Raises:
        ScorerError: When there is such a scorer already, or the corpus has too few sources to learn from.
        CorpusError: When the corpus is not extracted and embedded, or keeps another sample rate.
    """
    opened = open_corpus(corpus)
    check_new_scorer(opened, name)
    check_sample_rate(opened)
    with opened.store.workspace() as scratch, tqdm(disable=not progress, dynamic_ncols=True) as bar:
        data = read_fit_data(opened, max_clips, seed, str(scratch / "bands"), bar)
        scorer = fit_to_data(data, settings, seed, bar).scorer
    scorer.facts |= {"plan": opened.plan_hash, "encoder": data.encoder, "seed": seed}
    write_scorer(opened, name, scorer)
    return ScorerReport(opened.url, name, scorer.facts)


@dataclass(frozen=True)
class Fitted:
    """A scorer, and the scores of the clips that it was fitted to, each by the model that has not heard its source."""

    scorer: Scorer
    judged: JudgedClips


def fit_to_data(data: FitData, settings: FitSettings | None, seed: int, bar: tqdm) -> Fitted:
    """Fit models, timing heads and calibration to clips that were read, and measure them.

    Args:
        data: The clips.
        settings: How each model is trained; the number of steps follows from the number of clips by default.
        seed: Seed of the draws and of the training.
        bar: Progress bar.
    """
    count = len(data.clips)
    settings = settings or _settings(count, seed)
    timing_settings = TimingSettings(seed=seed)
    bar.reset(total=FOLDS * (ROUNDS * settings.steps + timing_settings.steps))
    bar.set_description("fitting")
    learned_from = np.ones(count, bool)
    for number in range(ROUNDS):
        models = [
            train_model(
                data.config,
                data.cache,
                data.clips,
                np.flatnonzero((data.folds != fold) & learned_from),
                replace(settings, seed=settings.seed + 1_000 * number + fold),
                bar.update,
            )
            for fold in range(FOLDS)
        ]
        judged = JudgedClips(data, models, learned_from, seed)
        if number < ROUNDS - 1:
            share = mismatched_share(judged.own, judged.other_source, count / len(np.unique(data.sources)))
            learned_from = _kept(judged.own, data.folds, min(share, MOST_SET_ASIDE))
    calibration = calibrate(judged.own, judged.other_source, judged.own_sources, judged.other_sources, seed=seed)
    heads, timing = fit_timing(data, learned_from, timing_settings, bar.update) or (None, {})
    none: dict[str, float | None] = {"all": None, "visible": None}
    facts = {
        "clips": count,
        "sources": len(np.unique(data.sources)),
        "steps": settings.steps,
        "set_aside": int((~learned_from).sum()),
        "above_chance": is_above_chance(judged.own, judged.other_source, judged.own_sources),
        "mismatched_share": round(calibration.mismatched_share, 4),
        "mismatched_interval": [round(calibration.low, 4), round(calibration.high, 4)],
        "auc": {
            name: dict(zip(AUC_SHOWN, (judged.auc(name), *timing.get(name, none).values()), strict=True))
            for name in NEGATIVES
        },
        "kept_shares": list(KEPT_SHARES),
        "precision": [
            round(float(share), 4) for share in precision_at(np.array(KEPT_SHARES), calibration.probability(judged.own))
        ],
    }
    return Fitted(Scorer(models, judged.partners, calibration, heads, facts), judged)


def _kept(scores: np.ndarray, folds: np.ndarray, share: float) -> np.ndarray:
    """Return all clips but the lowest share of each fold, whose scores are of another model; bool `[N]`."""
    kept = np.zeros(len(scores), bool)
    for fold in range(FOLDS):
        own = folds == fold
        kept[own] = scores[own] >= np.quantile(scores[own], share)
    return kept


def _settings(clips: int, seed: int) -> FitSettings:
    """Return how a model of so many clips is trained: larger batches where there are more clips to tell apart."""
    batch_size = int(np.clip(clips / FOLDS / 6, *BATCH_SIZES))
    steps = int(np.clip(EPOCHS * clips / FOLDS / batch_size, LEAST_STEPS, MOST_STEPS))
    return FitSettings(steps=steps, batch_size=batch_size, seed=seed)
