"""Three measures of the gap between vectors of pictures and of texts: centroids, distributions, retrieval.

The distance of the centroids is what is usually reported (Liang et al., NeurIPS 2022); the distance of the
distributions around their centroids predicts transfer between modalities better (2604.00279).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vidaudio.modality_gap.statistics import covariance

# Vectors that distributions are compared by, at most; the Fréchet distance needs covariances alone.
MAX_KERNEL_VECTORS = 2_000


@dataclass(frozen=True, slots=True)
class GapMeasures:
    """Measures of one set of pictures against one set of texts; NaN where a measure has no meaning.

    Attributes:
        matched_cosine: Mean cosine of a picture and a text of its label.
        mismatched_cosine: Mean cosine of a picture and a text of another label.
        text_cosine: Mean cosine of two different texts.
        image_cosine: Mean cosine of two different pictures.
        centroid_distance: Distance of the mean unit vectors, 0 to 2.
        frechet_distance: Fréchet distance of unit vectors after each set's mean is removed.
        mmd: Squared maximum mean discrepancy of the same vectors, Gaussian kernel of the median distance, unbiased.
        text_recall: Share of texts whose nearest picture is of their label (R@1).
        image_recall: Share of pictures whose nearest text is of their label (zero-shot accuracy).
        chance: Mean share of pictures of a text's label, which a random picture would be right at.
    """

    matched_cosine: float
    mismatched_cosine: float
    text_cosine: float
    image_cosine: float
    centroid_distance: float
    frechet_distance: float
    mmd: float
    text_recall: float
    image_recall: float
    chance: float

    def as_dict(self) -> dict[str, float | None]:
        """Return the measures by name, None for those without a meaning."""
        return {name: value if math.isfinite(value) else None for name, value in asdict(self).items()}


def measure_gap(
    images: Tensor, texts: Tensor, image_labels: Sequence[object] = (), text_labels: Sequence[object] = ()
) -> GapMeasures:
    """Measure how far vectors of texts are from those of pictures.

    Args:
        images: Vectors of pictures, `[N, D]`.
        texts: Vectors of texts, `[M, D]`.
        image_labels: Label of each picture; without labels, what needs them is NaN.
        text_labels: Label of each text.
    """
    unit_images, unit_texts = F.normalize(images.double(), dim=-1), F.normalize(texts.double(), dim=-1)
    matched = mismatched = text_recall = image_recall = chance = math.nan
    if len(image_labels) and len(text_labels):
        cosines = unit_images @ unit_texts.T
        known = {label: number for number, label in enumerate(dict.fromkeys([*image_labels, *text_labels]))}
        of_image = torch.tensor([known[label] for label in image_labels])
        of_text = torch.tensor([known[label] for label in text_labels])
        same = of_image[:, None] == of_text[None]
        matched, mismatched = float(cosines[same].mean()), float(cosines[~same].mean())
        text_recall = float((of_image[cosines.argmax(dim=0)] == of_text).double().mean())
        image_recall = float((of_text[cosines.argmax(dim=1)] == of_image).double().mean())
        chance = float(same.double().mean())
    centroids = unit_images.mean(dim=0), unit_texts.mean(dim=0)
    around = unit_images - centroids[0], unit_texts - centroids[1]
    return GapMeasures(
        matched,
        mismatched,
        _mean_cosine(unit_texts),
        _mean_cosine(unit_images),
        float((centroids[0] - centroids[1]).norm()),
        frechet_distance(*around),
        squared_mmd(*around),
        text_recall,
        image_recall,
        chance,
    )


def _mean_cosine(unit: Tensor) -> float:
    """Return the mean cosine of two different vectors, without computing all pairs."""
    count = len(unit)
    return float((unit.sum(dim=0).square().sum() - count) / (count * (count - 1))) if count > 1 else math.nan


def frechet_distance(first: Tensor, second: Tensor) -> float:
    """Return the squared Fréchet distance of two sets of vectors taken for Gaussian (Dowson and Landau, 1982)."""
    if min(len(first), len(second)) < 2:
        return math.nan
    one, other = covariance(first), covariance(second)
    root = _square_root(one)
    product = _square_root(root @ other @ root)
    means = (first.double().mean(dim=0) - second.double().mean(dim=0)).square().sum()
    return max(0.0, float(means + one.trace() + other.trace() - 2 * product.trace()))


def squared_mmd(first: Tensor, second: Tensor) -> float:
    """Return the unbiased squared MMD with a Gaussian kernel; its width is the median distance of all vectors.

    Of more than `MAX_KERNEL_VECTORS`, an even sample is taken.
    """
    if min(len(first), len(second)) < 2:
        return math.nan
    one, other = _sampled(first).double(), _sampled(second).double()
    both = torch.cat([one, other])
    lengths = both.square().sum(dim=1)
    squared = (lengths[:, None] + lengths[None] - 2 * both @ both.T).clamp_min(0)
    # Rounding would put a vector apart from itself.
    squared.fill_diagonal_(0)
    n, m = len(one), len(other)
    apart = squared[~torch.eye(n + m, dtype=torch.bool)].median()
    kernel = torch.exp(-squared / apart) if apart > 0 else torch.ones_like(squared)
    within = (kernel[:n, :n].sum() - n) / (n * (n - 1)) + (kernel[n:, n:].sum() - m) / (m * (m - 1))
    return float(within - 2 * kernel[:n, n:].mean())


def _square_root(matrix: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp_min(0).sqrt()) @ vectors.T


def _sampled(vectors: Tensor) -> Tensor:
    count = min(len(vectors), MAX_KERNEL_VECTORS)
    return vectors[torch.linspace(0, len(vectors) - 1, count).round().long()]
