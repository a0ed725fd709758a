"""Methods that move and stretch the cone of words onto the cone of pictures, by means and covariances alone."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor

from vidaudio.modality_gap.base import GapData, GapMethod, require

EPSILON = 1e-8
# Share of the identity, at the mean variance, in a covariance: a few hundred texts do not span 512 dimensions.
SHRINKAGE = 0.1


class MeanShift(GapMethod):
    """Moves texts by the distance of the two centroids: `t - mean(t) + mean(i)` (Liang et al., NeurIPS 2022)."""

    name = "mean_shift"
    needs = frozenset({"images", "texts"})

    @classmethod
    def fit(cls, data: GapData, *, seed: int = 0, **options: Any) -> Self:
        """Fit to the two means."""
        require(data, cls)
        shift = data.images.mean(dim=0) - data.texts.mean(dim=0)
        return cls({"shift": shift}, data.encoder, len(shift), options)

    def map_texts(self, texts: Tensor) -> Tensor:
        """Return the texts at the pictures' centroid."""
        return texts + self.tensors["shift"].to(texts)


class Standardise(GapMethod):
    """Gives texts the mean and the deviation of pictures in each dimension (I0T, ACL 2025, at asking time)."""

    name = "standardise"
    needs = frozenset({"images", "texts"})

    @classmethod
    def fit(cls, data: GapData, *, seed: int = 0, **options: Any) -> Self:
        """Fit to means and standard deviations."""
        require(data, cls)
        scale = data.images.std(dim=0) / data.texts.std(dim=0).clamp_min(EPSILON)
        return cls({"scale": scale, **data.means()}, data.encoder, len(scale), options)

    def map_texts(self, texts: Tensor) -> Tensor:
        """Return the texts with the pictures' mean and deviation."""
        scale, image_mean, text_mean = (self.tensors[name].to(texts) for name in ("scale", "image_mean", "text_mean"))
        return (texts - text_mean) * scale + image_mean


class Recolour(GapMethod):
    """Whitens texts by their covariance and colours them by the pictures' (CORAL, Sun et al., AAAI 2016).

    Covariances are shrunk towards a multiple of the identity.
    """

    name = "recolour"
    needs = frozenset({"images", "texts"})

    @classmethod
    def fit(cls, data: GapData, *, seed: int = 0, shrinkage: float = SHRINKAGE, **options: Any) -> Self:
        """Fit to means and covariances.

        Args:
            data: Vectors of pictures and texts.
            seed: Not used.
            shrinkage: Share of the identity in each covariance, 0 to 1.
            options: There are no others.
        """
        require(data, cls)
        text_root = _power(covariance(data.texts, shrinkage), -0.5)
        image_root = _power(covariance(data.images, shrinkage), 0.5)
        matrix = (text_root @ image_root).float()
        return cls({"matrix": matrix, **data.means()}, data.encoder, len(matrix), {"shrinkage": shrinkage})

    def map_texts(self, texts: Tensor) -> Tensor:
        """Return the texts with the pictures' mean and covariance."""
        matrix, image_mean, text_mean = (self.tensors[name].to(texts) for name in ("matrix", "image_mean", "text_mean"))
        return (texts - text_mean) @ matrix + image_mean


def covariance(vectors: Tensor, shrinkage: float = 0.0) -> Tensor:
    """Return the covariance of vectors, float64 `[D, D]`, shrunk towards the identity at its mean variance."""
    centred = vectors.double() - vectors.double().mean(dim=0)
    found = centred.T @ centred / max(1, len(vectors) - 1)
    identity = torch.eye(len(found), dtype=torch.float64) * found.diagonal().mean()
    return (1 - shrinkage) * found + shrinkage * identity


def _power(matrix: Tensor, exponent: float) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp_min(EPSILON * values.amax()).pow(exponent)) @ vectors.T
