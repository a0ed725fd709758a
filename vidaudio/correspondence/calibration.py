"""From scores to probabilities: the share of clips that do not correspond, and P(corresponds) of each.

A corpus's own pairs are a mixture of corresponding and not; pairs of different sources surely do not correspond. A
classifier of own against swapped gives P(own | score), not P(corresponds | score): this is learning from positive and
unlabelled examples with the roles exchanged. The estimate assumes that a mismatched clip's sound is distributed like
another clip's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import isotonic_regression

# Thresholds that are tried, as percentiles of the swapped pairs' scores.
PERCENTILES = np.arange(5, 100)
# One-sided Kolmogorov-Smirnov test at level 0.25: a distance above this, times the root of 1/n + 1/m, is no chance.
DISTANCE = 0.83
RESAMPLES = 200
# Percentiles of the bootstrap that bound the share.
INTERVAL = (2.5, 97.5)
# Half of the interval that holds 95 % of a normal distribution, standard deviations.
NORMAL_95 = 1.96
# Points of the score at which the probability is stored.
KNOTS = 65
# What reports say of scores that are not above chance.
AT_CHANCE = (
    "With so few sources, these scores cannot be told from chance: nothing is known of what corresponds, and "
    "P(corresponds) means nothing. More clips may help, or an encoder that knows such pictures."
)


@dataclass(frozen=True)
class Calibration:
    """What scores of one scorer mean.

    Attributes:
        mismatched_share: Share of the clips that do not correspond, 0 to 1.
        low, high: Its 95 % interval, by a bootstrap over sources.
        knots: Scores, ascending `[K]`.
        probabilities: P(corresponds) at those scores, ascending `[K]`.
    """

    mismatched_share: float
    low: float
    high: float
    knots: np.ndarray
    probabilities: np.ndarray

    def probability(self, scores: np.ndarray) -> np.ndarray:
        """Return P(corresponds) of scores, float64 `[N]`, 0 to 1."""
        return np.interp(scores, self.knots, self.probabilities)


def calibrate(
    own: np.ndarray,
    swapped: np.ndarray,
    own_sources: np.ndarray,
    swapped_sources: np.ndarray,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Calibration:
    """Estimate the share of clips that do not correspond, and P(corresponds) by score.

    Where own pairs do not score above chance, nothing is known of the share, and its interval is 0 to 1.

    Args:
        own: Scores of the clips `[N]`.
        swapped: Scores of pairs of different sources `[M]`.
        own_sources: Number of the source of each clip, int `[N]`: clips of one source are drawn together.
        swapped_sources: Number of the source of each swapped pair's pictures, int `[M]`.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.

    Raises:
        ValueError: When there are fewer than two sources.
    """
    clips_per_source = len(own) / len(np.unique(own_sources))
    share = mismatched_share(own, swapped, clips_per_source)
    low, high = _interval(own, swapped, own_sources, swapped_sources, resamples, seed)
    if not is_above_chance(own, swapped, own_sources):
        low, high = 0.0, 1.0
    knots, probabilities = _probabilities(own, swapped, share)
    return Calibration(share, min(low, share), max(high, share), knots, probabilities)


def is_above_chance(own: np.ndarray, swapped: np.ndarray, own_sources: np.ndarray) -> bool:
    """Return whether own pairs score higher than swapped ones beyond chance, by the Mann-Whitney U test at 95 %.

    Clips of one source score alike, so the test counts sources. It needs more of them where fewer clips correspond:
    with a perfect scorer, 100 sources suffice where a sixth of the clips do. Arguments are those of `calibrate`.
    """
    sources = len(np.unique(own_sources))
    # Of the area under the curve of two equal distributions.
    deviation = np.sqrt((2 * sources + 1) / (12 * sources**2))
    return bool(auc(own, swapped) > 0.5 + NORMAL_95 * deviation)


def mismatched_share(own: np.ndarray, swapped: np.ndarray, clips_per_source: float = 1.0) -> float:
    """Return the share of own pairs that score like swapped ones.

    With F the cumulative distributions, F_own(t) = pi F_swapped(t) + (1 - pi) F_corresponding(t), so that
    F_own(t) / F_swapped(t) is pi where no corresponding pair lies below t. The least ratio over all t would be that of
    many uncertain ones, and too low. So the highest t is taken up to which own pairs are distributed like swapped ones,
    by a one-sided Kolmogorov-Smirnov test: the ratio there counts most pairs.

    Args:
        own: Scores of the clips `[N]`.
        swapped: Scores of pairs of different sources `[M]`.
        clips_per_source: Clips of a source score alike, so that the test counts sources.
    """
    thresholds = np.percentile(swapped, PERCENTILES)
    below_own = np.searchsorted(np.sort(own), thresholds, side="right")
    below_swapped = np.searchsorted(np.sort(swapped), thresholds, side="right")
    ratios = np.minimum(1, below_own / len(own) * len(swapped) / below_swapped)
    for last in range(len(thresholds) - 1, -1, -1):
        inside = slice(0, last + 1)
        if not below_own[last]:
            return 0.0
        # Corresponding pairs among the own ones lie high: the own pairs' distribution lags behind.
        lag = (below_swapped[inside] / below_swapped[last] - below_own[inside] / below_own[last]).max()
        if lag <= DISTANCE * np.sqrt(clips_per_source * (1 / below_own[last] + 1 / below_swapped[last])):
            return float(ratios[last])
    return float(ratios.min())


def _interval(
    own: np.ndarray,
    swapped: np.ndarray,
    own_sources: np.ndarray,
    swapped_sources: np.ndarray,
    resamples: int,
    seed: int,
) -> tuple[float, float]:
    generator = np.random.default_rng(seed)
    sources, own_of, swapped_of = _rows_by_source(own_sources, swapped_sources)
    clips_per_source = len(own) / len(np.unique(own_sources))
    shares = []
    for _ in range(resamples):
        drawn = generator.integers(0, sources, sources)
        rows, others = (np.concatenate([of[number] for number in drawn]) for of in (own_of, swapped_of))
        if len(rows) and len(others):
            shares.append(mismatched_share(own[rows], swapped[others], clips_per_source))
    low, high = np.percentile(shares, INTERVAL)
    return float(low), float(high)


def _rows_by_source(
    own_sources: np.ndarray, swapped_sources: np.ndarray
) -> tuple[int, Sequence[np.ndarray], Sequence[np.ndarray]]:
    names, numbers = np.unique(np.concatenate([own_sources, swapped_sources]), return_inverse=True)
    if len(names) < 2:
        raise ValueError("one source alone has no other to be compared with")
    of_own, of_swapped = numbers[: len(own_sources)], numbers[len(own_sources) :]

    def rows(of: np.ndarray) -> list[np.ndarray]:
        order = np.argsort(of, kind="stable")
        return np.split(order, np.searchsorted(of[order], np.arange(1, len(names))))

    return len(names), rows(of_own), rows(of_swapped)


def _probabilities(own: np.ndarray, swapped: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Return P(corresponds) at some scores: max(0, 1 - pi (1 - D) / D), with D = P(own | score), made monotone.

    D is for equal numbers of own and swapped pairs, and fitted by isotonic regression.
    """
    scores = np.concatenate([own, swapped])
    labels = np.concatenate([np.ones(len(own)), np.zeros(len(swapped))])
    weights = np.concatenate([np.full(len(own), 1 / len(own)), np.full(len(swapped), 1 / len(swapped))])
    order = np.argsort(scores, kind="stable")
    fitted = isotonic_regression(labels[order], weights=weights[order]).x
    knots = np.unique(np.percentile(scores, np.linspace(0, 100, KNOTS)))
    own_share = np.interp(knots, scores[order], fitted)
    odds = np.divide(1 - own_share, own_share, out=np.full(len(knots), np.inf), where=own_share > 0)
    # Where all pairs are swapped ones, nothing corresponds, whatever the share.
    corresponds = np.where(np.isinf(odds), 0.0, 1 - share * np.where(np.isinf(odds), 0.0, odds))
    return knots, np.maximum.accumulate(np.clip(corresponds, 0, 1))


def auc(positive: np.ndarray, negative: np.ndarray) -> float:
    """Return the probability that a positive scores higher than a negative (area under the ROC curve), ties half."""
    ranked = np.sort(negative)
    below = np.searchsorted(ranked, positive, side="left") + np.searchsorted(ranked, positive, side="right")
    return float(below.mean() / 2 / len(negative))


def calibration_error(probabilities: np.ndarray, truth: np.ndarray, bins: int = 10) -> float:
    """Return the expected calibration error: the mean distance of P from the share that is true, over equal bins of P.

    Args:
        probabilities: P(corresponds) `[N]`.
        truth: Whether each corresponds, bool `[N]`.
        bins: Number of bins of equal width.
    """
    places = np.minimum((probabilities * bins).astype(int), bins - 1)
    sizes = np.bincount(places, minlength=bins)
    said, true = (np.bincount(places, values, minlength=bins) for values in (probabilities, truth.astype(float)))
    return float(np.abs(said - true).sum() / max(1, sizes.sum()))


def precision_at(kept_shares: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return the expected share of corresponding clips among those that are kept, by the share kept, `[K]`.

    Args:
        kept_shares: Shares of the clips, those of the highest P, each above 0 `[K]`.
        probabilities: P(corresponds) of all clips `[N]`.
    """
    ranked = np.sort(probabilities)[::-1]
    kept = np.maximum(1, np.round(kept_shares * len(ranked)).astype(int))
    return np.cumsum(ranked)[kept - 1] / kept
