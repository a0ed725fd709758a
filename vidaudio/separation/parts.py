"""Mixtures of parts that are mixtures themselves, and the losses that need no single sound (Mahmud et al., ICLR 2024).

A training mixture X is the sum of N parts m_n, and each part is the sum of K sources, of which only the labels are
known. A prompt asks for a part, or for one of its sources. What a network answers is a magnitude, mask times |X|.

All functions compute in float32, and return a loss for every mixture, `[B]`. The sums over n and the pixel weights w
are those of the paper's published code.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from vidaudio.separation.frontend import FrontEnd
from vidaudio.separation.losses import PixelWeight, over_sources, pixel_weights
from vidaudio.separation.mixing import mix_sources

TargetScale = Literal["right", "released"]


@dataclass(frozen=True, slots=True)
class PartExample:
    """Spectra of B mixtures of N parts, without gradients.

    Attributes:
        spectrum: Spectra of the mixtures, complex `[B, bins, T]`.
        magnitude: Their magnitudes, float32 `[B, bins, T]`.
        parts: Magnitudes of the parts, float32 `[B, N, bins, T]`.
    """

    spectrum: Tensor
    magnitude: Tensor
    parts: Tensor


@torch.no_grad()
def make_parts(
    front_end: FrontEnd,
    audio: Tensor,
    gains: Tensor | None = None,
    *,
    is_single: Tensor | None = None,
    target_scale: TargetScale = "right",
) -> PartExample:
    """Mix sources to parts and parts to mixtures, and transform them, on the device of the samples.

    Args:
        front_end: The model's STFT.
        audio: Samples of the sources, int16 or float in [-1, 1], `[B, N, K, L]`.
        gains: Gains of the sources, `[B, N, K]`; None for 1.
        is_single: Mixtures whose parts are their first source alone, bool `[B]`; None for none.
        target_scale: `right`: the parts add up to the mixture. `released`: they are K times as quiet, as in the
            published code, whose loader divides by K once more.

    Raises:
        ValueError: When the audio has another form.
    """
    if audio.ndim != 4:
        raise ValueError(f"audio has shape {tuple(audio.shape)}; expected [batch, parts, sources, samples].")
    batch, parts, sources, samples = audio.shape
    flat_gains = None if gains is None else gains.reshape(batch, parts * sources)
    mixed = mix_sources(audio.reshape(batch, parts * sources, samples), flat_gains)[0]
    mixed = mixed.view(batch, parts, sources, samples)
    sounds = mixed.sum(dim=2)
    if is_single is not None:
        # Divided by N alone: so many sources are in such a mixture.
        sounds = torch.where(is_single[:, None, None], mixed[:, :, 0] * sources, sounds)
    spectra = front_end.stft(torch.cat([sounds, sounds.sum(dim=1, keepdim=True)], dim=1))
    targets = spectra[:, :-1].abs()
    if target_scale == "released":
        counts = torch.full((batch,), sources, dtype=targets.dtype, device=targets.device)
        counts = counts if is_single is None else torch.where(is_single, 1, counts)
        targets = targets / counts[:, None, None, None]
    return PartExample(spectra[:, -1], spectra[:, -1].abs(), targets)


def reconstruction_losses(
    predicted: Tensor, targets: Tensor, weights: Tensor, over: Literal["mean", "sum"] = "sum"
) -> Tensor:
    """Return L_URL: the sum (or mean) over n of mean(w(X) | A(p_n) - |m_n| |).

    With single sources for parts, it is the loss of full supervision.

    Args:
        predicted: Answers to the prompts of the parts, `[B, N, bins, T]`.
        targets: Magnitudes of the parts, `[B, N, bins, T]`.
        weights: Pixel weights of the mixture, `[B, bins, T]`.
        over: Reduction over the parts.
    """
    with torch.autocast(predicted.device.type, enabled=False):
        errors = (predicted.float() - targets).abs() * weights[:, None]
        return over_sources(errors.mean(dim=(-2, -1)), over)


def consistency_losses(
    predicted: Tensor,
    targets: Tensor,
    shares: Tensor | None = None,
    *,
    pixel_weight: PixelWeight = "clamped_log",
    over: Literal["mean", "sum"] = "sum",
) -> Tensor:
    """Return L_CRL: the sum (or mean) over n of mean(w(m_n) | sum_k a_nk A(p_nk) - |m_n| |).

    Args:
        predicted: Answers to the prompts of the sources, `[B, N, K, bins, T]`.
        targets: Magnitudes of the parts, `[B, N, bins, T]`.
        shares: The numbers a: one over how often a part's prompt is repeated, `[B, N, K]`; None for 1.
        pixel_weight: The weight w.
        over: Reduction over the parts.
    """
    with torch.autocast(predicted.device.type, enabled=False):
        predicted = predicted.float()
        if shares is not None:
            predicted = predicted * shares[..., None, None]
        errors = (predicted.sum(dim=2) - targets).abs() * pixel_weights(targets, pixel_weight)
        return over_sources(errors.mean(dim=(-2, -1)), over)


def assignment_reconstruction_losses(
    estimates: Tensor, targets: Tensor, weights: Tensor, over: Literal["mean", "sum"] = "sum"
) -> Tensor:
    """Return MixIT's loss: L_URL of the best assignment of outputs to parts (Wisdom et al., NeurIPS 2020).

    An output belongs to one part, and a part is the sum of its outputs. All N^M assignments are tried, and the loss of
    the best one has a gradient.

    Args:
        estimates: Magnitudes of M outputs, `[B, M, bins, T]`.
        targets: Magnitudes of the parts, `[B, N, bins, T]`.
        weights: Pixel weights of the mixture, `[B, bins, T]`.
        over: Reduction over the parts.
    """
    parts, count = targets.shape[1], estimates.shape[1]
    owners = torch.tensor(list(itertools.product(range(parts), repeat=count)), device=estimates.device)
    # Whether output m belongs to part n, of each assignment: [N^M, N, M].
    belongs = (owners[:, None] == torch.arange(parts, device=estimates.device)[:, None]).to(estimates.dtype)
    with torch.no_grad():
        losses = [
            reconstruction_losses(torch.einsum("nm,bmft->bnft", each, estimates), targets, weights, over)
            for each in belongs
        ]
        best = belongs[torch.stack(losses, dim=1).argmin(dim=1)]
    return reconstruction_losses(torch.einsum("bnm,bmft->bnft", best, estimates), targets, weights, over)
