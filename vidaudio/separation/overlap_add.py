"""Separation of sound of any length: overlapping windows of the model's own size, cross-faded.

Windows are spread evenly, half a window apart or less, so that all of them lie inside the sound and the model sees no
padding unless the whole sound is shorter than one window. The sum of the faded windows is divided by the sum of the
fades: the weights of any sample sum to 1, at the edges too.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vidaudio.separation.clipsep import CLIPSep


def window_starts(samples: int, window: int) -> list[int]:
    """First samples of the fewest windows, spread evenly over [0, samples), that overlap by at least half."""
    if samples <= window:
        return [0]
    count = math.ceil((samples - window) / (window // 2)) + 1
    return [round(index * (samples - window) / (count - 1)) for index in range(count)]


def crossfade(window: int) -> Tensor:
    """How much a window counts at each of its samples, before normalisation: a squared sine, float32 [window]."""
    return (torch.sin(math.pi * (torch.arange(window, dtype=torch.float64) + 0.5) / window) ** 2).float()


@torch.no_grad()
def separate_long(
    model: CLIPSep, mixture: Tensor, query: Tensor, *, threshold: float | None = None, batch_size: int = 8
) -> Tensor:
    """Pull the sound that a query describes out of a mixture of any length.

    The mask comes from the mean of the channels and is applied to the spectrum of each, so that a stereo picture is
    kept.

    Args:
        model: A CLIPSep.
        mixture: float [channels, L], L >= 1, at the model's sample rate, in [-1, 1].
        query: One embedding [query_dimensions].
        threshold: See `CLIPSep.mask`.
        batch_size: Windows at a time.

    Returns:
        float32 [channels, L], in [-1, 1], on the mixture's device.

    Raises:
        ValueError: The mixture has another number of dimensions, or is empty.
        RuntimeError: The model is in training mode.
    """
    if mixture.ndim != 2 or 0 in mixture.shape:
        raise ValueError(f"The mixture has shape {tuple(mixture.shape)}; expected [channels, samples], not empty.")
    config = model.front_end.config
    device = model.front_end.window.device
    samples = mixture.shape[1]
    # A window counts for what the inverse STFT gives back in full; the few samples the STFT sees beyond are context.
    starts = window_starts(samples, config.output_samples)
    fade = crossfade(config.output_samples)
    padded = torch.nn.functional.pad(mixture, (0, max(0, starts[-1] + config.window_samples - samples)))
    output = torch.zeros(mixture.shape[0], max(samples, config.output_samples))
    total = torch.zeros(output.shape[1])
    for first in range(0, len(starts), batch_size):
        chunk = starts[first : first + batch_size]
        windows = torch.stack([padded[:, start : start + config.window_samples] for start in chunk]).to(device)
        spectrum = model.front_end.stft(windows)
        mask = model.mask(spectrum.mean(dim=1), query.to(device).expand(len(chunk), -1), threshold=threshold)
        separated = model.front_end.istft(spectrum * mask[:, None]).cpu()
        for start, sound in zip(chunk, separated, strict=True):
            output[:, start : start + config.output_samples] += sound * fade
            total[start : start + config.output_samples] += fade
    return (output / total)[:, :samples].clamp(-1, 1).to(mixture.device)
