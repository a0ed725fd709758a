"""Vectors of two made-up cones: pictures and texts of a few labels, apart as CLIP's are."""

from __future__ import annotations

import torch
from torch import Tensor

from vidaudio.modality_gap import GapData

DIMENSIONS, LABELS, PICTURES, TEXTS = 16, 5, 40, 8


def cones(seed: int = 0) -> tuple[GapData, Tensor, Tensor]:
    """Return vectors with pairs, and the label of each picture and of each text."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randn(LABELS, DIMENSIONS, generator=generator)
    axes = torch.randn(2, DIMENSIONS, generator=generator) * 2
    of_image = torch.arange(LABELS).repeat_interleave(PICTURES)
    of_text = torch.arange(LABELS).repeat_interleave(TEXTS)
    images = 3 * (axes[0] + labels[of_image] + 0.4 * torch.randn(len(of_image), DIMENSIONS, generator=generator))
    texts = 2 * (axes[1] + 0.7 * labels[of_text] + 0.3 * torch.randn(len(of_text), DIMENSIONS, generator=generator))
    image_rows = torch.arange(len(images))
    text_rows = of_image * TEXTS + image_rows % TEXTS
    return GapData(images, texts, image_rows, text_rows, "encoder-a"), of_image, of_text
