"""Scores of a set of sounds by one embedding model, each with an interval.

Intervals are normal ones: 1.96 standard errors of a bootstrap over sounds on both sides of the score. Percentiles of
the bootstrap would be off, since a resampled set repeats sounds, which moves distances upwards.
"""

from __future__ import annotations

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
# Sounds of each set from which the standard error of the kernel distance is computed, at most.
KERNEL_SOUNDS = 2000
SEED = 0


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


@dataclass(frozen=True)
class Yardstick:
    """What sets are compared with, embedded by one model.

    Attributes:
        reference: Real sounds that were not asked for.
        asked: Real sounds of the clips that were asked for.
        training: Sounds of the training split; None if they are not known.
        labels: Label of each clip that was asked for, by its key.
        classes: Names of the model's classes.
        words: Vector of the words of each clip that was asked for, by its key; None if the model takes no words.
    """

    reference: EmbeddedSet
    asked: EmbeddedSet
    training: EmbeddedSet | None
    labels: Mapping[str, str]
    classes: Sequence[str]
    words: Mapping[str, np.ndarray] | None = None


def score_set(found: EmbeddedSet, yardstick: Yardstick) -> SetScores:
    """Return all scores of a set that apply.

    Scores of pairs (divergence, right, similarity) are over the sounds whose key is one of the clips asked for.
    """
    means, real = found.means, yardstick.reference.means
    scores: dict[str, Score] = {}
    if min(len(means), len(real)) >= 2:
        scores["frechet"] = _frechet(yardstick.reference.windows, found.windows)
        scores["kernel"] = _kernel(real, means)
    if len(real) > NEIGHBOURS:
        scores |= _coverage(real, means)
    if yardstick.training is not None:
        scores["copying"] = _copying(means, yardstick.asked.means, yardstick.training.means)
    if found.probabilities is not None:
        probabilities = found.probabilities
        scores["inception"] = _bootstrapped(len(means), lambda rows: inception_score(probabilities[rows]))
    return SetScores(len(means), **scores, **_of_pairs(found, yardstick))


def _of_pairs(found: EmbeddedSet, yardstick: Yardstick) -> dict[str, Score]:
    asked = set(yardstick.asked.keys)
    keys = [key for key in found.keys if key in asked]
    if not keys:
        return {}
    mine, real = found.chosen(keys), yardstick.asked.chosen(keys)
    scores: dict[str, Score] = {}
    if mine.probabilities is not None and real.probabilities is not None:
        theirs, ours = real.probabilities, mine.probabilities
        scores["divergence"] = _bootstrapped(len(keys), lambda rows: mean_divergence(theirs[rows], ours[rows]))
        number = {_plain(name): place for place, name in enumerate(yardstick.classes)}
        wanted = [number.get(_plain(yardstick.labels[key])) for key in keys]
        if all(place is not None for place in wanted):
            is_right = ours.argmax(1) == np.array(wanted)
            scores["right"] = _bootstrapped(len(keys), lambda rows: float(is_right[rows].mean()))
    if yardstick.words is not None:
        words = np.stack([yardstick.words[key] for key in keys])
        cosines = (_unit(mine.means) * _unit(words)).sum(1)
        scores["similarity"] = _bootstrapped(len(keys), lambda rows: float(cosines[rows].mean()))
    return scores


def _plain(label: str) -> str:
    return " ".join(label.replace("_", " ").lower().split())


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _score(value: float, drawn: Sequence[float]) -> Score:
    half = 1.96 * float(np.std(drawn, ddof=1))
    return Score(value, value - half, value + half)


def _bootstrapped(count: int, statistic: Callable[[np.ndarray], float]) -> Score:
    """Return a score of rows, with its interval by a bootstrap over them."""
    generator = np.random.default_rng(SEED)
    drawn = [statistic(generator.integers(count, size=count)) for _ in range(RESAMPLES)]
    return _score(statistic(np.arange(count)), drawn)


def _frechet(real: Sequence[np.ndarray], made: Sequence[np.ndarray]) -> Score:
    generator = np.random.default_rng(SEED)

    def distance(rows: Iterable[int], others: Iterable[int]) -> float:
        return frechet_distance(
            np.concatenate([real[row] for row in rows]), np.concatenate([made[row] for row in others])
        )

    drawn = [
        distance(generator.integers(len(real), size=len(real)), generator.integers(len(made), size=len(made)))
        for _ in range(RESAMPLES if real[0].shape[1] < MANY_DIMENSIONS else FEW_RESAMPLES)
    ]
    return _score(distance(range(len(real)), range(len(made))), drawn)


def _kernel(real: np.ndarray, made: np.ndarray) -> Score:
    bandwidth = median_distance(real)
    few = [vectors[:: -(-len(vectors) // KERNEL_SOUNDS)] for vectors in (real, made)]
    matrices = KernelMatrices.of(few[0], few[1], bandwidth)
    generator = np.random.default_rng(SEED)
    drawn = [matrices.distance(*[_repetitions(generator, len(vectors)) for vectors in few]) for _ in range(RESAMPLES)]
    found = _score(kernel_distance(real, made, bandwidth=bandwidth), drawn)
    # Of more sounds than were resampled, the error is smaller.
    half = found.half_width * float(np.sqrt(min(map(len, few)) / min(len(real), len(made))))
    return Score(found.value, found.value - half, found.value + half)


def _repetitions(generator: np.random.Generator, count: int) -> np.ndarray:
    """Return how often each sound occurs in a resampled set, which has two different ones at least."""
    while True:
        found = np.bincount(generator.integers(count, size=count), minlength=count)
        if np.count_nonzero(found) > 1:
            return found.astype(float)


def _coverage(real: np.ndarray, made: np.ndarray) -> dict[str, Score]:
    """Return coverage and density; only the generated set is resampled, since radii of repeated sounds are 0."""
    within = within_radii(real, made)

    def found(name: str) -> Score:
        return _bootstrapped(len(made), lambda rows: getattr(Coverage.of(within[:, rows]), name))

    return {name: found(name) for name in ("coverage", "density")}


def _copying(made: np.ndarray, held_out: np.ndarray, training: np.ndarray) -> Score:
    mine, theirs = nearest_distances(made, training), nearest_distances(held_out, training)
    generator = np.random.default_rng(SEED)

    def ratio(one: np.ndarray, other: np.ndarray) -> float:
        return float(np.median(one) / max(float(np.median(other)), 1e-12))

    drawn = [
        ratio(
            mine[generator.integers(len(mine), size=len(mine))],
            theirs[generator.integers(len(theirs), size=len(theirs))],
        )
        for _ in range(RESAMPLES)
    ]
    return _score(ratio(mine, theirs), drawn)
