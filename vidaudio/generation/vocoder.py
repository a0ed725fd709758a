"""Vocoder: BigVGAN's generator (Lee et al., ICLR 2023) at any mel, which turns a mel into sound in one pass.

The network is the bigvgan library's. Its weights are normalised (Salimans and Kingma, 2016) by PyTorch's
parametrisation instead of the library's hooks, so that the network can be copied and averaged; weights published with
the hooks are read under their new names.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, remove_weight_norm

from vidaudio.errors import RecipeError
from vidaudio.generation.libraries import require
from vidaudio.generation.mel import MelConfig

# Far more than any published vocoder has; sizes also come with other people's weights.
MOST_CHANNELS, MOST_STAGES, MOST_BLOCKS = 4096, 8, 8
MOST_KERNEL = 1024
# Names of the two parts of a normalised weight in the library's files, and in this network.
_RENAMED = {"weight_g": "parametrizations.weight.original0", "weight_v": "parametrizations.weight.original1"}


@dataclass(frozen=True)
class VocoderConfig:
    """Sizes of the generator; the defaults are those of BigVGAN's base model, with rates for a hop of 512.

    Attributes:
        mel: Mel that is turned into sound.
        channels: Channels before the first stage; each stage halves them.
        rates: Factor by which each stage lengthens its input; their product is the mel's hop.
        kernels: Kernel of each stage's transposed convolution; None for twice the rate, as published.
        block_kernels: Kernels of the residual blocks that follow each stage, whose mean is taken.
        block_dilations: Dilations in each of those blocks.
        block_type: `1`: two convolutions a dilation, `2`: one.
        activation: Periodic activation.
        log_scale: Whether the activation's parameters are logarithms.
        final_tanh: Whether the sound ends in a hyperbolic tangent; otherwise it is clipped.
        final_bias: Whether the last convolution has a bias.

    Raises:
        RecipeError: When the sizes do not fit together.
    """

    mel: MelConfig = field(default_factory=MelConfig)
    channels: int = 512
    rates: tuple[int, ...] = (8, 4, 4, 2, 2)
    kernels: tuple[int, ...] | None = None
    block_kernels: tuple[int, ...] = (3, 7, 11)
    block_dilations: tuple[tuple[int, ...], ...] = ((1, 3, 5), (1, 3, 5), (1, 3, 5))
    block_type: Literal["1", "2"] = "1"
    activation: Literal["snakebeta", "snake"] = "snakebeta"
    log_scale: bool = True
    final_tanh: bool = True
    final_bias: bool = True

    def __post_init__(self) -> None:
        self._check_stages()
        if not 1 <= len(self.block_kernels) <= MOST_BLOCKS or len(self.block_dilations) != len(self.block_kernels):
            raise RecipeError(
                f"the generator has {len(self.block_kernels)} block_kernels and {len(self.block_dilations)} lists of "
                f"block_dilations: it must have one list a kernel, and 1 to {MOST_BLOCKS} kernels"
            )
        dilations = [dilation for each in self.block_dilations for dilation in each]
        if not all(0 < kernel <= MOST_KERNEL and kernel % 2 for kernel in self.block_kernels):
            raise RecipeError(f"the generator's block_kernels are {list(self.block_kernels)}: they must be odd")
        if not all(self.block_dilations) or not all(0 < dilation <= MOST_KERNEL for dilation in dilations):
            raise RecipeError(
                f"the generator's block_dilations are {[list(each) for each in self.block_dilations]}: every block "
                "must have one at least, each 1 or more"
            )

    def _check_stages(self) -> None:
        rates, kernels = self.rates, self.upsample_kernels
        if not 1 <= len(rates) <= MOST_STAGES or min(rates) < 1 or math.prod(rates) != self.mel.hop:
            raise RecipeError(
                f"the generator's rates are {list(rates)}, whose product is {math.prod(rates)}: it must be the mel's "
                f"hop, {self.mel.hop}, in 1 to {MOST_STAGES} stages"
            )
        fit = [
            rate <= kernel <= MOST_KERNEL and not (kernel - rate) % 2
            for kernel, rate in zip(kernels, rates, strict=False)
        ]
        if len(kernels) != len(rates) or not all(fit):
            raise RecipeError(
                f"the generator's kernels are {list(kernels)} with the rates {list(rates)}: it must have one a rate, "
                "none smaller than its rate, each larger by an even number"
            )
        if not 0 < self.channels <= MOST_CHANNELS or self.channels % 2 ** len(rates):
            raise RecipeError(
                f"the generator has {self.channels} channels: they must be a multiple of {2 ** len(rates)}, since each "
                f"of {len(rates)} stages halves them, and {MOST_CHANNELS} at most"
            )

    @property
    def upsample_kernels(self) -> tuple[int, ...]:
        """Return the kernels of the stages."""
        return tuple(2 * rate for rate in self.rates) if self.kernels is None else self.kernels

    def library_values(self) -> dict[str, Any]:
        """Return the sizes under the names that the library's configurations have."""
        return {
            "num_mels": self.mel.bands,
            "resblock": self.block_type,
            "upsample_initial_channel": self.channels,
            "upsample_rates": list(self.rates),
            "upsample_kernel_sizes": list(self.upsample_kernels),
            "resblock_kernel_sizes": list(self.block_kernels),
            "resblock_dilation_sizes": [list(each) for each in self.block_dilations],
            "activation": self.activation,
            "snake_logscale": self.log_scale,
            "use_tanh_at_final": self.final_tanh,
            "use_bias_at_final": self.final_bias,
        }


class Vocoder(nn.Module):
    """Generator of sound from mels.

    Args:
        config: Sizes; None for the defaults.

    Raises:
        UsageError: When bigvgan is not installed.
    """

    def __init__(self, config: VocoderConfig | None = None) -> None:
        super().__init__()
        self.config = config or VocoderConfig()
        bigvgan = require("bigvgan", extra="vocoder")
        environment = require("bigvgan.env", extra="vocoder")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*weight_norm. is deprecated")
            self.network = bigvgan.BigVGAN(environment.AttrDict(self.config.library_values()))
        for part in self.network.modules():
            if hasattr(part, "weight_g"):
                remove_weight_norm(part)
                parametrizations.weight_norm(part)

    def forward(self, log_mel: Tensor) -> Tensor:
        """Return sounds, float32 `[B, T * hop]` in [-1, 1], of mels `[B, bands, T]`, see `MelFrontEnd.log_mel`."""
        return self.network(log_mel)[:, 0].float()

    def fold(self) -> Vocoder:
        """Replace the normalised weights by plain ones, in place: faster, and the same sound; for a trained vocoder."""
        for part in self.network.modules():
            if parametrize.is_parametrized(part, "weight"):
                parametrize.remove_parametrizations(part, "weight")
        return self


def from_library_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights of the library's generator, with normalised or plain weights, under the names of a `Vocoder`'s."""
    found = {}
    for name, value in weights.items():
        *path, last = name.split(".")
        found[".".join(["network", *path, _RENAMED.get(last, last)])] = value
    return found


def are_folded(weights: Mapping[str, Tensor]) -> bool:
    """Return whether the weights of a `Vocoder` are plain ones, see `Vocoder.fold`."""
    return not any(name.endswith(tuple(_RENAMED.values())) for name in weights)
