"""Audio U-Net: from one log-magnitude spectrogram to k feature maps of the same size.

The pix2pix-style network of Sound-of-Pixels (Zhao et al. 2018) as CLIPSep uses it: 7 levels, 30,274,210 parameters at
its default sizes for k = 32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidaudio.errors import RecipeError

LEAK = 0.2
InitialWeights = Literal["clipsep", "kaiming"]


@dataclass(frozen=True, slots=True)
class UNetConfig:
    """Sizes of the U-Net.

    Args:
        levels: Number of halvings of both sides of the spectrogram; both sides must be multiples of 2**levels.
        width: Channels of the first level.
        max_multiplier: Limit of the channels, in widths: channels double per level up to width * max_multiplier.

    Raises:
        RecipeError: When there are fewer than 2 levels, or a width or multiplier is below 1.
    """

    levels: int = 7
    width: int = 64
    max_multiplier: int = 8

    def __post_init__(self) -> None:
        if self.levels < 2:
            raise RecipeError(f"unet.levels is {self.levels}: it must be at least 2.")
        for name in ("width", "max_multiplier"):
            if getattr(self, name) < 1:
                raise RecipeError(f"unet.{name} is {getattr(self, name)}: it must be at least 1.")

    @property
    def channels(self) -> tuple[int, ...]:
        """Return each encoder level's output channels: (64, 128, 256, 512, 512, 512, 512) by default."""
        return tuple(self.width * min(2**level, self.max_multiplier) for level in range(self.levels))


class DownBlock(nn.Module):
    """Conv 4x4 stride 2 without bias, then BatchNorm: halves both sides. `AudioUNet` activates its input.

    Args:
        inputs: Input channels.
        outputs: Output channels.
        norm: Whether there is a BatchNorm.
    """

    def __init__(self, inputs: int, outputs: int, *, norm: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel_size=4, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(outputs) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return the halved maps: [B, inputs, H, W] -> [B, outputs, H / 2, W / 2]."""
        return self.norm(self.conv(x))


class UpBlock(nn.Module):
    """ReLU, bilinear x2 (corners aligned), conv 3x3, BatchNorm; the outermost block has a bias instead of the norm.

    Args:
        inputs: Input channels.
        outputs: Output channels.
        norm: Whether there is a BatchNorm; if not, the convolution has a bias.
    """

    def __init__(self, inputs: int, outputs: int, *, norm: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel_size=3, padding=1, bias=not norm)
        self.norm = nn.BatchNorm2d(outputs) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return the doubled maps: [B, inputs, H, W] -> [B, outputs, 2 H, 2 W]."""
        x = F.interpolate(F.relu(x), scale_factor=2, mode="bilinear", align_corners=True)
        return self.norm(self.conv(x))


class AudioUNet(nn.Module):
    """U-Net from [B, in_channels, H, W] to [B, out_channels, H, W]; H and W are multiples of 2**levels.

    The input passes through a BatchNorm first, which brings log magnitudes to unit scale (and is in the parameter
    count).

    A skip connection carries the *activated* (LeakyReLU) input of the deeper level. In the original, an in-place
    activation changes that input as a side effect; here the activation is explicit. (The ReLU of the level above makes
    the two the same.)

    Args:
        config: Sizes of the U-Net; None for the defaults.
        in_channels: Input channels.
        out_channels: Feature maps of the output.
        initial_weights: See `initialise`.
    """

    def __init__(
        self,
        config: UNetConfig | None = None,
        *,
        in_channels: int = 1,
        out_channels: int = 32,
        initial_weights: InitialWeights = "clipsep",
    ) -> None:
        super().__init__()
        self.config = config = config or UNetConfig()
        channels, last = config.channels, config.levels - 1
        self.input_norm = nn.BatchNorm2d(in_channels)
        self.down = nn.ModuleList(
            DownBlock(in_channels if level == 0 else channels[level - 1], channels[level], norm=0 < level < last)
            for level in range(config.levels)
        )
        self.up = nn.ModuleList(
            UpBlock(
                channels[level] * (1 if level == last else 2),
                out_channels if level == 0 else channels[level - 1],
                norm=level > 0,
            )
            for level in range(config.levels)
        )
        initialise(self, initial_weights)

    def forward(self, picture: Tensor) -> Tensor:
        """Return feature maps: [B, in_channels, H, W] -> [B, out_channels, H, W], without a final activation.

        Raises:
            ValueError: When a side is not a multiple of 2**levels.
        """
        multiple = 2**self.config.levels
        if picture.shape[-2] % multiple or picture.shape[-1] % multiple:
            raise ValueError(
                f"The picture is {picture.shape[-2]} x {picture.shape[-1]}; a U-Net of {self.config.levels} levels "
                f"needs multiples of {multiple}."
            )
        skips: list[Tensor] = []
        x = self.down[0](self.input_norm(picture))
        for block in self.down[1:]:
            skips.append(F.leaky_relu(x, LEAK))
            x = block(skips[-1])
        x = self.up[-1](x)
        for block, skip in zip(reversed(self.up[:-1]), reversed(skips), strict=True):
            x = block(torch.cat([skip, x], dim=1))
        return x


def initialise(module: nn.Module, kind: InitialWeights = "clipsep") -> None:
    """Set initial weights; biases of conv and linear layers keep PyTorch's own initial values.

    Args:
        module: The module, changed in place.
        kind: `clipsep`, as in its code: conv N(0, 0.001), BatchNorm N(1, 0.02) with bias 0, linear N(0, 0.0001), where
            the second number is the standard deviation. At the start all masks are 0.5, whatever is asked for.
            `kaiming`: conv as in He et al. (2015), for LeakyReLU(0.2), BatchNorm as PyTorch has it, linear N(0, 0.5),
            which suits queries of unit length. Masks then differ with the query from the first step on.
    """
    if kind == "kaiming":
        for part in module.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, a=LEAK)
            elif isinstance(part, nn.Linear):
                nn.init.normal_(part.weight, 0.0, 0.5)
        return
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.normal_(part.weight, 0.0, 0.001)
        elif isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.weight, 1.0, 0.02)
            nn.init.zeros_(part.bias)
        elif isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, 0.0, 0.0001)
