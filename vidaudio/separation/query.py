"""Query paths: from a query (a vector, a label, images) to one coefficient per feature map.

All of them return query vectors [B, N, channels] before the activation of the fusion, so that any query path can be
combined with any head.
"""

from __future__ import annotations

from torch import Tensor, nn

from vidaudio.separation.config import SeparatorConfig
from vidaudio.separation.unet import InitialWeights, initialise


class LinearQuery(nn.Module):
    """One linear layer shared by all sources, CLIPSep's query path: q = W e + b.

    Embeddings are used as the encoder returns them, not normalised to unit length.

    Args:
        dimensions: Dimensions of an embedding.
        channels: Dimensions of a query vector.
        initial_weights: See `initialise`.
    """

    def __init__(self, dimensions: int = 512, channels: int = 32, initial_weights: InitialWeights = "clipsep") -> None:
        super().__init__()
        self.linear = nn.Linear(dimensions, channels)
        initialise(self, initial_weights)

    def forward(self, queries: Tensor) -> Tensor:
        """Return query vectors of embeddings: [B, N, D], any floating type -> [B, N, channels]."""
        return self.linear(queries.to(self.linear.weight.dtype))


class LabelQuery(nn.Module):
    """LabelSep's query path: a learned vector per label, followed by a linear layer.

    Args:
        labels: Number of labels.
        dimensions: Dimensions of a label's vector.
        channels: Dimensions of a query vector.
    """

    def __init__(self, labels: int, dimensions: int = 512, channels: int = 32) -> None:
        super().__init__()
        self.embedding = nn.Embedding(labels, dimensions)
        self.linear = nn.Linear(dimensions, channels)
        initialise(self)

    def forward(self, queries: Tensor) -> Tensor:
        """Return query vectors of label numbers: int64 [B, N] -> [B, N, channels]."""
        return self.linear(self.embedding(queries))


def query_path(config: SeparatorConfig) -> nn.Module:
    """Return a new query path of the kind that a configuration names."""
    if config.query in ("vector", "states"):
        return LinearQuery(config.query_dimensions, config.channels, config.initial_weights)
    if config.query == "label":
        return LabelQuery(config.labels, config.query_dimensions, config.channels)
    if config.query == "pictures":
        from vidaudio.separation.pictures import PictureQuery

        return PictureQuery(config.channels)
    raise ValueError(f"a system with queries of kind {config.query!r} has no query path")
