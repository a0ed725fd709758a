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
from dataclasses import dataclass

import torch
from torch import Tensor

from vidaudio.separation.request import Request, combined_mask, request_mask
from vidaudio.separation.separator import RankedSeparator, Separator

Progress = Callable[[int, int], None]
# Share of a window's power below which the overlap with the earlier windows is silent: -60 dB.
SILENT_SHARE = 1e-6


@dataclass(frozen=True, slots=True)
class WindowOrder:
    """Order of a window's heads.

    Attributes:
        order: Number of the head at each place.
        is_linked: Whether the earlier windows' sound tells the order; False after a pause, and for the first window.
    """

    order: list[int]
    is_linked: bool


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
        mixture: Sound at the model's sample rate, float [channels, L], L >= 1. Systems are trained on [-1, 1].
        query: One query as the model takes it (an embedding [query_dimensions], a label's number ...), or a request of
            several queries.
        threshold: Threshold of a binary mask, or None for a soft one, see `Separator.mask`.
        batch_size: Windows per batch.
        progress: Called with the number of windows done and the total, at the beginning and after each batch.

    Returns:
        float32 [channels, L], on the mixture's device; not limited to [-1, 1].

    Raises:
        ValueError: When the mixture does not have two dimensions, or is empty.
        RuntimeError: When the model is in training mode.
    """
    request = (Request.for_one(query) if isinstance(query, Tensor) else query).to(model.front_end.window.device)
    if isinstance(model, RankedSeparator):
        return _separate_ranked(model, mixture, request, threshold, batch_size, progress)

    def masks(spectrum: Tensor, first: int) -> Tensor:
        return request_mask(model, spectrum, request, threshold=threshold)[:, None]

    return _overlap_add(model, mixture, masks, batch_size, progress)[0]


def _separate_ranked(
    model: RankedSeparator,
    mixture: Tensor,
    request: Request,
    threshold: float | None,
    batch_size: int,
    progress: Progress | None,
) -> Tensor:
    """Separate with a system whose heads are ranked: a query gets one head, the same in all windows.

    Windows are separated twice: heads are brought into one order by their sounds, and the head that is the most like a
    query, in the mean over the windows, is its own. After a pause, nothing tells which head is which: each stretch
    between pauses chooses for itself.
    """
    queries = request.queries
    likeness: list[Tensor] = []
    orders: list[WindowOrder] = []

    def of_heads(spectrum: Tensor, first: int) -> Tensor:
        heads = model.masks(spectrum)
        likeness.extend(model.likeness(spectrum, heads, queries.expand(len(spectrum), *queries.shape)))
        return heads

    steps = len(window_starts(mixture.shape[-1], model.front_end.config.output_samples))
    report = progress or (lambda done, total: None)
    _overlap_add(model, mixture, of_heads, batch_size, lambda done, total: report(done, 2 * total), orders)
    in_order = torch.stack([each[:, window.order] for each, window in zip(likeness, orders, strict=True)])
    stretches = list(itertools.accumulate(not window.is_linked for window in orders))
    own_heads = torch.zeros(len(orders), len(queries), dtype=torch.long)
    for stretch in set(stretches):
        rows = [row for row, number in enumerate(stretches) if number == stretch]
        best = in_order[rows].mean(dim=0).argmax(dim=1).tolist()
        own_heads[rows] = torch.tensor([[orders[row].order[place] for place in best] for row in rows])

    def masks(spectrum: Tensor, first: int) -> Tensor:
        heads = model.masks(spectrum)
        own = own_heads[first : first + len(heads)].to(heads.device)
        of_queries = heads.gather(1, own[:, :, None, None].expand(-1, -1, *heads.shape[2:]))
        return combined_mask(of_queries, len(request.wanted), threshold=threshold)[:, None]

    return _overlap_add(model, mixture, masks, batch_size, lambda done, total: report(steps + done, 2 * total))[0]


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

    def masks(spectrum: Tensor, first: int) -> Tensor:
        made = model.masks(spectrum)
        return made if threshold is None else (made > threshold).float()

    return _overlap_add(model, mixture, masks, batch_size, progress)


def _overlap_add(
    model: Separator,
    mixture: Tensor,
    masks: Callable[[Tensor, int], Tensor],
    batch_size: int,
    progress: Progress | None,
    orders: list[WindowOrder] | None = None,
) -> Tensor:
    """Return the sounds of H masks, [H, channels, L].

    Args:
        model: The system.
        mixture: Sound, [channels, L].
        masks: Function from spectra [B, bins, T] and the number of the first window to masks [B, H, bins, T].
        batch_size: Windows per batch.
        progress: Called with the number of windows done and the total.
        orders: List that takes the order of the H masks in each window; None to forget it.
    """
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
        made = masks(spectrum.mean(dim=1), first)
        separated = model.front_end.istft(spectrum[:, None] * made[:, :, None]).cpu()
        if output is None:
            output = torch.zeros(*separated.shape[1:3], len(total))
        for start, sounds in zip(chunk, separated, strict=True):
            place = slice(start, start + config.output_samples)
            window = _order(sounds, output[..., place])
            output[..., place] += sounds[window.order] * fade
            if orders is not None:
                orders.append(window)
            total[place] += fade
        report(first + len(chunk), len(starts))
    assert output is not None
    return (output / total)[..., :samples].to(mixture.device)


def _order(sounds: Tensor, before: Tensor) -> WindowOrder:
    """Return the order in which sounds [H, channels, T] resemble the earlier output the most."""
    is_linked = bool(before.square().sum() > SILENT_SHARE * sounds.square().sum())
    if len(sounds) == 1:
        return WindowOrder([0], is_linked)
    alike = torch.einsum("hct,gct->hg", before, sounds)
    rows = torch.arange(len(sounds))
    best = max(itertools.permutations(range(len(sounds))), key=lambda order: float(alike[rows, list(order)].sum()))
    return WindowOrder(list(best), is_linked)
