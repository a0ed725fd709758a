"""Improved DDPM's U-Net written out from its definition, on the weights of one of ours: slow, and plain to read."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import conv2d, group_norm, interpolate, linear, silu

from vidaudio.generation.denoiser import Denoiser, groups


class SlowUNet:
    """U-Net of Nichol and Dhariwal (2021), without `torch.nn` modules.

    Args:
        denoiser: Denoiser whose weights are used.
    """

    def __init__(self, denoiser: Denoiser) -> None:
        self.config = denoiser.config
        self.weights = {name: value.double() for name, value in denoiser.state_dict().items()}
        self.groups = groups(self.config.channels)

    def __call__(self, noisy: Tensor, times: Tensor, condition: Tensor | None) -> Tensor:
        width = self.config.channels
        rates = torch.exp(-math.log(10_000) * torch.arange(width // 2, dtype=torch.float64) / (width // 2))
        angles = times.double()[:, None] * rates
        embedding = torch.cat([angles.cos(), angles.sin()], dim=1)
        embedding = self.dense(
            "unet.time_embedding.linear_2", silu(self.dense("unet.time_embedding.linear_1", embedding))
        )
        if condition is not None:
            embedding = embedding + self.dense("projection", condition.double())
        hidden = self.conv("unet.conv_in", noisy.double())
        kept = [hidden]
        levels, blocks = self.config.levels, self.config.blocks
        for level in range(levels):
            name = f"unet.down_blocks.{level}"
            for block in range(blocks):
                hidden = self.residual(f"{name}.resnets.{block}", hidden, embedding)
                if 2**level in self.config.attention:
                    hidden = self.attention(f"{name}.attentions.{block}", hidden)
                kept.append(hidden)
            if level < levels - 1:
                hidden = self.conv(f"{name}.downsamplers.0.conv", hidden, stride=2)
                kept.append(hidden)
        hidden = self.residual("unet.mid_block.resnets.0", hidden, embedding)
        hidden = self.attention("unet.mid_block.attentions.0", hidden)
        hidden = self.residual("unet.mid_block.resnets.1", hidden, embedding)
        for place, level in enumerate(reversed(range(levels))):
            name = f"unet.up_blocks.{place}"
            for block in range(blocks + 1):
                hidden = torch.cat([hidden, kept.pop()], dim=1)
                hidden = self.residual(f"{name}.resnets.{block}", hidden, embedding)
                if 2**level in self.config.attention:
                    hidden = self.attention(f"{name}.attentions.{block}", hidden)
            if level:
                hidden = self.conv(f"{name}.upsamplers.0.conv", interpolate(hidden, scale_factor=2.0, mode="nearest"))
        assert not kept
        return self.conv("unet.conv_out", silu(self.norm("unet.conv_norm_out", hidden)))

    def residual(self, name: str, hidden: Tensor, embedding: Tensor) -> Tensor:
        inner = self.conv(f"{name}.conv1", silu(self.norm(f"{name}.norm1", hidden)))
        scale, shift = self.dense(f"{name}.time_emb_proj", silu(embedding))[:, :, None, None].chunk(2, dim=1)
        inner = self.norm(f"{name}.norm2", inner) * (1 + scale) + shift
        inner = self.conv(f"{name}.conv2", silu(inner))
        if f"{name}.conv_shortcut.weight" in self.weights:
            hidden = self.conv(f"{name}.conv_shortcut", hidden, padding=0)
        return hidden + inner

    def attention(self, name: str, hidden: Tensor) -> Tensor:
        batch, channels, height, width = hidden.shape
        flat = self.norm(f"{name}.group_norm", hidden).flatten(2).transpose(1, 2)
        out = torch.empty_like(flat)
        size = channels // self.config.heads
        queries, keys, values = (self.dense(f"{name}.to_{part}", flat) for part in "qkv")
        for head in range(self.config.heads):
            own = slice(head * size, (head + 1) * size)
            weights = (queries[..., own] @ keys[..., own].transpose(1, 2) / math.sqrt(size)).softmax(dim=-1)
            out[..., own] = weights @ values[..., own]
        out = self.dense(f"{name}.to_out.0", out).transpose(1, 2).reshape(batch, channels, height, width)
        return hidden + out

    def conv(self, name: str, x: Tensor, *, stride: int = 1, padding: int = 1) -> Tensor:
        return conv2d(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"], stride, padding)

    def dense(self, name: str, x: Tensor) -> Tensor:
        return linear(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def norm(self, name: str, x: Tensor) -> Tensor:
        return group_norm(x, self.groups, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"], 1e-5)
