"""Targets, pixel weights and losses of mask training (CLIPSep, sections 3.1 and 3.2, and its published code).

All functions take magnitudes that are already warped to the log-frequency spectrogram, and compute in float32 whatever
the autocast. The loss of one mask for one source is the mean over pixels of weight * BCE; the functions here combine
`[B, N]` tables of these losses.
"""

from __future__ import annotations

import itertools
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

WEIGHT_RANGE = (1e-3, 10.0)
PixelWeight = Literal["clamped_log", "magnitude"]
# Value used for the logarithm of a probability of 0, as in PyTorch's own binary cross entropy.
LOG_OF_ZERO = -100.0


def binary_targets(source_magnitudes: Tensor, mixture_magnitude: Tensor) -> Tensor:
    """Return 1 where a source has over half of the mixture's magnitude, |S_n| > 0.5 |X|; several sources may have 1.

    Args:
        source_magnitudes: Magnitudes of the sources, [B, N, H, W].
        mixture_magnitude: Magnitude of their mixture, [B, H, W].

    Returns:
        0 or 1, float32 [B, N, H, W].
    """
    return (source_magnitudes > 0.5 * mixture_magnitude[:, None]).float()


def pixel_weights(mixture_magnitude: Tensor, kind: PixelWeight = "clamped_log") -> Tensor:
    """Return each pixel's weight: log(1 + |X|) clamped to [0.001, 10], or |X| as printed in the paper. Any shape."""
    if kind == "magnitude":
        return mixture_magnitude
    return torch.log1p(mixture_magnitude).clamp(*WEIGHT_RANGE)


def mask_losses(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Return the mean over pixels of weight * BCE(sigmoid(logit), target), for each mask.

    It is computed from logits, so that it neither overflows nor saturates.

    Args:
        logits: Mask logits, [B, N, H, W].
        targets: Target masks, [B, N, H, W].
        weights: Pixel weights, [B, H, W], shared by the sources.

    Returns:
        float32 [B, N].
    """
    with torch.autocast(logits.device.type, enabled=False):
        entropy = F.binary_cross_entropy_with_logits(logits.float(), targets.float(), reduction="none")
        return (entropy * weights[:, None].float()).mean(dim=(-2, -1))


def union_losses(logits: Tensor, noise_logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Return the losses of min(1, query mask + noise mask), pair by pair (CLIPSep-NIT); otherwise as `mask_losses`.

    Args:
        logits: Logits of the query masks, [B, N, H, W].
        noise_logits: Logits of the noise masks, [B, N, H, W].
        targets: Target masks, [B, N, H, W].
        weights: Pixel weights, [B, H, W].

    Returns:
        float32 [B, N].
    """
    with torch.autocast(logits.device.type, enabled=False):
        query, noise = logits.float(), noise_logits.float()
        # The share of neither mask, 1 - min(1, sum). It uses sigmoid(-x), since 1 - sigmoid(x) would lose small values.
        rest = F.relu(torch.sigmoid(-query) - torch.sigmoid(noise))
        claimed = (torch.sigmoid(query) + torch.sigmoid(noise)).clamp(max=1)
        entropy = -(targets * _log(claimed) + (1 - targets) * _log(rest))
        return (entropy * weights[:, None].float()).mean(dim=(-2, -1))


def _log(probability: Tensor) -> Tensor:
    """Return the logarithm, at least `LOG_OF_ZERO`, with a gradient of 0 (and not NaN) where the probability is 0."""
    floor = torch.finfo(probability.dtype).tiny
    return torch.where(probability > 0, probability.clamp_min(floor).log(), LOG_OF_ZERO)


def over_sources(losses: Tensor, sources: Literal["mean", "sum"] = "mean") -> Tensor:
    """Return the mean or sum over the last dimension: [..., N] -> [...]."""
    return losses.mean(dim=-1) if sources == "mean" else losses.sum(dim=-1)


def assignment_losses(pairs: Tensor, sources: Literal["mean", "sum"] = "mean") -> Tensor:
    """Return the loss of each example under every assignment of heads to sources.

    Args:
        pairs: Loss of source n explained by head m, [B, N, N] (source, head).
        sources: Reduction over the sources of an assignment.

    Returns:
        [B, N!].
    """
    count = pairs.shape[-1]
    rows = torch.arange(count, device=pairs.device)
    candidates = [
        over_sources(pairs[:, rows, torch.tensor(heads, device=pairs.device)], sources)
        for heads in itertools.permutations(range(count))
    ]
    return torch.stack(candidates, dim=1)


def best_assignment(pairs: Tensor, sources: Literal["mean", "sum"] = "mean") -> Tensor:
    """Return the loss of each example under its best assignment of heads to sources: [B, N, N] -> [B]."""
    return assignment_losses(pairs, sources).amin(dim=1)


def weighted_mask_loss(
    logits: Tensor, targets: Tensor, weights: Tensor, sources: Literal["mean", "sum"] = "mean"
) -> Tensor:
    """Return CLIPSep's loss: batch mean of the mean (or sum) over sources of `mask_losses`; a float32 scalar."""
    return over_sources(mask_losses(logits, targets, weights), sources).mean()


def permutation_loss(
    logits: Tensor, targets: Tensor, weights: Tensor, sources: Literal["mean", "sum"] = "mean"
) -> Tensor:
    """Return PIT's loss: each example is scored under its best assignment of heads to sources; a float32 scalar.

    Args:
        logits: Mask logits of N heads, [B, N, H, W].
        targets: Target masks of N sources, [B, N, H, W].
        weights: Pixel weights, [B, H, W].
        sources: Reduction over the sources of an assignment.
    """
    heads = [mask_losses(head[:, None].expand_as(targets), targets, weights) for head in logits.unbind(dim=1)]
    return best_assignment(torch.stack(heads, dim=2), sources).mean()


def noise_invariant_loss(
    logits: Tensor,
    noise_logits: Tensor,
    targets: Tensor,
    weights: Tensor,
    sources: Literal["mean", "sum"] = "mean",
) -> Tensor:
    """Return CLIPSep-NIT's loss: query masks united with noise masks, under the best assignment of noise heads.

    Args:
        logits: Mask logits of the N queries, [B, N, H, W].
        noise_logits: Mask logits of the N noise heads, [B, N, H, W].
        targets: Target masks of the N sources, [B, N, H, W].
        weights: Pixel weights, [B, H, W].
        sources: Reduction over the sources of an assignment.

    Returns:
        A float32 scalar, without the regularisers.
    """
    return best_assignment(_union_pairs(logits, noise_logits, targets, weights), sources).mean()


def regularised_noise_loss(
    logits: Tensor,
    noise_logits: Tensor,
    targets: Tensor,
    weights: Tensor,
    sources: Literal["mean", "sum"] = "mean",
    *,
    weight: float,
    margin: float,
) -> tuple[Tensor, Tensor]:
    """Return CLIPSep-NIT's loss with the second regulariser of its published code.

    For each example and source, weight * max(0, loss with query and noise mask - loss with the noise mask alone +
    margin) is added before the best assignment of noise heads is chosen.

    Returns:
        The loss of the masks and the regulariser, each under the assignments that are best for their sum; float32
            scalars.
    """
    union = _union_pairs(logits, noise_logits, targets, weights)
    heads = [mask_losses(head[:, None].expand_as(targets), targets, weights) for head in noise_logits.unbind(dim=1)]
    alone = torch.stack(heads, dim=2)
    masks = assignment_losses(union, sources)
    penalties = weight * assignment_losses(F.relu(union - alone + margin), sources)
    chosen = (masks + penalties).argmin(dim=1, keepdim=True)
    return masks.gather(1, chosen).mean(), penalties.gather(1, chosen).mean()


def _union_pairs(logits: Tensor, noise_logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Return the loss of each source explained by its query mask and each noise mask, [B, N, N] (source, head)."""
    heads = [
        union_losses(logits, head[:, None].expand_as(logits), targets, weights) for head in noise_logits.unbind(dim=1)
    ]
    return torch.stack(heads, dim=2)


def noise_activation(noise_logits: Tensor) -> Tensor:
    """Return the summed noise masks, averaged over batch and pixels (the paper's A), in [0, N]; a float32 scalar."""
    with torch.autocast(noise_logits.device.type, enabled=False):
        return torch.sigmoid(noise_logits.float()).sum(dim=1).mean()
