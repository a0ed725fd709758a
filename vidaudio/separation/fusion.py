"""Fusion: feature maps weighted by a query's coefficients give that query's mask.

`outside`, the form of CLIPSep's published code, is M = sigmoid(sum_j s_j a(q_j) F_j + b), where a is the sigmoid, and
all queries share s and b. `inside`, the form that the paper's section 3.1 prints, has the sigmoid inside the sum. That
sum ranges over [0, k] and is not a probability, so the mean over j replaces it here: M = mean_j sigmoid(s_j a(q_j) F_j
+ b). The paper has no activation on q (`query_activation: none`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidaudio.separation.config import FusionConfig


class MaskFusion(nn.Module):
    """Mask logits of n queries over the same features. Learns `scale` (s, starts at 1) and `bias` (b, starts at 0).

    Args:
        channels: Number of feature maps, k.
        config: Options of the fusion; None for the defaults.
    """

    def __init__(self, channels: int = 32, config: FusionConfig | None = None) -> None:
        super().__init__()
        self.config = config or FusionConfig()
        self.scale = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, features: Tensor, queries: Tensor) -> Tensor:
        """Return logits; their sigmoid is the mask.

        Args:
            features: Outputs of the U-Net, without an activation, shape [B, K, H, W].
            queries: Query vectors before their activation, shape [B, N, K].

        Returns:
            [B, N, H, W].
        """
        coefficients = self.coefficients(queries)
        if self.config.sigmoid == "outside":
            return torch.einsum("bnk,bkhw->bnhw", coefficients, features) + self.bias
        return torch.stack([self._inside(features, one) for one in coefficients.unbind(dim=1)], dim=1)

    def coefficients(self, queries: Tensor) -> Tensor:
        """Return the weight of each feature map: query vectors before their activation, any shape [..., K]."""
        return self.scale * (torch.sigmoid(queries) if self.config.query_activation == "sigmoid" else queries)

    def _inside(self, features: Tensor, coefficients: Tensor) -> Tensor:
        """Return log odds of the mean of one query's sigmoids, [B, K] over [B, K, H, W] -> [B, H, W]."""
        terms = (coefficients[:, :, None, None] * features).float() + self.bias
        # log mean sigma(x) - log mean sigma(-x): both means have the same divisor, which cancels.
        return torch.logsumexp(F.logsigmoid(terms), dim=1) - torch.logsumexp(F.logsigmoid(-terms), dim=1)
