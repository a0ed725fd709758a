"""Pictures varied in training, as Zhao et al. did: a little larger, cut anywhere, mirrored half of the time."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# Their loader resizes to 246 pixels and cuts 224.
ENLARGED = 246 / 224


def augment_pictures(pictures: Tensor, *, seed: int, position: int) -> Tensor:
    """Cut and mirror the pictures of every window alike.

    Args:
        pictures: uint8 `[B, N, F, 3, H, W]`.
        seed, position: What is drawn is a pure function of these, so that a resumed run draws the same.

    Returns:
        uint8, same shape.
    """
    *leading, frames, channels, height, width = pictures.shape
    rng = torch.Generator().manual_seed((seed * 1_000_003 + position) % 2**63)
    large = (round(height * ENLARGED), round(width * ENLARGED))
    windows = pictures.reshape(-1, frames, channels, height, width)
    varied = []
    for window in windows:
        top = int(torch.randint(large[0] - height + 1, (), generator=rng))
        left = int(torch.randint(large[1] - width + 1, (), generator=rng))
        mirrored = bool(torch.randint(2, (), generator=rng))
        enlarged = F.interpolate(window.float(), size=large, mode="bilinear", align_corners=False)
        cut = enlarged[..., top : top + height, left : left + width]
        varied.append(cut.flip(-1) if mirrored else cut)
    return torch.stack(varied).round().clamp(0, 255).byte().view(*leading, frames, channels, height, width)
