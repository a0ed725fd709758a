"""Flow matching: a straight path from noise to mel, and the velocity along it (Lipman et al., ICLR 2023).

The mel at time t is (1 - t) mel + t noise, and the network predicts noise - mel, which is the same all along the path
(rectified flow; Liu et al., ICLR 2023). It is the modern alternative to `Diffusion`, with the same interface.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from vidaudio.generation.diffusion import TIME_SCALE, Network


@dataclass(frozen=True)
class FlowConfig:
    """Settings of flow matching.

    Attributes:
        times: How times are drawn in training: uniformly, or as the logistic function of a standard normal, which
            favours the middle of the path (Esser et al., ICML 2024).
    """

    times: Literal["uniform", "logit_normal"] = "uniform"


class Flow(nn.Module):
    """Straight paths between noise and mels.

    Args:
        config: Settings; None for the defaults.
    """

    def __init__(self, config: FlowConfig | None = None) -> None:
        super().__init__()
        self.config = config or FlowConfig()

    def times_of(self, draws: Tensor) -> Tensor:
        """Return times in [0, 1] of numbers that were drawn uniformly from [0, 1)."""
        if self.config.times == "uniform":
            return draws
        return torch.special.ndtri(draws.clamp(1e-6, 1 - 1e-6)).sigmoid()

    def noisy(self, mel: Tensor, times: Tensor, noise: Tensor) -> Tensor:
        """Return the mels at some times, `[B, ...]`, times `[B]`."""
        share = times.to(mel.dtype).reshape(-1, *[1] * (mel.ndim - 1))
        return (1 - share) * mel + share * noise

    def losses(
        self, network: Network, mel: Tensor, condition: Tensor | None, draws: Tensor, noise: Tensor
    ) -> dict[str, Tensor]:
        """Return the training loss of each example, `[B]`: the mean squared error of the velocity.

        Args:
            network: Network to train.
            mel: Mels in [-1, 1], `[B, 1, bands, frames]`.
            condition: Conditions of the network.
            draws: Numbers drawn uniformly from [0, 1), `[B]`.
            noise: Standard normal, of the mels' shape.
        """
        times = self.times_of(draws).to(mel.dtype)
        velocity = network(self.noisy(mel, times, noise), times * TIME_SCALE, condition)
        error = (velocity.to(mel.dtype) - (noise - mel)).square().flatten(1).mean(1)
        return {"loss": error, "error": error}
