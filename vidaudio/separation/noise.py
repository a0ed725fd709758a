"""Noise heads of CLIPSep-NIT: masks for sound that no query describes, such as off-screen sound; only for training."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from vidaudio.separation.unet import initialise


class NoiseHeads(nn.Module):
    """N linear layers; each makes one noise query vector from all query vectors of a mixture together.

    Args:
        heads: Number of noise heads.
        channels: Dimensions of a query vector.
        pooling: `mean` or `sum` over the query vectors, before their activation.
        initial_bias: First value of a learned number that is added to the logits of the noise masks; None for none.
    """

    def __init__(
        self,
        heads: int,
        channels: int,
        pooling: Literal["mean", "sum"] = "mean",
        initial_bias: float | None = None,
    ) -> None:
        super().__init__()
        self.pooling = pooling
        self.heads = nn.ModuleList(nn.Linear(channels, channels) for _ in range(heads))
        initialise(self)
        self.bias = None if initial_bias is None else nn.Parameter(torch.tensor([initial_bias]))

    def forward(self, query_vectors: Tensor) -> Tensor:
        """Return noise query vectors: [B, N, channels] -> [B, heads, channels]."""
        pooled = query_vectors.mean(dim=1) if self.pooling == "mean" else query_vectors.sum(dim=1)
        return torch.stack([head(pooled) for head in self.heads], dim=1)
