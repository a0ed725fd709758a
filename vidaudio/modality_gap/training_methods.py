"""Methods that change the vectors of pictures in training, so that a model does not depend on the cone they lie in."""

from __future__ import annotations

from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from vidaudio.modality_gap.base import GapData, GapMethod, require


class Dropout(GapMethod):
    """Sets numbers of the vector to 0 at random, and scales the others (2409.13152, target sound extraction)."""

    name = "dropout"
    trains = True

    @classmethod
    def fit(cls, data: GapData, *, seed: int = 0, rate: float = 0.5, **options: Any) -> Self:
        """Take the rate, the share of numbers that are set to 0; below 1."""
        return cls({}, data.encoder, data.images.shape[1], {"rate": rate})

    def perturb(self, queries: Tensor, generator: torch.Generator, texts: Tensor | None = None) -> Tensor:
        """Return the queries with numbers left out."""
        keep = 1 - self.options["rate"]
        kept = torch.rand(queries.shape, generator=generator).to(queries.device) < keep
        return queries * kept / keep


class Noise(GapMethod):
    """Adds Gaussian noise (CapDec, Nukrai et al., EMNLP 2022).

    The variance, 0.016 in CapDec, is a number's of unit vectors; the noise grows with the mean norm of the pictures.
    """

    name = "noise"
    needs = frozenset({"images"})
    trains = True

    @classmethod
    def fit(cls, data: GapData, *, seed: int = 0, variance: float = 0.016, **options: Any) -> Self:
        """Take the variance, and measure the pictures' mean norm."""
        require(data, cls)
        norm = data.images.norm(dim=-1).mean()
        return cls({"norm": norm}, data.encoder, data.images.shape[1], {"variance": variance})

    def perturb(self, queries: Tensor, generator: torch.Generator, texts: Tensor | None = None) -> Tensor:
        """Return the queries with noise."""
        noise = torch.randn(queries.shape, generator=generator).to(queries)
        return queries + noise * (self.options["variance"] ** 0.5 * self.tensors["norm"].to(queries))


class CentredNoise(Noise):
    """Removes each modality's mean, and adds Gaussian noise in training (C3, Zhang et al., ICLR 2024)."""

    name = "centred_noise"
    needs = frozenset({"images", "texts"})

    @classmethod
    def fit(cls, data: GapData, *, seed: int = 0, variance: float = 0.016, **options: Any) -> Self:
        """Fit to the two means; see `Noise` for the variance."""
        require(data, cls)
        tensors = data.means()
        tensors["norm"] = (data.images - tensors["image_mean"]).norm(dim=-1).mean()
        return cls(tensors, data.encoder, data.images.shape[1], {"variance": variance})

    def map_texts(self, texts: Tensor) -> Tensor:
        """Return the texts without their mean, at the pictures' typical length."""
        centred = texts - self.tensors["text_mean"].to(texts)
        return F.normalize(centred, dim=-1) * self.tensors["norm"].to(texts)

    def map_images(self, images: Tensor) -> Tensor:
        """Return the pictures without their mean, at their typical length."""
        centred = images - self.tensors["image_mean"].to(images)
        return F.normalize(centred, dim=-1) * self.tensors["norm"].to(images)


class Mixup(GapMethod):
    """Blends a clip's picture with its text: `a * image + (1 - a) * text`, a uniform (OmniSep, ICLR 2025).

    It needs texts in training.
    """

    name = "mixup"
    needs = frozenset({"texts"})
    trains = True

    @classmethod
    def fit(cls, data: GapData, *, seed: int = 0, **options: Any) -> Self:
        """Fit nothing."""
        require(data, cls)
        return cls({}, data.encoder, data.images.shape[1], options)

    def perturb(self, queries: Tensor, generator: torch.Generator, texts: Tensor | None = None) -> Tensor:
        """Return blends of the queries and the texts of the same clips."""
        assert texts is not None, "blends need texts"
        share = torch.rand(*queries.shape[:-1], 1, generator=generator).to(queries)
        return share * queries + (1 - share) * texts.to(queries)
