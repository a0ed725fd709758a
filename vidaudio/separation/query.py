"""Query path: from an embedding (CLIP, of pictures or of text) to one coefficient per feature picture."""

from __future__ import annotations

from torch import Tensor, nn

from vidaudio.separation.unet import initialise


class LinearQuery(nn.Module):
    """One linear layer shared by all sources, CLIPSep's query path: q = W e + b, before the sigmoid of the fusion.

    Embeddings are taken as the encoder gives them, not normalised to unit length.
    """

    def __init__(self, dimensions: int = 512, channels: int = 32) -> None:
        super().__init__()
        self.linear = nn.Linear(dimensions, channels)
        initialise(self)

    def forward(self, queries: Tensor) -> Tensor:
        """Embeddings [B, N, D], any floating type -> query vectors [B, N, channels]."""
        return self.linear(queries.to(self.linear.weight.dtype))
