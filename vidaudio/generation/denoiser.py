"""The network of a diffusion model: improved DDPM's U-Net over mels, conditioned on one vector.

The U-Net is diffusers' `UNet2DModel` in the form that computes the same as improved DDPM's (Nichol and Dhariwal, 2021;
their code): scale-and-shift normalisation, four attention heads, outputs of blocks that begin at 0. Below 128 channels
it normalises in fewer groups, see `groups`. The vector is projected to the width of the embedding of time and added to
it, as improved DDPM adds the embedding of a class.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor, nn

from vidaudio.errors import RecipeError
from vidaudio.generation.libraries import require

MOST_GROUPS, LEAST_GROUP = 32, 4


@dataclass(frozen=True)
class DenoiserConfig:
    """Sizes of the network; the defaults give 142.6 million numbers with a vector of 512 dimensions.

    Attributes:
        condition_dimensions: Dimensions of the vector; 0 for a network without a condition.
        outputs: Pictures that are predicted: 2 with a learned variance, otherwise 1.
        channels: Channels of the outermost level.
        multipliers: Channels of each level, as multiples of `channels`; each level halves bands and frames.
        blocks: Residual blocks of a level, on the way down; one more on the way up.
        attention: Levels with self-attention, by how often bands and frames are divided: 4 and 8.
        heads: Attention heads.
        dropout: Dropout in residual blocks.

    Raises:
        RecipeError: When the sizes do not fit together.
    """

    condition_dimensions: int = 512
    outputs: int = 2
    channels: int = 160
    multipliers: tuple[int, ...] = (1, 1, 2, 3, 4)
    blocks: int = 2
    attention: tuple[int, ...] = (4, 8)
    heads: int = 4
    dropout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("channels", "blocks", "heads"):
            if getattr(self, name) < 1:
                raise RecipeError(f"unet.{name} is {getattr(self, name)}: it must be at least 1")
        if not self.multipliers or min(self.multipliers) < 1:
            raise RecipeError(f"unet.multipliers is {list(self.multipliers)}: it needs a level, and numbers from 1 on")
        unknown = sorted(set(self.attention) - {2**level for level in range(self.levels)})
        if unknown:
            known = ", ".join(str(2**level) for level in range(self.levels))
            raise RecipeError(f"unet.attention names {unknown[0]}: with {self.levels} levels it is some of {known}")
        for channels in self.attention_widths:
            if channels % self.heads:
                raise RecipeError(f"unet.heads is {self.heads}: it does not divide a level's {channels} channels")

    @property
    def levels(self) -> int:
        """Return the number of levels."""
        return len(self.multipliers)

    @property
    def divisor(self) -> int:
        """Return what the numbers of bands and of frames must be multiples of."""
        return 2 ** (self.levels - 1)

    @property
    def attention_widths(self) -> list[int]:
        """Return the channels of all levels with attention; the innermost has one between its blocks in any case."""
        divisions = {*self.attention, self.divisor}
        return [self.channels * self.multipliers[division.bit_length() - 1] for division in sorted(divisions)]


class Denoiser(nn.Module):
    """U-Net that predicts the noise of a mel from the noisy mel, the time and a vector.

    Args:
        config: Sizes of the network; None for the defaults.

    Raises:
        UsageError: When diffusers is not installed.
    """

    projection: nn.Linear | None

    def __init__(self, config: DenoiserConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or DenoiserConfig()
        self.unet = build_unet(config)
        self.embedding_dimensions = 4 * config.channels
        self.projection = (
            nn.Linear(config.condition_dimensions, self.embedding_dimensions) if config.condition_dimensions else None
        )
        for name, module in self.unet.named_modules():
            if name == "conv_out" or name.endswith((".conv2", ".to_out.0")):
                for parameter in module.parameters():
                    nn.init.zeros_(parameter)

    def forward(
        self, noisy: Tensor, times: Tensor, condition: Tensor | None = None, has_condition: Tensor | None = None
    ) -> Tensor:
        """Return the prediction `[B, outputs, bands, frames]`.

        Args:
            noisy: Noisy mels, `[B, 1, bands, frames]`.
            times: Times between 0 and 1000, `[B]`.
            condition: Vectors of one fixed length, see `fixed_length`, `[B, D]`; None for none.
            has_condition: Examples whose vector is used, bool `[B]`; None for all. Nothing is added for the others.
        """
        added = noisy.new_zeros(len(noisy), self.embedding_dimensions)
        if self.projection is not None and condition is not None:
            added = self.projection(condition.to(self.projection.weight.dtype))
            if has_condition is not None:
                added = added * has_condition[:, None].to(added)
        return self.unet(noisy, times, class_labels=added, return_dict=False)[0]


def build_unet(config: DenoiserConfig) -> nn.Module:
    """Return a U-Net of diffusers with initial weights; from 128 channels on, it computes what improved DDPM's does."""
    diffusers = require("diffusers")
    divisions = [2**level for level in range(config.levels)]
    has_attention = [division in config.attention for division in divisions]
    unet = diffusers.UNet2DModel(
        in_channels=1,
        out_channels=config.outputs,
        block_out_channels=tuple(config.channels * multiplier for multiplier in config.multipliers),
        down_block_types=tuple("AttnDownBlock2D" if has else "DownBlock2D" for has in has_attention),
        up_block_types=tuple("AttnUpBlock2D" if has else "UpBlock2D" for has in reversed(has_attention)),
        layers_per_block=config.blocks,
        dropout=config.dropout,
        # It divides the channels of every level, without which diffusers leaves some of them out.
        attention_head_dim=math.gcd(*config.attention_widths) // config.heads,
        norm_num_groups=groups(config.channels),
        attn_norm_num_groups=groups(config.channels),
        resnet_time_scale_shift="scale_shift",
        class_embed_type="identity",
        freq_shift=0,
        flip_sin_to_cos=True,
    )
    set_heads(unet, config.heads)
    return unet


def groups(channels: int) -> int:
    """Return the number of groups of a normalisation: 32, and fewer below 128 channels, of 4 channels at least."""
    count = min(MOST_GROUPS, max(1, channels // LEAST_GROUP))
    while channels % count:
        count -= 1
    return count


def set_heads(unet: nn.Module, heads: int) -> None:
    """Give every attention of a U-Net so many heads; diffusers' configuration only knows a common size of heads."""
    for module in unet.modules():
        if type(module).__name__ == "Attention":
            attention = cast(Any, module)
            attention.heads = attention.sliceable_head_dim = heads
            attention.scale = (attention.inner_dim // heads) ** -0.5
