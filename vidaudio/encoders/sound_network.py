"""Networks of sound that others publish as a table of weights: what all of them take and give."""

from __future__ import annotations

from typing import NamedTuple

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


class SoundNetwork(nn.Module):
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

    def heard(self, sounds: Tensor) -> Heard:
        """Return the network's output for sounds that are long enough."""
        raise NotImplementedError
