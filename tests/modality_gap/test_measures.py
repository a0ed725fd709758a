"""Measures of the gap against slow formulas."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.modality_gap.made import cones
from vidaudio.modality_gap import measure_gap
from vidaudio.modality_gap.measures import frechet_distance, squared_mmd

DATA, OF_IMAGE, OF_TEXT = cones()


def test_cosines_and_centroids_are_means_over_pairs():
    found = measure_gap(DATA.images, DATA.texts, OF_IMAGE.tolist(), OF_TEXT.tolist())
    images, texts = F.normalize(DATA.images, dim=-1).numpy(), F.normalize(DATA.texts, dim=-1).numpy()
    matched, mismatched = [], []
    for (image, a), (text, b) in itertools.product(
        zip(images, OF_IMAGE.tolist(), strict=True), zip(texts, OF_TEXT.tolist(), strict=True)
    ):
        (matched if a == b else mismatched).append(float(image @ text))
    assert found.matched_cosine == pytest.approx(np.mean(matched), abs=1e-6)
    assert found.mismatched_cosine == pytest.approx(np.mean(mismatched), abs=1e-6)
    pairs = [float(a @ b) for a, b in itertools.combinations(texts, 2)]
    assert found.text_cosine == pytest.approx(np.mean(pairs), abs=1e-6)
    assert found.centroid_distance == pytest.approx(np.linalg.norm(images.mean(0) - texts.mean(0)), abs=1e-6)
    assert found.chance == pytest.approx(1 / 5)


def test_recall_counts_nearest_neighbours_by_label():
    found = measure_gap(DATA.images, DATA.texts, OF_IMAGE.tolist(), OF_TEXT.tolist())
    images, texts = F.normalize(DATA.images, dim=-1), F.normalize(DATA.texts, dim=-1)
    right = [OF_IMAGE[max(range(len(images)), key=lambda i, t=t: float(images[i] @ t))] for t in texts]
    assert found.text_recall == pytest.approx(np.mean([int(a) == int(b) for a, b in zip(right, OF_TEXT, strict=True)]))


def test_without_labels_what_needs_them_has_no_value():
    found = measure_gap(DATA.images, DATA.texts).as_dict()
    without = {name for name, value in found.items() if value is None}
    assert without == {"matched_cosine", "mismatched_cosine", "text_recall", "image_recall", "chance"}


def test_frechet_distance_of_known_gaussians():
    """Axis-aligned Gaussians: squared distance of means plus squared differences of deviations."""
    generator = np.random.default_rng(0)
    one, other = generator.normal(size=(4000, 3)), generator.normal(size=(4000, 3))
    one = (one - one.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(one, rowvar=False))).T
    other = (other - other.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(other, rowvar=False))).T
    first, second = one * [1, 2, 3], other * [2, 2, 1] + [0.5, 0, 0]
    expected = 0.25 + 1 + 0 + 4
    assert frechet_distance(torch.tensor(first), torch.tensor(second)) == pytest.approx(expected, abs=1e-8)


def test_mmd_equals_double_sums():
    one, other = DATA.images[:30].double(), DATA.texts[:20].double()
    both = torch.cat([one, other])
    width = sorted(float((a - b).square().sum()) for a, b in itertools.permutations(both, 2))
    width = width[(len(width) - 1) // 2]
    kernel = lambda a, b: math.exp(-float((a - b).square().sum()) / width)  # noqa: E731 - as in the formula
    expected = np.mean([kernel(a, b) for a, b in itertools.permutations(one, 2)])
    expected += np.mean([kernel(a, b) for a, b in itertools.permutations(other, 2)])
    expected -= 2 * np.mean([kernel(a, b) for a in one for b in other])
    assert squared_mmd(one, other) == pytest.approx(expected, abs=1e-8)


def test_the_same_distribution_has_nearly_no_distance():
    generator = torch.Generator().manual_seed(0)
    one, other = torch.randn(500, 8, generator=generator), torch.randn(500, 8, generator=generator)
    assert abs(squared_mmd(one, other)) < 0.01
    assert frechet_distance(one, other) < 0.2
    assert math.isnan(squared_mmd(one[:1], other))
