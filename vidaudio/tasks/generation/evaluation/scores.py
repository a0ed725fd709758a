"""Scores of a set of sounds by one embedding model, each with an interval.

Intervals are normal ones: 1.96 standard errors of a bootstrap over sounds on both sides of the score. Percentiles of
the bootstrap would be off, since a resampled set repeats sounds, which moves distances upwards. Sounds are resampled
label by label, as the test was halved: no set has more dogs by chance.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from vidaudio.generation.metrics import (
    Coverage,
    KernelMatrices,
    frechet_distance,
    inception_score,
    kernel_distance,
    mean_divergence,
    median_distance,
    nearest_distances,
    within_radii,
)
from vidaudio.generation.metrics.neighbours import NEIGHBOURS
from vidaudio.tasks.generation.evaluation.embeddings import EmbeddedSet

RESAMPLES = 200
# Resampled sets for the Frechet distance, and from how many dimensions on: each takes eigenvalues of its own.
FEW_RESAMPLES, MANY_DIMENSIONS = 30, 256
SEED = 0
LEAST_STRATUM = 5
# Level of silence, dB.
LEAST_LEVEL = -100.0


@dataclass(frozen=True, slots=True)
class Score:
    """A score with its interval.

    Attributes:
        value: The score.
        low, high: Ends of the 95 % interval.
    """

    value: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Return half the interval's width."""
        return (self.high - self.low) / 2


@dataclass(frozen=True, slots=True)
class SetScores:
    """Scores of a set by one embedding model; None where a score does not apply.

    Attributes:
        sounds: Number of sounds.
        frechet: Frechet distance to the reference, over all windows of time.
        kernel: Kernel distance (KAD) to the reference, over sounds, times 100.
        coverage, density: See vidaudio.generation.metrics.coverage.
        copying: Median distance to the nearest training sound, over that of held-out real sounds; well below 1, sounds
            are copied.
        divergence: Mean KL divergence from the real sounds of the same clips, nats.
        inception: Inception score.
        right: Share of the sounds that are classified as the label they were asked for.
        similarity: Mean cosine of sound and words (the CLAP score, where the model is CLAP).
    """

    sounds: int
    frechet: Score | None = None
    kernel: Score | None = None
    coverage: Score | None = None
    density: Score | None = None
    copying: Score | None = None
    divergence: Score | None = None
    inception: Score | None = None
    right: Score | None = None
    similarity: Score | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values, without scores that do not apply."""
        return {name: value for name, value in asdict(self).items() if value is not None}


SCORES = tuple(field.name for field in fields(SetScores) if field.name != "sounds")


class Strata:
    """Rows of a set by label, within which rows are resampled.

    Args:
        labels: Label of each row; None if it is not known. Rows whose label is rare are one stratum: captions occur
            once each.
    """

    def __init__(self, labels: Sequence[str | None]) -> None:
        counts = Counter(labels)
        groups: dict[str | None, list[int]] = {}
        for row, label in enumerate(labels):
            groups.setdefault(label if counts[label] >= LEAST_STRATUM else None, []).append(row)
        self.count = len(labels)
        self._groups = [np.array(rows) for rows in groups.values()]

    def draw(self, generator: np.random.Generator) -> np.ndarray:
        """Return the rows of a resampled set, of which two at least differ if there are two."""
        while True:
            rows = np.concatenate([generator.choice(group, len(group)) for group in self._groups])
            if self.count < 2 or (rows != rows[0]).any():
                return rows


@dataclass(frozen=True)
class Yardstick:
    """What sets are compared with, embedded by one model.

    Attributes:
        reference: Real sounds that were not asked for.
        asked: Real sounds of the clips that were asked for.
        training: Sounds of the training split; None if they are not known.
        labels: Label of each clip of the test, by its key.
        classes: Names of the model's classes.
        words: Vector of the words of each clip that was asked for, by its key; None if the model takes no words.
    """

    reference: EmbeddedSet
    asked: EmbeddedSet
    training: EmbeddedSet | None
    labels: Mapping[str, str]
    classes: Sequence[str]
    words: Mapping[str, np.ndarray] | None = None


def sound_level(sound: np.ndarray) -> float:
    """Return the level (RMS) of a sound in [-1, 1], dB; of silence `LEAST_LEVEL`."""
    power = float(np.square(sound, dtype=np.float64).mean())
    return max(LEAST_LEVEL, 10 * math.log10(power)) if power else LEAST_LEVEL


def relative_level(found: Mapping[str, float], real: Mapping[str, float], labels: Mapping[str, str]) -> Score:
    """Return the median level of a set over that of real sounds, dB.

    Where all sounds belong to clips, it is the median difference from the clip's own sound; otherwise the difference of
    both medians. The median is not moved by a few silent sounds.

    Args:
        found: Level of each sound, by its key.
        real: Level of the real sound of each clip that was asked for.
        labels: Label of each clip, by its key.
    """
    keys = [key for key in found if key in real]
    if len(keys) == len(found):
        moved = np.array([found[key] - real[key] for key in keys])
        return _bootstrapped(Strata([labels.get(key) for key in keys]), lambda rows: float(np.median(moved[rows])))
    both = [np.array(list(levels.values())) for levels in (found, real)]
    value = float(np.median(both[0]) - np.median(both[1]))
    generator = np.random.default_rng(SEED)
    resampled = [[float(np.median(generator.choice(each, len(each)))) for each in both] for _ in range(RESAMPLES)]
    return _score(value, [mine - theirs for mine, theirs in resampled])


def score_set(found: EmbeddedSet, yardstick: Yardstick) -> SetScores:
    """Return all scores of a set that apply.

    Scores of pairs (divergence, right, similarity) are over the sounds whose key is one of the clips asked for; right
    and similarity over those of them that have a label.
    """
    means, real = found.means, yardstick.reference.means
    mine, theirs = (Strata([yardstick.labels.get(key) for key in each.keys]) for each in (found, yardstick.reference))
    scores: dict[str, Score] = {}
    if min(len(means), len(real)) >= 2:
        scores["frechet"] = _frechet(yardstick.reference.windows, found.windows, theirs, mine)
        scores["kernel"] = _kernel(real, means, theirs, mine)
    if len(real) > NEIGHBOURS:
        scores |= _coverage(real, means, mine)
    if yardstick.training is not None:
        asked = Strata([yardstick.labels.get(key) for key in yardstick.asked.keys])
        scores["copying"] = _copying(means, yardstick.asked.means, yardstick.training.means, mine, asked)
    if found.probabilities is not None:
        probabilities = found.probabilities
        scores["inception"] = _bootstrapped(mine, lambda rows: inception_score(probabilities[rows]))
    return SetScores(len(means), **scores, **_of_pairs(found, yardstick))


def _of_pairs(found: EmbeddedSet, yardstick: Yardstick) -> dict[str, Score]:
    asked = set(yardstick.asked.keys)
    keys = [key for key in found.keys if key in asked]
    if not keys:
        return {}
    mine, real = found.chosen(keys), yardstick.asked.chosen(keys)
    strata = Strata([yardstick.labels.get(key) for key in keys])
    scores: dict[str, Score] = {}
    if mine.probabilities is not None and real.probabilities is not None:
        theirs, ours = real.probabilities, mine.probabilities
        scores["divergence"] = _bootstrapped(strata, lambda rows: mean_divergence(theirs[rows], ours[rows]))
    labelled = [row for row, key in enumerate(keys) if yardstick.labels[key]]
    if not labelled:
        return scores
    strata = Strata([yardstick.labels[keys[row]] for row in labelled])
    if mine.probabilities is not None:
        number = {_plain(name): place for place, name in enumerate(yardstick.classes)}
        wanted = [number.get(_plain(yardstick.labels[keys[row]])) for row in labelled]
        if all(place is not None for place in wanted):
            is_right = mine.probabilities[labelled].argmax(1) == np.array(wanted)
            scores["right"] = _bootstrapped(strata, lambda rows: float(is_right[rows].mean()))
    if yardstick.words is not None:
        words = np.stack([yardstick.words[keys[row]] for row in labelled])
        cosines = (_unit(mine.means[labelled]) * _unit(words)).sum(1)
        scores["similarity"] = _bootstrapped(strata, lambda rows: float(cosines[rows].mean()))
    return scores


def _plain(label: str) -> str:
    return " ".join(label.replace("_", " ").lower().split())


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _score(value: float, drawn: Sequence[float]) -> Score:
    half = 1.96 * float(np.std(drawn, ddof=1))
    return Score(value, value - half, value + half)


def _bootstrapped(strata: Strata, statistic: Callable[[np.ndarray], float]) -> Score:
    """Return a score of rows, with its interval by a bootstrap over them."""
    generator = np.random.default_rng(SEED)
    drawn = [statistic(strata.draw(generator)) for _ in range(RESAMPLES)]
    return _score(statistic(np.arange(strata.count)), drawn)


def _frechet(real: Sequence[np.ndarray], made: Sequence[np.ndarray], theirs: Strata, mine: Strata) -> Score:
    generator = np.random.default_rng(SEED)

    def distance(rows: Iterable[int], others: Iterable[int]) -> float:
        return frechet_distance(
            np.concatenate([real[row] for row in rows]), np.concatenate([made[row] for row in others])
        )

    resamples = RESAMPLES if real[0].shape[1] < MANY_DIMENSIONS else FEW_RESAMPLES
    drawn = [distance(theirs.draw(generator), mine.draw(generator)) for _ in range(resamples)]
    return _score(distance(range(len(real)), range(len(made))), drawn)


def _kernel(real: np.ndarray, made: np.ndarray, theirs: Strata, mine: Strata) -> Score:
    bandwidth = median_distance(real)
    matrices = KernelMatrices.of(real, made, bandwidth)
    generator = np.random.default_rng(SEED)
    drawn = [
        matrices.distance(
            *[np.bincount(strata.draw(generator), minlength=strata.count).astype(float) for strata in (theirs, mine)]
        )
        for _ in range(RESAMPLES)
    ]
    return _score(kernel_distance(real, made, bandwidth=bandwidth), drawn)


def _coverage(real: np.ndarray, made: np.ndarray, mine: Strata) -> dict[str, Score]:
    """Return coverage and density; only the generated set is resampled, since radii of repeated sounds are 0."""
    within = within_radii(real, made)

    def found(name: str) -> Score:
        return _bootstrapped(mine, lambda rows: getattr(Coverage.of(within[:, rows]), name))

    return {name: found(name) for name in ("coverage", "density")}


def _copying(made: np.ndarray, held_out: np.ndarray, training: np.ndarray, mine: Strata, asked: Strata) -> Score:
    ours, theirs = nearest_distances(made, training), nearest_distances(held_out, training)
    generator = np.random.default_rng(SEED)

    def ratio(one: np.ndarray, other: np.ndarray) -> float:
        return float(np.median(one) / max(float(np.median(other)), 1e-12))

    drawn = [ratio(ours[mine.draw(generator)], theirs[asked.draw(generator)]) for _ in range(RESAMPLES)]
    return _score(ratio(ours, theirs), drawn)
