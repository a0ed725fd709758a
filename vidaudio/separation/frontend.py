"""Front end: converts sound to the log-frequency spectrogram that the networks read, and masks back to sound.

A mixture of 65,535 samples becomes a complex spectrum [513 bins, 256 frames]. Magnitudes are warped along frequency to
256 log-spaced rows (time stays as it is), and masks are warped back. The warp is bilinear grid sampling with aligned
corners (Zhao et al. 2018; CLIPSep, section 3.1). As the grid moves along frequency only, it is one fixed interpolation
between two bins per row, computed here as two row gathers and a lerp: exact under any matmul precision setting.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from vidaudio.errors import RecipeError

# The warp maps [-1, 1] onto itself: g(y) = (21^((y + 1) / 2) - 11) / 10; inverse u(v) = 2 ln(10 v + 11) / ln 21 - 1.
WARP_BASE = 21.0


@dataclass(frozen=True, slots=True)
class FrontEndConfig:
    """Sizes of the spectrogram (defaults: CLIPSep, appendix; the demo uses hop 512, 128 frames, 128 rows).

    Args:
        sample_rate: Sample rate of the model's input and output, Hz.
        n_fft: Samples per frame of the STFT; also the length of its Hann window.
        hop: Samples between frames.
        window_samples: Samples per example.
        log_rows: Rows of the log-frequency spectrogram.
        frames: Columns of the log-frequency spectrogram; must match `window_samples` and `hop`.
        frequencies: `log`, or `linear`: the networks read the bins of the STFT as they are (BiModal), and `log_rows` is
            their number.

    Raises:
        RecipeError: When a size is too small, n_fft is odd, or the sizes do not fit together; the message names a value
            that fits.
    """

    sample_rate: int = 16000
    n_fft: int = 1024
    hop: int = 256
    window_samples: int = 65535
    log_rows: int = 256
    frames: int = 256
    frequencies: Literal["log", "linear"] = "log"

    def __post_init__(self) -> None:
        for name in ("sample_rate", "n_fft", "hop", "window_samples"):
            if getattr(self, name) < 1:
                raise RecipeError(f"front_end.{name} is {getattr(self, name)}: it must be at least 1.")
        if self.n_fft % 2:
            raise RecipeError(f"front_end.n_fft is {self.n_fft}: it must be even.")
        if 2 * self.hop > self.n_fft:
            raise RecipeError(
                f"front_end.hop is {self.hop} with n_fft {self.n_fft}: frames must overlap by half at least, or the "
                f"inverse STFT is lost. A hop of {self.n_fft // 2} or less will do."
            )
        if self.log_rows < 2:
            raise RecipeError(f"front_end.log_rows is {self.log_rows}: it must be at least 2.")
        if self.frequencies == "linear" and self.log_rows != self.bins:
            raise RecipeError(
                f"front_end.log_rows is {self.log_rows}: linear frequencies are {self.bins} bins (n_fft {self.n_fft})."
            )
        expected = 1 + self.window_samples // self.hop
        if self.frames != expected:
            raise RecipeError(
                f"front_end.frames is {self.frames}, but {self.window_samples} samples with hop {self.hop} give "
                f"{expected} frames (1 + window_samples // hop)."
            )

    @property
    def bins(self) -> int:
        """Return the number of frequency bins of the STFT, n_fft / 2 + 1."""
        return self.n_fft // 2 + 1

    @property
    def output_samples(self) -> int:
        """Return the samples that the inverse STFT gives for one window, hop (frames - 1): 65,280 by default."""
        return self.hop * (self.frames - 1)


def warp_coordinates(log_rows: int, bins: int) -> Tensor:
    """Return each log row's position on the linear axis: (g(y) + 1) / 2 * (bins - 1), in bins, float64 [log_rows]."""
    y = torch.linspace(-1, 1, log_rows, dtype=torch.float64)
    g = (WARP_BASE ** ((y + 1) / 2) - (WARP_BASE + 1) / 2) / ((WARP_BASE - 1) / 2)
    return (g + 1) / 2 * (bins - 1)


def unwarp_coordinates(bins: int, log_rows: int) -> Tensor:
    """Return each bin's position among the log rows: (u(v) + 1) / 2 * (log_rows - 1), in rows, float64 [bins]."""
    v = torch.linspace(-1, 1, bins, dtype=torch.float64)
    u = 2 * torch.log((WARP_BASE - 1) / 2 * v + (WARP_BASE + 1) / 2) / math.log(WARP_BASE) - 1
    return (u + 1) / 2 * (log_rows - 1)


class RowInterpolation(nn.Module):
    """Linear interpolation between the rows (dimension -2) of a float32 spectrogram at fixed fractional positions."""

    def __init__(self, coordinates: Tensor, rows: int) -> None:
        super().__init__()
        self.lower: Tensor
        self.weight: Tensor
        lower = coordinates.floor().clamp(0, rows - 2)
        self.register_buffer("lower", lower.long(), persistent=False)
        self.register_buffer("weight", (coordinates - lower).clamp(0, 1).float()[:, None], persistent=False)

    def forward(self, picture: Tensor) -> Tensor:
        """Interpolate the rows: [..., rows, T] -> [..., len(coordinates), T]."""
        return torch.lerp(picture.index_select(-2, self.lower), picture.index_select(-2, self.lower + 1), self.weight)


class FrontEnd(nn.Module):
    """STFT, its inverse, and the log-frequency warp. It has no parameters and nothing that must be in a checkpoint."""

    def __init__(self, config: FrontEndConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or FrontEndConfig()
        self.window: Tensor
        self.register_buffer("window", torch.hann_window(config.n_fft, periodic=True), persistent=False)
        self.warp: nn.Module = nn.Identity()
        self.unwarp: nn.Module = nn.Identity()
        if config.frequencies == "log":
            self.warp = RowInterpolation(warp_coordinates(config.log_rows, config.bins), config.bins)
            self.unwarp = RowInterpolation(unwarp_coordinates(config.bins, config.log_rows), config.log_rows)

    def stft(self, audio: Tensor) -> Tensor:
        """Return the complex spectrum of sound: Hann window (periodic), centred frames, zeros beyond the edges.

        The result is as librosa 0.9.2 computes it with its defaults, always in float32.

        Args:
            audio: Sound in [-1, 1], [..., L], L >= 1.

        Returns:
            complex64 [..., bins, 1 + L // hop].
        """
        shape = audio.shape
        with torch.autocast(audio.device.type, enabled=False):
            spectrum = torch.stft(
                audio.reshape(-1, shape[-1]).float(),
                self.config.n_fft,
                self.config.hop,
                window=self.window,
                center=True,
                pad_mode="constant",
                return_complex=True,
            )
        return spectrum.reshape(*shape[:-1], *spectrum.shape[-2:])

    def istft(self, spectrum: Tensor, length: int | None = None) -> Tensor:
        """Return sound from a complex spectrum by least squares (windowed overlap-add over the summed squared windows).

        Args:
            spectrum: Complex spectrum, [..., bins, T].
            length: Samples to return; None for hop (T - 1), as librosa's inverse returns.

        Returns:
            float32 [..., length].
        """
        shape = spectrum.shape
        with torch.autocast(spectrum.device.type, enabled=False):
            audio = torch.istft(
                spectrum.reshape(-1, *shape[-2:]).to(torch.complex64),
                self.config.n_fft,
                self.config.hop,
                window=self.window,
                center=True,
                length=self.config.hop * (shape[-1] - 1) if length is None else length,
            )
        return audio.reshape(*shape[:-2], audio.shape[-1])

    def to_log(self, picture: Tensor) -> Tensor:
        """Warp a real spectrogram from bins to the networks' rows, in float32: [..., bins, T] -> [..., log_rows, T]."""
        return self.warp(picture.float())

    def to_linear(self, mask: Tensor) -> Tensor:
        """Warp a mask from the networks' rows to bins, in float32: [..., log_rows, T] -> [..., bins, T]."""
        return self.unwarp(mask.float())
