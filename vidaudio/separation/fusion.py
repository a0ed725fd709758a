"""Fusion: feature pictures weighted by a query's coefficients give that query's mask.

`outside`, the form of CLIPSep's published code: M = sigmoid(sum_j s_j a(q_j) F_j + b), with a the sigmoid, and s and b
shared by all queries. `inside`, the form that the paper's section 3.1 prints, has the sigmoid in the sum; it ranges
over [0, k] and is no probability, so the mean over j stands here for the sum: M = mean_j sigmoid(s_j a(q_j) F_j + b).
The paper has no activation on q (`query_activation: none`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidaudio.separation.config import FusionConfig


class MaskFusion(nn.Module):
    """Mask logits of n queries over the same features. Learns `scale` (s, starts at 1) and `bias` (b, starts at 0)."""

    def __init__(self, channels: int = 32, config: FusionConfig | None = None) -> None:
        super().__init__()
        self.config = config or FusionConfig()
        self.scale = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, features: Tensor, queries: Tensor) -> Tensor:
        """Logits, whose sigmoid is the mask.

        Args:
            features: Outputs of the U-Net, without an activation, shape [B, K, H, W].
            queries: Query vectors before their activation, shape [B, N, K].

        Returns:
            [B, N, H, W].
        """
        activated = torch.sigmoid(queries) if self.config.query_activation == "sigmoid" else queries
        coefficients = self.scale * activated
        if self.config.sigmoid == "outside":
            return torch.einsum("bnk,bkhw->bnhw", coefficients, features) + self.bias
        return torch.stack([self._inside(features, one) for one in coefficients.unbind(dim=1)], dim=1)

    def _inside(self, features: Tensor, coefficients: Tensor) -> Tensor:
        """Log odds of the mean of the sigmoids of one query, [B, K] over [B, K, H, W] -> [B, H, W]."""
        terms = (coefficients[:, :, None, None] * features).float() + self.bias
        # log mean sigma(x) - log mean sigma(-x): the means share their divisor, which cancels.
        return torch.logsumexp(F.logsigmoid(terms), dim=1) - torch.logsumexp(F.logsigmoid(-terms), dim=1)
