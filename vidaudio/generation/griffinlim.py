"""Sound from a mel without a vocoder: magnitudes by non-negative least squares, phases by Griffin and Lim's iteration.

It needs no training. It sounds metallic and, as a mel does not tell how sharp a peak is, about 1 dB too quiet (a pure
tone 3 to 10 dB). Fast Griffin-Lim (Perraudin et al., 2013) with momentum, batched, on the device
of the mels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vidaudio.generation.mel import MelFrontEnd

ITERATIONS = 64
MOMENTUM = 0.99
# Multiplicative steps of the least squares; the mel of the result then differs by less than 0.02 on average.
FILTER_ITERATIONS = 50
LEAST = 1e-8


def magnitudes(log_mel: Tensor, filters: Tensor) -> Tensor:
    """Return magnitudes whose mel is the given one: `[B, bands, T]` and `[bands, bins]` to `[B, bins, T]`.

    Of the many that fit, multiplicative steps (Lee and Seung, 2001) find non-negative ones near a flat start.
    """
    bands = log_mel.exp()
    found = torch.matmul(filters.T, bands / filters.sum(1, keepdim=True).square().clamp_min(LEAST))
    wanted = torch.matmul(filters.T, bands)
    for _ in range(FILTER_ITERATIONS):
        # Through the few bands, not by the square of the filters: a sixth of the time.
        found = found * wanted / torch.matmul(filters.T, torch.matmul(filters, found)).clamp_min(LEAST)
    return found


def griffin_lim(log_mel: Tensor, front_end: MelFrontEnd, *, iterations: int = ITERATIONS, seed: int = 0) -> Tensor:
    """Return sounds of mels, float32 `[B, T * hop]`, in time with the mel's frames.

    All is computed in float32, also within a training's autocast: complex numbers have no bfloat16.

    Args:
        log_mel: Mels as `MelFrontEnd.log_mel` makes them, `[B, bands, T]`.
        front_end: Front end of the mels.
        iterations: Steps of the iteration.
        seed: Seed of the first phases, which are the same for every sound.
    """
    with torch.autocast(log_mel.device.type, enabled=False):
        return _griffin_lim(log_mel.float(), front_end, iterations, seed)


def _griffin_lim(log_mel: Tensor, front_end: MelFrontEnd, iterations: int, seed: int) -> Tensor:
    config = front_end.config
    # The mel's frames are centred half a hop late of those of a centred transform. With a frame more at both ends, the
    # sound of a centred transform begins half a hop early.
    wanted = magnitudes(log_mel, front_end.filters)
    wanted = torch.cat([wanted[..., :1], wanted, wanted[..., -1:]], dim=-1)
    length = config.hop * (wanted.shape[-1] - 1)

    def sound(spectrum: Tensor) -> Tensor:
        return torch.istft(spectrum, config.n_fft, config.hop, window=front_end.window, length=length)

    def spectrum(audio: Tensor) -> Tensor:
        return torch.stft(audio, config.n_fft, config.hop, window=front_end.window, return_complex=True)

    generator = torch.Generator().manual_seed(seed)
    angles = 2 * torch.pi * torch.rand(wanted.shape[1:], generator=generator).to(wanted)
    phases = torch.polar(torch.ones_like(angles), angles).expand(wanted.shape)
    before = torch.zeros_like(phases)
    for _ in range(iterations):
        now = spectrum(sound(wanted * phases))
        phases = now - before * (MOMENTUM / (1 + MOMENTUM))
        phases = phases / phases.abs().clamp_min(LEAST)
        before = now
    audio = sound(wanted * phases)
    return audio[:, config.hop // 2 : config.hop // 2 + config.samples(log_mel.shape[-1])]
