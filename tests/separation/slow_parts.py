"""What comes before the losses, written out a second time: samples, spectra, warp, U-Net, ResNet, from weights by name.

Double precision, NumPy and PyTorch's elementary functions, nothing of the package. Weights are state dictionaries.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Weights = dict[str, Tensor]


def mixed(samples: np.ndarray, gains: np.ndarray) -> np.ndarray:
    """Sources of one mixture, int16 [N, L] and [N] -> [N, L]: gain, clipped to [-1, 1], divided by N."""
    sources = [np.clip(each / 32768.0 * gain, -1, 1) / len(samples) for each, gain in zip(samples, gains, strict=True)]
    return np.stack(sources)


def direct_stft(audio: np.ndarray, n_fft: int, hop: int) -> np.ndarray:
    """X[k, t] = sum_n hann[n] x[t hop + n - n_fft / 2] exp(-2 pi i k n / n_fft), zeros outside x."""
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    padded = np.pad(audio, n_fft // 2)
    basis = np.exp(-2j * np.pi * np.outer(np.arange(n_fft // 2 + 1), np.arange(n_fft)) / n_fft)
    frames = [padded[t * hop : t * hop + n_fft] * hann for t in range(1 + len(audio) // hop)]
    return basis @ np.stack(frames, axis=1)


def warped(magnitude: np.ndarray, rows: int) -> np.ndarray:
    """[bins, T] -> [rows, T]: row y in [-1, 1] is what stands at g(y) = (21^((y + 1) / 2) - 11) / 10, interpolated."""
    bins = len(magnitude)
    picture = []
    for row in range(rows):
        y = -1 + 2 * row / (rows - 1)
        place = ((21 ** ((y + 1) / 2) - 11) / 10 + 1) / 2 * (bins - 1)
        below = min(int(place), bins - 2)
        picture.append(magnitude[below] * (below + 1 - place) + magnitude[below + 1] * (place - below))
    return np.stack(picture)


def norm(weights: Weights, name: str, x: Tensor) -> Tensor:
    """BatchNorm by its running statistics."""
    mean, variance, scale, shift = (
        weights[f"{name}.{part}"].double()[:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / (variance + 1e-5).sqrt() * scale + shift


def unet(weights: Weights, picture: Tensor, levels: int) -> Tensor:
    """[1, 1, H, W] -> [1, k, H, W]: level inside level, each handing up its activated input beside its output."""

    def down(level: int, x: Tensor) -> Tensor:
        x = F.conv2d(x, weights[f"down.{level}.conv.weight"].double(), stride=2, padding=1)
        return norm(weights, f"down.{level}.norm", x) if 0 < level < levels - 1 else x

    def up(level: int, x: Tensor) -> Tensor:
        x = F.interpolate(x.clamp_min(0), scale_factor=2, mode="bilinear", align_corners=True)
        bias = weights[f"up.{level}.conv.bias"].double() if level == 0 else None
        x = F.conv2d(x, weights[f"up.{level}.conv.weight"].double(), bias, padding=1)
        return norm(weights, f"up.{level}.norm", x) if level > 0 else x

    def inner(level: int, x: Tensor) -> Tensor:
        active = torch.where(x > 0, x, 0.2 * x)
        deeper = down(level, active)
        if level < levels - 1:
            deeper = inner(level + 1, deeper)
        return torch.cat([active, up(level, deeper)], dim=1)

    return up(0, inner(1, down(0, norm(weights, "input_norm", picture))))


def resnet_maps(weights: Weights, pixels: Tensor) -> Tensor:
    """ResNet-18 without its classifier, [P, 3, H, W] -> [P, 512, H / 16, W / 16]; layer4 is dilated, not strided."""

    def convolved(name: str, x: Tensor, stride: int, padding: int, dilation: int = 1) -> Tensor:
        return F.conv2d(x, weights[f"{name}.weight"].double(), None, stride, padding, dilation)

    def block(name: str, x: Tensor, stride: int, first_dilation: int, dilation: int) -> Tensor:
        y = convolved(f"{name}.conv1", x, stride, first_dilation, first_dilation)
        y = norm(weights, f"{name}.bn1", y).clamp_min(0)
        y = norm(weights, f"{name}.bn2", convolved(f"{name}.conv2", y, 1, dilation, dilation))
        if f"{name}.downsample.0.weight" in weights:
            x = norm(weights, f"{name}.downsample.1", convolved(f"{name}.downsample.0", x, stride, 0))
        return (x + y).clamp_min(0)

    x = norm(weights, "bn1", convolved("conv1", pixels, 2, 3)).clamp_min(0)
    x = F.max_pool2d(x, 3, stride=2, padding=1)
    for layer in (1, 2, 3):
        x = block(f"layer{layer}.0", x, 1 if layer == 1 else 2, 1, 1)
        x = block(f"layer{layer}.1", x, 1, 1, 1)
    # The convolution that would halve keeps its reach; those behind it reach twice as far.
    return block("layer4.1", block("layer4.0", x, 1, 1, 2), 1, 2, 2)


def normalised(pictures: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """uint8 [P, 3, H, W] -> float."""
    mean_, std_ = (torch.tensor(values, dtype=torch.float64)[:, None, None] for values in (mean, std))
    return (pictures.double() / 255 - mean_) / std_
