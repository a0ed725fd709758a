"""Networks of sound that others publish as a table of weights: what all of them take and give."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional


class Heard(NamedTuple):
    """Output of a network.

    Attributes:
        vectors: Vectors of each sound's windows of time, `[N, W, D]`.
        probabilities: Probabilities of its classes, `[N, C]`, each sound's scaled to sum to 1; None without classes.
    """

    vectors: Tensor
    probabilities: Tensor | None = None


class SoundNetwork(nn.Module, ABC):
    """A network from sounds, `[N, samples]` in [-1, 1], to `Heard`.

    Attributes:
        sample_rate: Sample rate that it takes, Hz.
        least_samples: Fewest samples that it takes; shorter sounds are filled up with silence.
        classes: Number of its classes.
    """

    sample_rate: int
    least_samples: int
    classes: int = 0

    def forward(self, sounds: Tensor) -> Heard:
        """Return the network's output."""
        return self.heard(functional.pad(sounds, (0, max(0, self.least_samples - sounds.shape[-1]))))

    @abstractmethod
    def heard(self, sounds: Tensor) -> Heard:
        """Return the network's output for sounds that are long enough."""


def kaldi_filters(n_fft: int, bands: int, lowest: float, highest: float, sample_rate: int) -> Tensor:
    """Return Kaldi's mel filters, triangles in HTK's mel scale and not in Hz, float32 `[n_fft // 2 + 1, bands]`."""
    from transformers.audio_utils import mel_filter_bank

    filters = mel_filter_bank(
        num_frequency_bins=n_fft // 2 + 1,
        num_mel_filters=bands,
        min_frequency=lowest,
        max_frequency=highest,
        sampling_rate=sample_rate,
        norm=None,
        mel_scale="kaldi",
        triangularize_in_mel_space=True,
    )
    return torch.from_numpy(filters).float()
