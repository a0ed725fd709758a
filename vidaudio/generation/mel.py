"""Mel front end: sound as the picture that a diffusion model generates, and back to the mel of a vocoder.

The mel is BigVGAN's (Lee et al., ICLR 2023), so that its vocoders fit: magnitudes, not powers, through Slaney's mel
filters, natural logarithm with a floor. A fixed map takes it to [-1, 1]: the floor is -1, and the loudest possible
sound stays below 1, so nothing depends on a corpus or on a sound's own level.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from vidaudio.errors import RecipeError

# Inside the root of a magnitude, as in BigVGAN: the gradient stays finite at silence.
ROOT_FLOOR = 1e-9
# Least value of a mel band.
BAND_FLOOR = 1e-5
LOG_LEAST = math.log(BAND_FLOOR)
# A square wave between -1 and 1, about the loudest sound of all, reaches 3.45 in a band of the default mel.
LOG_MOST = 3.5


@dataclass(frozen=True)
class MelConfig:
    """Sizes of the mel; the defaults are CLIPSonic's.

    Attributes:
        sample_rate: Sample rate, Hz.
        n_fft: Samples of a frame, and of its Hann window.
        hop: Samples between frames.
        bands: Mel bands.
        lowest, highest: Edges of the bands, Hz; None for half the sample rate.
        log_most: Logarithm of a band that the map takes to 1; the floor's is taken to -1.

    Raises:
        RecipeError: When the sizes do not fit together.
    """

    sample_rate: int = 16_000
    n_fft: int = 2048
    hop: int = 512
    bands: int = 64
    lowest: float = 0.0
    highest: float | None = None
    log_most: float = LOG_MOST

    def __post_init__(self) -> None:
        for name in ("sample_rate", "n_fft", "hop", "bands"):
            if getattr(self, name) < 1:
                raise RecipeError(f"mel.{name} is {getattr(self, name)}: it must be at least 1")
        if 2 * self.hop > self.n_fft or (self.n_fft - self.hop) % 2:
            raise RecipeError(
                f"mel.hop is {self.hop} with n_fft {self.n_fft}: frames must overlap by half at least, and "
                f"n_fft - hop must be even; a hop of {self.n_fft // 4} does"
            )
        if not 0 <= self.lowest < self.top <= self.sample_rate / 2:
            raise RecipeError(
                f"mel bands from {self.lowest:g} to {self.top:g} Hz: they must rise, and end at half the sample rate, "
                f"{self.sample_rate / 2:g} Hz, at most"
            )
        if self.log_most <= LOG_LEAST:
            raise RecipeError(f"mel.log_most is {self.log_most:g}: it must be above the floor's {LOG_LEAST:.2f}")

    @property
    def top(self) -> float:
        """Return the upper edge of the highest band, Hz."""
        return self.sample_rate / 2 if self.highest is None else self.highest

    @property
    def words(self) -> str:
        """Return the sizes that a vocoder must have in common with a generator, in words."""
        return (
            f"{self.sample_rate} Hz, {self.bands} bands from {self.lowest:g} to {self.top:g} Hz, n_fft {self.n_fft}, "
            f"hop {self.hop}"
        )

    def samples(self, frames: int) -> int:
        """Return the number of samples that give so many frames."""
        return frames * self.hop

    def seconds(self, frames: int) -> float:
        """Return how long so many frames last."""
        return frames * self.hop / self.sample_rate


def mel_filters(config: MelConfig) -> Tensor:
    """Return Slaney's mel filters, each of area 1 over Hz, float32 `[bands, n_fft // 2 + 1]`; they equal librosa's."""
    from transformers.audio_utils import mel_filter_bank

    filters = mel_filter_bank(
        num_frequency_bins=config.n_fft // 2 + 1,
        num_mel_filters=config.bands,
        min_frequency=config.lowest,
        max_frequency=config.top,
        sampling_rate=config.sample_rate,
        norm="slaney",
        mel_scale="slaney",
    )
    return torch.from_numpy(filters).float().T.contiguous()


class MelFrontEnd(nn.Module):
    """Mel of sound, and the fixed map to [-1, 1]; it has no parameters and nothing that a checkpoint must hold.

    Args:
        config: Sizes of the mel; None for the defaults.
    """

    filters: Tensor
    window: Tensor

    def __init__(self, config: MelConfig | None = None) -> None:
        super().__init__()
        self.config = config or MelConfig()
        self.register_buffer("window", torch.hann_window(self.config.n_fft), persistent=False)
        self.register_buffer("filters", mel_filters(self.config), persistent=False)

    def log_mel(self, audio: Tensor) -> Tensor:
        """Return the mel that vocoders read, float32: `[..., samples]` in [-1, 1] to `[..., bands, samples // hop]`.

        It is computed in float32, also within a training's autocast.

        The sound is reflected at its ends, by (n_fft - hop) / 2 samples; a frame is not centred on a sample.

        Raises:
            ValueError: When the sound is too short to be reflected.
        """
        config = self.config
        around = (config.n_fft - config.hop) // 2
        if audio.shape[-1] <= around:
            raise ValueError(f"{audio.shape[-1]} samples are too few for a mel: it needs {around + 1} at least")
        flat = audio.reshape(-1, audio.shape[-1]).float()
        with torch.autocast(audio.device.type, enabled=False):
            padded = functional.pad(flat[:, None], (around, around), mode="reflect")[:, 0]
            spectrum = torch.stft(
                padded, config.n_fft, config.hop, window=self.window, center=False, return_complex=True
            )
            magnitude = (spectrum.real.square() + spectrum.imag.square() + ROOT_FLOOR).sqrt()
            bands = torch.matmul(self.filters, magnitude).clamp_min(BAND_FLOOR).log()
        return bands.reshape(*audio.shape[:-1], *bands.shape[-2:])

    def forward(self, audio: Tensor) -> Tensor:
        """Return the mel in [-1, 1]: `[..., samples]` to `[..., bands, samples // hop]`."""
        return self.from_log(self.log_mel(audio)).clamp(-1, 1)

    def from_log(self, log_mel: Tensor) -> Tensor:
        """Map a vocoder's mel to [-1, 1]."""
        return (log_mel - LOG_LEAST) * (2 / (self.config.log_most - LOG_LEAST)) - 1

    def to_log(self, mel: Tensor) -> Tensor:
        """Map a mel in [-1, 1] back to a vocoder's; values beyond the ends are clipped."""
        return (mel.clamp(-1, 1) + 1) * ((self.config.log_most - LOG_LEAST) / 2) + LOG_LEAST
