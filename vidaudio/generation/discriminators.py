"""Discriminators of vocoders: networks that learn to tell recorded sound from generated sound.

Two kinds, as in BigVGAN (Lee et al., ICLR 2023): of periods, which see the sound folded to rows of so many samples
(HiFi-GAN, Kong et al., NeurIPS 2020, section 2.3), and of resolutions, which see magnitudes of short-time spectra
(UnivNet, Jang et al., Interspeech 2021, section 2.3). Names and shapes of the weights are those of the bigvgan library,
whose own discriminators need torchaudio.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from vidaudio.errors import RecipeError

SLOPE = 0.1
MOST_SCALE = 4.0
# Scores of one discriminator `[B, N]`, and the output of each of its layers.
Judgement = tuple[Tensor, list[Tensor]]


@dataclass(frozen=True)
class DiscriminatorConfig:
    """Sizes of the discriminators; the defaults are BigVGAN's.

    Attributes:
        periods: Samples in a row, of each discriminator of periods.
        period_scale: Factor of the channels of those, 32 to 1,024.
        resolutions: Samples of the transform, of the hop and of the window, of each discriminator of resolutions.
        resolution_scale: Factor of the channels of those, 32.

    Raises:
        RecipeError: When there is no discriminator, or a size does not fit.
    """

    periods: tuple[int, ...] = (2, 3, 5, 7, 11)
    period_scale: float = 1.0
    resolutions: tuple[tuple[int, int, int], ...] = ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240))
    resolution_scale: float = 1.0

    def __post_init__(self) -> None:
        if not self.periods and not self.resolutions:
            raise RecipeError("there is no discriminator: give it periods, resolutions or both")
        if any(period < 1 for period in self.periods):
            raise RecipeError(f"the discriminator's periods are {list(self.periods)}: each must be 1 or more")
        for n_fft, hop, window in self.resolutions:
            if not 0 < hop <= window <= n_fft or (n_fft - hop) % 2:
                raise RecipeError(
                    f"the discriminator's resolution {[n_fft, hop, window]} is n_fft, hop and window: they must fall, "
                    "and n_fft - hop must be even"
                )
        for name, scale in (("period_scale", self.period_scale), ("resolution_scale", self.resolution_scale)):
            if not 1 / 32 <= scale <= MOST_SCALE:
                raise RecipeError(
                    f"the discriminator's {name} is {scale:g}: it must be between 1/32 and {MOST_SCALE:g}"
                )

    @property
    def least_samples(self) -> int:
        """Return the length of the shortest sound that all discriminators can see."""
        reflected = [(n_fft - hop) // 2 + 1 for n_fft, hop, _ in self.resolutions]
        return max(*reflected, *self.periods, 1)


class Discriminators(nn.Module):
    """All discriminators of a vocoder's training.

    Args:
        config: Sizes; None for the defaults.
    """

    def __init__(self, config: DiscriminatorConfig | None = None) -> None:
        super().__init__()
        self.config = config or DiscriminatorConfig()
        self.periods = nn.ModuleList(
            [PeriodDiscriminator(period, self.config.period_scale) for period in self.config.periods]
        )
        self.resolutions = nn.ModuleList(
            [ResolutionDiscriminator(each, self.config.resolution_scale) for each in self.config.resolutions]
        )

    def forward(self, audio: Tensor) -> list[Judgement]:
        """Return the judgement of each discriminator on sounds `[B, samples]`."""
        return [judge(audio[:, None]) for judge in (*self.periods, *self.resolutions)]


class PeriodDiscriminator(nn.Module):
    """Discriminator that sees rows of so many samples, so that each of its columns is every n-th sample.

    Args:
        period: Samples in a row.
        scale: Factor of the channels.
    """

    def __init__(self, period: int, scale: float = 1.0) -> None:
        super().__init__()
        self.period = period
        channels = [1, *(max(1, int(number * scale)) for number in (32, 128, 512, 1024, 1024))]
        strides = (3, 3, 3, 3, 1)
        self.convs = nn.ModuleList(
            [
                _convolution(channels[level], channels[level + 1], (5, 1), (strides[level], 1), (2, 0))
                for level in range(5)
            ]
        )
        self.conv_post = _convolution(channels[-1], 1, (3, 1), (1, 1), (1, 0))

    def forward(self, audio: Tensor) -> Judgement:
        """Return the judgement on sounds `[B, 1, samples]`."""
        padded = functional.pad(audio, (0, -audio.shape[-1] % self.period), "reflect")
        return _judgement(padded.unflatten(-1, (-1, self.period)), self.convs, self.conv_post)


class ResolutionDiscriminator(nn.Module):
    """Discriminator that sees the magnitudes of short-time spectra.

    Args:
        resolution: Samples of the transform, of the hop, and of the window, which is rectangular, as in BigVGAN.
        scale: Factor of the channels.
    """

    window: Tensor

    def __init__(self, resolution: tuple[int, int, int], scale: float = 1.0) -> None:
        super().__init__()
        self.n_fft, self.hop, length = resolution
        self.register_buffer("window", torch.ones(length), persistent=False)
        channels = max(1, int(32 * scale))
        self.convs = nn.ModuleList(
            [
                _convolution(1, channels, (3, 9), (1, 1), (1, 4)),
                *(_convolution(channels, channels, (3, 9), (1, 2), (1, 4)) for _ in range(3)),
                _convolution(channels, channels, (3, 3), (1, 1), (1, 1)),
            ]
        )
        self.conv_post = _convolution(channels, 1, (3, 3), (1, 1), (1, 1))

    def forward(self, audio: Tensor) -> Judgement:
        """Return the judgement on sounds `[B, 1, samples]`."""
        return _judgement(self.magnitudes(audio[:, 0])[:, None], self.convs, self.conv_post)

    def magnitudes(self, audio: Tensor) -> Tensor:
        """Return magnitudes, float32 `[B, bins, frames]`, of sounds `[B, samples]`, whatever the autocast."""
        around = (self.n_fft - self.hop) // 2
        with torch.autocast(audio.device.type, enabled=False):
            padded = functional.pad(audio.float()[:, None], (around, around), "reflect")[:, 0]
            spectrum = torch.stft(
                padded, self.n_fft, self.hop, self.window.numel(), self.window, center=False, return_complex=True
            )
            return torch.view_as_real(spectrum).norm(dim=-1)


def _convolution(
    inputs: int, outputs: int, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]
) -> nn.Module:
    return parametrizations.weight_norm(nn.Conv2d(inputs, outputs, kernel, stride, padding))


def _judgement(seen: Tensor, layers: Iterable[nn.Module], last: Callable[[Tensor], Tensor]) -> Judgement:
    outputs = []
    for layer in layers:
        seen = functional.leaky_relu(layer(seen), SLOPE)
        outputs.append(seen)
    scores = last(seen)
    return scores.flatten(1), [*outputs, scores]
