"""Targets, pixel weights and loss of mask training (CLIPSep, section 3.1 and its published code).

All work on magnitudes that are already warped to the log-frequency picture.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

WEIGHT_RANGE = (1e-3, 10.0)


def binary_targets(source_magnitudes: Tensor, mixture_magnitude: Tensor) -> Tensor:
    """1 where a source has more than half of the mixture's magnitude, |S_n| > 0.5 |X|; two sources may both have.

    Args:
        source_magnitudes: [B, N, H, W].
        mixture_magnitude: [B, H, W].

    Returns:
        0 or 1, float32 [B, N, H, W].
    """
    return (source_magnitudes > 0.5 * mixture_magnitude[:, None]).float()


def pixel_weights(mixture_magnitude: Tensor) -> Tensor:
    """How much each pixel counts: log(1 + |X|) clamped to [0.001, 10] (the paper prints plain |X|). Any shape."""
    return torch.log1p(mixture_magnitude).clamp(*WEIGHT_RANGE)


def weighted_mask_loss(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Mean over sources of the mean over batch and pixels of weight * BCE(sigmoid(logit), target), in float32.

    Computed from logits, so that it neither overflows nor saturates.

    Args:
        logits: [B, N, H, W].
        targets: In [0, 1], [B, N, H, W].
        weights: [B, H, W], shared by the sources.

    Returns:
        A scalar, float32.
    """
    with torch.autocast(logits.device.type, enabled=False):
        # Every source has as many pixels as any other: the mean of means is the mean.
        return F.binary_cross_entropy_with_logits(logits.float(), targets.float(), weight=weights[:, None].float())
