"""Separation of sound of any length: overlapping windows of the model's own size, cross-faded.

Windows are spread evenly, half a window apart or less, so that all of them lie inside the sound. A sound that is
shorter than a window is repeated until the window is full, as in CLIPSep's training and inference: the model was never
trained on a window that is mostly silent. The sum of the faded windows is divided by the sum of the fades, so that the
weights of any sample sum to 1, also at the edges.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor

from vidaudio.separation.request import Request, request_mask
from vidaudio.separation.separator import Separator

Progress = Callable[[int, int], None]


def window_starts(samples: int, window: int) -> list[int]:
    """Return the first samples of the fewest windows, spread evenly over [0, samples), that overlap at least half."""
    if samples <= window:
        return [0]
    count = math.ceil((samples - window) / (window // 2)) + 1
    return [round(index * (samples - window) / (count - 1)) for index in range(count)]


def repeat_to(sound: Tensor, samples: int) -> Tensor:
    """Return the sound, repeated from its beginning along the last axis until it has at least `samples` samples.

    Args:
        sound: Sound, [..., L], L >= 1.
        samples: Minimum length of the result.

    Returns:
        [..., max(L, samples)].
    """
    length = sound.shape[-1]
    if length >= samples:
        return sound
    return sound.repeat(*[1] * (sound.ndim - 1), math.ceil(samples / length))[..., :samples]


def crossfade(window: int) -> Tensor:
    """Return the weight of each sample of a window, before normalisation: a squared sine, float32 [window]."""
    return (torch.sin(math.pi * (torch.arange(window, dtype=torch.float64) + 0.5) / window) ** 2).float()


@torch.no_grad()
def separate_long(
    model: Separator,
    mixture: Tensor,
    query: Tensor | Request,
    *,
    threshold: float | None = None,
    batch_size: int = 8,
    progress: Progress | None = None,
) -> Tensor:
    """Extract the sound that a query describes from a mixture of any length.

    The mask is computed from the mean of the channels and applied to each channel's spectrum, which keeps the stereo
    image.

    Args:
        model: A system that takes queries.
        mixture: Sound at the model's sample rate, float [channels, L], L >= 1, in [-1, 1].
        query: One query as the model takes it (an embedding [query_dimensions], a label's number ...), or a request of
            several queries.
        threshold: Threshold of a binary mask, or None for a soft one, see `Separator.mask`.
        batch_size: Windows per batch.
        progress: Called with the number of windows done and the total, at the beginning and after each batch.

    Returns:
        float32 [channels, L], in [-1, 1], on the mixture's device.

    Raises:
        ValueError: When the mixture does not have two dimensions, or is empty.
        RuntimeError: When the model is in training mode.
    """
    request = (Request.for_one(query) if isinstance(query, Tensor) else query).to(model.front_end.window.device)

    def masks(spectrum: Tensor) -> Tensor:
        return request_mask(model, spectrum, request, threshold=threshold)[:, None]

    return _overlap_add(model, mixture, masks, batch_size, progress)[0]


@torch.no_grad()
def separate_all_long(
    model: Separator,
    mixture: Tensor,
    *,
    threshold: float | None = None,
    batch_size: int = 8,
    progress: Progress | None = None,
) -> Tensor:
    """Separate all sources of a mixture of any length, with a system without queries (PIT).

    The source of a head may change from window to window: heads are reordered to resemble the overlapping part of the
    earlier windows as much as possible.

    Returns:
        float32 [heads, channels, L]; otherwise as `separate_long`.
    """

    def masks(spectrum: Tensor) -> Tensor:
        made = model.masks(spectrum)
        return made if threshold is None else (made > threshold).float()

    return _overlap_add(model, mixture, masks, batch_size, progress)


def _overlap_add(
    model: Separator,
    mixture: Tensor,
    masks: Callable[[Tensor], Tensor],
    batch_size: int,
    progress: Progress | None,
) -> Tensor:
    """Return the sounds of H masks, [H, channels, L]; `masks` maps spectra [B, bins, T] to [B, H, bins, T]."""
    if mixture.ndim != 2 or 0 in mixture.shape:
        raise ValueError(f"The mixture has shape {tuple(mixture.shape)}; expected [channels, samples], not empty.")
    config = model.front_end.config
    device = model.front_end.window.device
    samples = mixture.shape[1]
    # A window contributes the samples that the inverse STFT restores in full; the few samples beyond are only context.
    starts = window_starts(samples, config.output_samples)
    fade = crossfade(config.output_samples)
    repeated = repeat_to(mixture, starts[-1] + config.window_samples)
    output: Tensor | None = None
    total = torch.zeros(max(samples, config.output_samples))
    report = progress or (lambda done, total: None)
    report(0, len(starts))
    for first in range(0, len(starts), batch_size):
        chunk = starts[first : first + batch_size]
        windows = torch.stack([repeated[:, start : start + config.window_samples] for start in chunk]).to(device)
        spectrum = model.front_end.stft(windows)
        separated = model.front_end.istft(spectrum[:, None] * masks(spectrum.mean(dim=1))[:, :, None]).cpu()
        if output is None:
            output = torch.zeros(*separated.shape[1:3], len(total))
        for start, sounds in zip(chunk, separated, strict=True):
            place = slice(start, start + config.output_samples)
            output[..., place] += _in_order(sounds, output[..., place]) * fade
            total[place] += fade
        report(first + len(chunk), len(starts))
    assert output is not None
    return (output / total)[..., :samples].clamp(-1, 1).to(mixture.device)


def _in_order(sounds: Tensor, before: Tensor) -> Tensor:
    """Return the sounds [H, channels, T] in the order in which they resemble the earlier output most."""
    if len(sounds) == 1:
        return sounds
    alike = torch.einsum("hct,gct->hg", before, sounds)
    rows = torch.arange(len(sounds))
    best = max(itertools.permutations(range(len(sounds))), key=lambda order: float(alike[rows, list(order)].sum()))
    return sounds[list(best)]
