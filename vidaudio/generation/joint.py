"""Joint denoising: one long mel from a network of short windows.

Overlapping windows of a noisy mel are predicted on their own, each with its own condition, and what they predict for a
frame is averaged at every step (MultiDiffusion, Bar-Tal et al., ICML 2023, eq. 5). So neighbours agree long before the
mel is clean, and no window has an end that could be heard. The paper averages the steps; they are linear in the
predictions, apart from clipping.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vidaudio.generation.guidance import Predictor


@dataclass(frozen=True)
class WindowGroup:
    """Windows that are predicted together.

    Attributes:
        predict: Network, asked with the conditions of these windows.
        starts: First frame of each window.
    """

    predict: Predictor
    starts: Sequence[int]


def joint_predictor(groups: Sequence[WindowGroup], weights: Tensor, frames: int) -> Predictor:
    """Return a predictor of one long mel, `[1, 1, bands, frames]`, from those of its windows.

    Args:
        groups: Windows, which cover all frames together.
        weights: Weight of each frame of a window in the average, above 0, `[window]`.
        frames: Frames of the long mel.

    Raises:
        ValueError: When a frame is in no window.
    """
    window = len(weights)
    total = torch.zeros(frames, dtype=weights.dtype, device=weights.device)
    for group in groups:
        for start in group.starts:
            total[start : start + window] += weights
    if not bool((total > 0).all()):
        raise ValueError(f"frame {int((total <= 0).nonzero()[0])} is in no window")

    def predict(noisy: Tensor, times: Tensor) -> Tensor:
        mean: Tensor | None = None
        for group in groups:
            parts = torch.cat([noisy[..., start : start + window] for start in group.starts])
            predicted = group.predict(parts, times.expand(len(parts)))
            if mean is None:
                mean = predicted.new_zeros(1, *predicted.shape[1:3], frames)
            for start, part in zip(group.starts, predicted, strict=True):
                # Where there is one window, its share is exactly 1.
                mean[0, ..., start : start + window] += part * (weights / total[start : start + window])
        assert mean is not None, "the windows cover all frames"
        return mean

    return predict
