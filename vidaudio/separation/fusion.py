"""Fusion: feature pictures weighted by a query's coefficients give that query's mask.

The form of CLIPSep's published code, M = sigmoid(sum_j s_j sigmoid(q_j) F_j + b), with s and b shared by all queries.
The paper's section 3.1 prints the sigmoid inside the sum, which ranges over [0, k] and is no probability.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MaskFusion(nn.Module):
    """Mask logits of n queries over the same features. Learns `scale` (s, starts at 1) and `bias` (b, starts at 0)."""

    def __init__(self, channels: int = 32) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, features: Tensor, queries: Tensor) -> Tensor:
        """Logits, whose sigmoid is the mask.

        Args:
            features: Outputs of the U-Net, without an activation, shape [B, K, H, W].
            queries: Query vectors before their sigmoid, shape [B, N, K].

        Returns:
            [B, N, H, W].
        """
        coefficients = self.scale * torch.sigmoid(queries)
        logits = torch.einsum("bnk,bkhw->bnhw", coefficients, features)
        return logits + self.bias
