import math

import numpy as np
import pytest
import scipy.linalg

from vidaudio.errors import UsageError
from vidaudio.generation.metrics import (
    KernelMatrices,
    coverage,
    frechet_distance,
    inception_score,
    kernel_distance,
    mean_divergence,
    median_distance,
    nearest_distances,
)


def two_sets(seed: int = 0, count: int = 30, dimensions: int = 6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(dimensions, dimensions))
    return rng.normal(size=(count, dimensions)) @ mixing, rng.normal(0.3, 1.2, (count + 7, dimensions)) @ mixing


def slow_kernel_distance(real: np.ndarray, generated: np.ndarray) -> float:
    distances = sorted(math.dist(a, b) for number, a in enumerate(real) for b in real[number + 1 :])
    middle = len(distances) // 2
    width = distances[middle] if len(distances) % 2 else (distances[middle - 1] + distances[middle]) / 2

    def mean(rows, others, skip):
        values = [
            math.exp(-(math.dist(a, b) ** 2) / (2 * width**2))
            for i, a in enumerate(rows)
            for j, b in enumerate(others)
            if not (skip and i == j)
        ]
        return sum(values) / len(values)

    return 100 * (mean(real, real, True) + mean(generated, generated, True) - 2 * mean(real, generated, False))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_distances_equal_slow_formulas(seed):
    real, generated = two_sets(seed)
    assert kernel_distance(real, generated) == pytest.approx(slow_kernel_distance(real, generated), abs=1e-6)
    first, second = np.cov(real.T), np.cov(generated.T)
    root = scipy.linalg.sqrtm(first @ second)
    difference = real.mean(0) - generated.mean(0)
    wanted = difference @ difference + np.trace(first + second - 2 * np.real(root))
    assert frechet_distance(real, generated) == pytest.approx(wanted, rel=1e-6)
    # Far from 0 nothing is rounded away.
    assert kernel_distance(real + 1e4, generated + 1e4) == pytest.approx(kernel_distance(real, generated), abs=1e-6)


def test_neighbours_equal_slow_loops():
    real, generated = two_sets(3)
    radii = [sorted(math.dist(a, b) for b in real)[5] for a in real]
    inside = [[math.dist(r, g) <= radius for g in generated] for r, radius in zip(real, radii, strict=True)]
    found = coverage(real, generated)
    assert found.coverage == pytest.approx(np.mean([any(row) for row in inside]))
    assert found.density == pytest.approx(np.sum(inside) / (5 * len(generated)))
    nearest = [min(math.dist(g, r) for r in real) for g in generated]
    np.testing.assert_allclose(nearest_distances(generated, real), nearest, atol=1e-7)
    assert nearest_distances(real[3:5], real).tolist() == [0, 0]


def test_one_distribution_has_distance_zero_and_another_does_not():
    rng = np.random.default_rng(0)
    sets = [rng.normal(size=(200, 4)) for _ in range(40)]
    within = [kernel_distance(a, b) for a, b in zip(sets[::2], sets[1::2], strict=True)]
    # Unbiased: the mean is 0 within its error.
    assert abs(np.mean(within)) < 3 * np.std(within) / len(within) ** 0.5
    assert min(within) < 0
    assert kernel_distance(sets[0], sets[1] + 1) > 10 * max(within)
    assert frechet_distance(sets[0], sets[0]) == pytest.approx(0, abs=1e-9)
    # |m1 - m2|^2 of normal distributions with one covariance.
    assert frechet_distance(sets[0], sets[0] + 2) == pytest.approx(16, rel=1e-9)


@pytest.mark.parametrize("seed", range(50))
def test_degenerate_sets_give_numbers(seed):
    rng = np.random.default_rng(seed)
    count, dimensions = int(rng.integers(2, 12)), int(rng.integers(1, 40))
    kinds = [
        lambda: np.zeros((count, dimensions)),
        lambda: np.full((count, dimensions), rng.normal() * 1e6),
        lambda: rng.normal(size=(count, 1)) * np.ones(dimensions),
        lambda: rng.normal(size=(count, dimensions)) * 1e-12,
        lambda: rng.normal(size=(count, dimensions)) * 1e9,
        lambda: np.repeat(rng.normal(size=(1, dimensions)), count, 0),
        lambda: rng.integers(0, 2, (count, dimensions)).astype(float),
    ]
    real, generated = kinds[seed % len(kinds)](), kinds[(seed // 7) % len(kinds)]()
    for value in (frechet_distance(real, generated), frechet_distance(real, real), kernel_distance(real, generated)):
        assert np.isfinite(value)
    assert frechet_distance(real, generated) >= 0
    # A set has no distance from itself but rounding, of the size of its own variance.
    assert frechet_distance(real, real) <= 1e-6 * np.square(real - real.mean(0)).sum() + 1e-12
    found = coverage(real, generated, neighbours=1)
    assert 0 <= found.coverage <= 1
    assert np.isfinite(found.density)
    assert np.isfinite(nearest_distances(generated, real)).all()


def test_a_classifiers_metrics():
    sure, unsure = np.eye(4), np.full((4, 4), 0.25)
    assert inception_score(sure) == pytest.approx(4)
    assert inception_score(unsure) == pytest.approx(1)
    assert mean_divergence(sure, sure) == 0
    assert mean_divergence(sure, unsure) == pytest.approx(math.log(4))
    assert np.isfinite(mean_divergence(sure, sure[::-1]))


def test_what_does_not_fit_is_refused():
    real, generated = two_sets()
    for call, words in (
        (lambda: frechet_distance(real, generated[:, :3]), "not of one encoder"),
        (lambda: frechet_distance(real[:1], generated), "needs 2"),
        (lambda: kernel_distance(real, generated * np.nan), "not all finite"),
        (lambda: median_distance(real[0]), "form"),
        (lambda: coverage(real[:5], generated), "6 at least"),
        (lambda: inception_score(real), "probabilities"),
        (lambda: mean_divergence(np.eye(3), np.eye(4)), "one row a query"),
    ):
        with pytest.raises(UsageError, match=words):
            call()


def test_few_vectors_have_the_same_frechet_distance_as_by_their_covariances():
    rng = np.random.default_rng(0)
    real, generated = rng.normal(size=(9, 8)), rng.normal(0.2, 1.1, (12, 8))
    # Dimensions that never vary add nothing, and decide which way is taken.
    wider = (np.pad(vectors, ((0, 0), (0, 12))) for vectors in (real, generated))
    assert frechet_distance(*wider) == pytest.approx(frechet_distance(real, generated), abs=1e-9)


def test_a_resampled_sound_is_not_compared_with_itself():
    real, generated = two_sets(5, count=9)
    width = median_distance(real)
    matrices = KernelMatrices.of(real, generated, width)
    ones = np.ones(len(real)), np.ones(len(generated))
    assert matrices.distance(*ones) == pytest.approx(kernel_distance(real, generated), abs=1e-9)
    rng = np.random.default_rng(1)
    chosen = [rng.integers(len(vectors), size=len(vectors)) for vectors in (real, generated)]

    def mean(rows, one, others, other):
        values = [
            math.exp(-(math.dist(one[i], other[j]) ** 2) / (2 * width**2))
            for i in rows
            for j in others
            if one is not other or i != j
        ]
        return sum(values) / len(values)

    within = mean(chosen[0], real, chosen[0], real) + mean(chosen[1], generated, chosen[1], generated)
    wanted = 100 * (within - 2 * mean(chosen[0], real, chosen[1], generated))
    weights = [np.bincount(rows, minlength=len(rows)).astype(float) for rows in chosen]
    assert matrices.distance(*weights) == pytest.approx(wanted, abs=1e-9)
