"""Query paths: from what a query is (a vector, a label, pictures) to one number per feature picture.

All of them give query vectors [B, N, channels] before the activation of the fusion, so that any of them can stand
before any head.
"""

from __future__ import annotations

from torch import Tensor, nn

from vidaudio.separation.config import SeparatorConfig
from vidaudio.separation.unet import initialise


class LinearQuery(nn.Module):
    """One linear layer shared by all sources, CLIPSep's query path: q = W e + b.

    Embeddings are taken as the encoder gives them, not normalised to unit length.
    """

    def __init__(self, dimensions: int = 512, channels: int = 32) -> None:
        super().__init__()
        self.linear = nn.Linear(dimensions, channels)
        initialise(self)

    def forward(self, queries: Tensor) -> Tensor:
        """Embeddings [B, N, D], any floating type -> query vectors [B, N, channels]."""
        return self.linear(queries.to(self.linear.weight.dtype))


class LabelQuery(nn.Module):
    """LabelSep's query path: a learned vector a label, then the same linear layer."""

    def __init__(self, labels: int, dimensions: int = 512, channels: int = 32) -> None:
        super().__init__()
        self.embedding = nn.Embedding(labels, dimensions)
        self.linear = nn.Linear(dimensions, channels)
        initialise(self)

    def forward(self, queries: Tensor) -> Tensor:
        """Numbers of labels, int64 [B, N] -> query vectors [B, N, channels]."""
        return self.linear(self.embedding(queries))


def query_path(config: SeparatorConfig) -> nn.Module:
    """The query path that a configuration asks for."""
    if config.query == "vector":
        return LinearQuery(config.query_dimensions, config.channels)
    if config.query == "label":
        return LabelQuery(config.labels, config.query_dimensions, config.channels)
    if config.query == "pictures":
        from vidaudio.separation.pictures import PictureQuery

        return PictureQuery(config.channels)
    raise ValueError(f"a system with queries of kind {config.query!r} has no query path")
