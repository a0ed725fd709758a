"""Resampling in PyTorch, with gradient: predictions of one sample rate are judged by a model of another one.

The filter is that of vidaudio.separation.resampling (scipy's `resample_poly`): linear phase, Kaiser window of beta 5.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from scipy.signal import firwin
from torch import Tensor, nn

# scipy's own: the filter's half length over the larger factor of the ratio, and its window.
HALF_LENGTH, KAISER_BETA = 10, 5.0
# Largest table of coefficients, 256 MB: rates without a common divisor need one of their product.
MOST_COEFFICIENTS = 2**26


class Resampler(nn.Module):
    """Resampling from one sample rate to another, a polyphase FIR filter as one strided convolution.

    With the ratio `up / down` in lowest terms, output sample `q up + p` is the dot product of phase `p` of the filter
    with the input around `q down`, so that the `up` phases are the channels of a convolution of stride `down`.

    The filter is computed in float32 or float64, as the sound, also under autocast. On GPUs, the flags of PyTorch
    decide whether convolutions use TF32.

    Args:
        from_rate: Sample rate of the sound, Hz.
        to_rate: Sample rate of the result, Hz.

    Raises:
        ValueError: When a rate is below 1, or the ratio of the rates has too large terms.
    """

    phases: Tensor

    def __init__(self, from_rate: int, to_rate: int) -> None:
        super().__init__()
        if from_rate < 1 or to_rate < 1:
            raise ValueError(f"Sample rates must be at least 1 Hz; got {from_rate} and {to_rate}.")
        common = math.gcd(from_rate, to_rate)
        self.up, self.down = to_rate // common, from_rate // common
        half = HALF_LENGTH * max(self.up, self.down)
        # Input samples around `q down` that any phase reads, from -before to +after.
        self._before, after = half // self.up, ((self.up - 1) * self.down + half) // self.up
        width = self._before + after + 1
        if self.up * width > MOST_COEFFICIENTS:
            raise ValueError(
                f"The rates {from_rate} and {to_rate} have no large common divisor; resample to another rate."
            )
        phases = torch.zeros(0)
        if self.up != self.down:
            taps = torch.from_numpy(firwin(2 * half + 1, 1 / max(self.up, self.down), window=("kaiser", KAISER_BETA)))
            taps = taps.float() * self.up
            offset = torch.arange(width) - self._before
            tap = half + torch.arange(self.up)[:, None] * self.down - offset * self.up
            phases = torch.where((tap >= 0) & (tap <= 2 * half), taps[tap.clamp(0, 2 * half)], 0.0)[:, None]
        self.register_buffer("phases", phases, persistent=False)

    def forward(self, sound: Tensor) -> Tensor:
        """Resample along the last axis; beyond its ends, the sound is silent.

        Args:
            sound: Sound, floating point `[..., samples]`, on the device of this module.

        Returns:
            `[..., ceil(samples up / down)]` of the same dtype; half precisions are returned as float32. The sound
            itself when the rates are equal.

        Raises:
            ValueError: When the samples are not floating point (scale integers first).
        """
        if not sound.is_floating_point():
            raise ValueError(f"sound is {sound.dtype}; expected floating point (int16 / 32768).")
        if sound.dtype != torch.float64:
            sound = sound.float()
        if self.up == self.down:
            return sound
        wanted = -(-sound.shape[-1] * self.up // self.down)
        if not wanted or not sound.numel():
            return sound.new_zeros(*sound.shape[:-1], wanted)
        blocks = -(-wanted // self.up)
        needed = (blocks - 1) * self.down + self.phases.shape[-1]
        # Samples beyond the last block's reach are cut: the padding may be negative.
        padding = (self._before, needed - self._before - sound.shape[-1])
        with torch.autocast(sound.device.type, enabled=False):
            rows = F.pad(sound.reshape(-1, 1, sound.shape[-1]), padding)
            found = F.conv1d(rows, self.phases.to(sound.dtype), stride=self.down)
        return found.transpose(1, 2).reshape(*sound.shape[:-1], -1)[..., :wanted]
