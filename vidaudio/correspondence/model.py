"""The scorer's model: an encoder of sound that is trained to meet the frozen vectors of the pictures it is heard with.

Design and loss follow Wav2CLIP (Wu et al., ICASSP 2022, arXiv:2110.11499): the picture encoder stays frozen, and a
symmetric cross entropy over the batch (InfoNCE) pulls each sound to its own pictures. Two things differ. The sound
encoder is a small convolutional network on log-mel bands, since it is trained on one corpus in minutes; and the frozen
vectors pass through a linear layer, since the corpus's own contrast lies in few of their directions.
"""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

SAMPLE_RATE = 16_000
LOG_FLOOR = 1e-5


@dataclass(frozen=True)
class ScorerConfig:
    """Sizes of the model.

    Attributes:
        picture_dimensions: Dimensions of the frozen vectors of pictures.
        dimensions: Of the joint space.
        bands: Mel bands of the front end, from 50 to 7,800 Hz.
        window_size, hop_size: Of the front end, samples at 16 kHz.
        width: Channels of the stem; every block doubles them.
        blocks: Number of blocks; each halves time and bands, and the stem divides them by four.
    """

    picture_dimensions: int
    dimensions: int = 128
    bands: int = 64
    window_size: int = 512
    hop_size: int = 320
    width: int = 16
    blocks: int = 3

    def as_dict(self) -> dict[str, Any]:
        """Return the sizes by name."""
        return asdict(self)


class LogMel(nn.Module):
    """Log-mel bands of sound at 16 kHz: `[B, samples]` to `[B, bands, times]`, about zero mean and unit spread."""

    filters: Tensor
    window: Tensor

    def __init__(self, bands: int, window_size: int, hop_size: int):
        super().__init__()
        self.window_size, self.hop_size = window_size, hop_size
        self.register_buffer("window", torch.hann_window(window_size), persistent=False)
        self.register_buffer("filters", mel_filters(bands, window_size), persistent=False)

    def forward(self, sound: Tensor) -> Tensor:
        """Return the bands of sounds `[B, samples]`, full scale 1."""
        spectrum = torch.stft(
            sound, self.window_size, self.hop_size, window=self.window, center=True, return_complex=True
        )
        power = spectrum.real.square() + spectrum.imag.square()
        # Mean and spread of a sound at an ordinary level; a level of its own stays: loud and faint things look alike.
        return (torch.log(self.filters @ power + LOG_FLOOR) + 4.0) / 4.0


def mel_filters(bands: int, window_size: int, low: float = 50.0, high: float = 7800.0) -> Tensor:
    """Return triangular filters on the mel scale (2595 log10(1 + f / 700)), `[bands, bins]`, at 16 kHz."""

    def mel(hertz: Tensor) -> Tensor:
        return 2595 * torch.log10(1 + hertz / 700)

    lowest, highest = (float(mel(torch.tensor(hertz))) for hertz in (low, high))
    edges = torch.linspace(lowest, highest, bands + 2)
    bins = mel(torch.linspace(0, SAMPLE_RATE / 2, window_size // 2 + 1))
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    return torch.minimum(rising, falling).clamp(min=0)


class Block(nn.Module):
    """Convolution, normalisation, ReLU; then time and bands are halved."""

    def __init__(self, before: int, after: int, kernel: int = 3, stride: int = 1):
        super().__init__()
        self.convolution = nn.Conv2d(before, after, kernel, stride, padding=kernel // 2, bias=False)
        self.normalisation = nn.BatchNorm2d(after)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B, C, bands, times]` to `[B, C', bands / (2 stride), times / (2 stride)]`."""
        return functional.avg_pool2d(functional.relu(self.normalisation(self.convolution(x))), 2)


class CorrespondenceModel(nn.Module):
    """Sound and pictures in one space, where those of a clip are close.

    Args:
        config: Sizes.
    """

    def __init__(self, config: ScorerConfig):
        super().__init__()
        self.config = config
        self.front_end = LogMel(config.bands, config.window_size, config.hop_size)
        channels = [config.width * 2**number for number in range(config.blocks + 1)]
        stem = Block(1, config.width, kernel=5, stride=2)
        self.blocks = nn.Sequential(stem, *(Block(a, b) for a, b in itertools.pairwise(channels)))
        pooled = channels[-1] * (config.bands // 2 ** (config.blocks + 2))
        self.sound_head = nn.Sequential(nn.Linear(2 * pooled, 256), nn.ReLU(), nn.Linear(256, config.dimensions))
        self.picture_head = nn.Linear(config.picture_dimensions, config.dimensions)
        # As CLIP begins: a temperature of 0.07.
        self.log_scale = nn.Parameter(torch.tensor(1 / 0.07).log())

    def encode_bands(self, bands: Tensor) -> Tensor:
        """Return the unit vectors `[B, dimensions]` of log-mel bands `[B, bands, times]`."""
        maps = self.blocks(bands[:, None]).flatten(1, 2)
        return functional.normalize(self.sound_head(torch.cat([maps.mean(-1), maps.amax(-1)], dim=1)), dim=1)

    def encode_sound(self, sound: Tensor) -> Tensor:
        """Return the unit vectors `[B, dimensions]` of sounds `[B, samples]` at 16 kHz, full scale 1."""
        return self.encode_bands(self.front_end(sound))

    def encode_pictures(self, pictures: Tensor) -> Tensor:
        """Return the unit vectors `[B, dimensions]` of unit vectors of pictures `[B, picture_dimensions]`."""
        return functional.normalize(self.picture_head(pictures * self.config.picture_dimensions**0.5), dim=1)


def contrastive_loss(sounds: Tensor, pictures: Tensor, log_scale: Tensor, sources: Tensor) -> Tensor:
    """Return the symmetric cross entropy of each sound with its own pictures among the batch's (InfoNCE), a scalar.

    Args:
        sounds: Unit vectors of sounds `[B, D]`.
        pictures: Unit vectors of the pictures they are heard with `[B, D]`.
        log_scale: Logarithm of the inverse temperature; at most that of 100 is used, as in CLIP.
        sources: Number of each clip's source, int64 `[B]`: another clip of a source is no negative.
    """
    logits = sounds @ pictures.T * log_scale.clamp(max=torch.tensor(100.0).log()).exp()
    same = sources[:, None] == sources[None, :]
    same.fill_diagonal_(False)
    logits = logits.masked_fill(same, -torch.inf)
    own = torch.arange(len(logits), device=logits.device)
    return (functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)) / 2
