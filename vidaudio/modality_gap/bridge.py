"""The unpaired diffusion bridge (Lee et al., CVPR 2025): a text is taken for a picture's vector full of noise.

A diffusion model learns vectors of pictures alone. Asked with a text, it starts in the middle of its denoising, from
the text's vector instead of noise, and ends at a vector such as a picture has. No text is used in training.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidaudio.cpus import one_thread
from vidaudio.errors import GapError
from vidaudio.modality_gap.base import GapData, GapMethod, require

STEPS = 1000
# Length of the vectors that are diffused: unit vectors would drown in unit noise.
LENGTH = 5.0
ENTRY = 600
SAMPLING_STEPS = 5
BATCH = 64
EMA_DECAY = 0.995
FIRST_BETA, LAST_BETA = 1e-4, 0.02
TIME_FEATURES = 64
BLOCKS = 3


class Bridge(GapMethod):
    """Unpaired diffusion bridge: a denoiser of pictures' vectors, entered with texts at step `entry` of `STEPS`."""

    name = "bridge"
    needs = frozenset({"images", "texts"})

    @classmethod
    def fit(
        cls,
        data: GapData,
        *,
        seed: int = 0,
        steps: int = 4000,
        learning_rate: float = 8e-5,
        width: int = 512,
        entry: int = ENTRY,
        **options: Any,
    ) -> Self:
        """Train the denoiser on the pictures; of the texts only the mean is used.

        Args:
            data: Vectors of pictures and texts.
            seed: Seed of initial weights, batches and noise.
            steps: Optimiser steps, of `BATCH` vectors each.
            learning_rate: Adam's.
            width: Width of the denoiser's blocks.
            entry: Step at which a text enters, 1 to `STEPS - 1`.
            options: There are no others.
        """
        require(data, cls)
        generator = torch.Generator().manual_seed(seed)
        unit = F.normalize(data.images, dim=-1)
        image_mean, text_mean = unit.mean(dim=0), F.normalize(data.texts, dim=-1).mean(dim=0)
        deviation = (unit - image_mean).norm(dim=-1).mean()
        points = LENGTH * F.normalize(unit - image_mean, dim=-1)
        denoiser = Denoiser(points.shape[1], width, generator)
        with one_thread():
            weights = train_denoiser(denoiser, points, steps, learning_rate, generator)
        tensors = {f"denoiser.{name}": tensor for name, tensor in weights.items()}
        tensors |= {"image_mean": image_mean, "text_mean": text_mean, "deviation": deviation}
        tensors["norm"] = data.images.norm(dim=-1).mean()
        settings = {"steps": steps, "learning_rate": learning_rate, "width": width, "entry": entry}
        return cls(tensors, data.encoder, points.shape[1], settings)

    @torch.no_grad()
    def map_texts(self, texts: Tensor) -> Tensor:
        """Return the pictures' vectors at which the denoising of the texts ends."""
        denoiser = Denoiser(self.dimensions, self.options["width"]).to(texts.device)
        prefix = "denoiser."
        weights = {name.removeprefix(prefix): t for name, t in self.tensors.items() if name.startswith(prefix)}
        denoiser.load_state_dict(weights)
        means = {name: self.tensors[name].to(texts) for name in ("image_mean", "text_mean", "deviation", "norm")}
        start = LENGTH * F.normalize(F.normalize(texts.float(), dim=-1) - means["text_mean"], dim=-1)
        end = ddim(denoiser, start, self.options["entry"])
        unit = F.normalize(end, dim=-1) * means["deviation"] + means["image_mean"]
        return F.normalize(unit, dim=-1) * means["norm"]


class Denoiser(nn.Module):
    """Network that tells the vector without noise from one with noise, and the step.

    Args:
        dimensions: Dimensions of the vectors.
        width: Width of the hidden layers.
        generator: Source of the initial weights.
    """

    def __init__(self, dimensions: int, width: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.time = nn.Linear(TIME_FEATURES, width)
        self.enter = nn.Linear(dimensions, width)
        self.blocks = nn.ModuleList(
            nn.ModuleDict({"norm": nn.LayerNorm(width), "up": nn.Linear(width, width), "down": nn.Linear(width, width)})
            for _ in range(BLOCKS)
        )
        self.leave = nn.Linear(width, dimensions)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=module.in_features**-0.5, generator=generator)
                nn.init.zeros_(module.bias)

    def forward(self, noisy: Tensor, step: Tensor) -> Tensor:
        """Return the estimated vectors, `[B, D]`.

        Args:
            noisy: Vectors with noise, `[B, D]`.
            step: Step of each, int64 `[B]`.
        """
        frequencies = torch.exp(
            torch.arange(TIME_FEATURES // 2, device=step.device) * (-math.log(10_000) / (TIME_FEATURES // 2))
        )
        angles = step[:, None] * frequencies
        time = self.time(torch.cat([angles.sin(), angles.cos()], dim=-1))
        hidden = self.enter(noisy)
        for block in self.blocks:
            assert isinstance(block, nn.ModuleDict)
            hidden = hidden + block["down"](F.silu(block["up"](block["norm"](hidden + time))))
        return self.leave(hidden)


def signal_shares() -> Tensor:
    """Return the share of the signal's variance at each step, `alpha_bar` of Ho et al. (2020), float32 `[STEPS]`."""
    betas = torch.linspace(FIRST_BETA, LAST_BETA, STEPS, dtype=torch.float64)
    return (1 - betas).cumprod(dim=0).float()


def train_denoiser(
    denoiser: Denoiser, points: Tensor, steps: int, learning_rate: float, generator: torch.Generator
) -> dict[str, Tensor]:
    """Train on noised points by squared error of the point itself; return the average of the weights."""
    optimiser = torch.optim.Adam(denoiser.parameters(), lr=learning_rate)
    average = {name: tensor.clone() for name, tensor in denoiser.state_dict().items()}
    shares = signal_shares()
    for number in range(steps):
        clean = points[torch.randint(len(points), (BATCH,), generator=generator)]
        step = torch.randint(STEPS, (BATCH,), generator=generator)
        share = shares[step][:, None]
        noisy = share.sqrt() * clean + (1 - share).sqrt() * torch.randn(clean.shape, generator=generator)
        loss = (denoiser(noisy, step) - clean).square().mean()
        if not torch.isfinite(loss):
            raise GapError("the bridge's loss is no number; use a lower learning rate")
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        # The first steps count less in the average, so that it does not keep the initial weights.
        decay = min(EMA_DECAY, (1 + number) / (10 + number))
        for name, tensor in denoiser.state_dict().items():
            average[name].lerp_(tensor, 1 - decay)
    return average


def ddim(
    denoiser: Callable[[Tensor, Tensor], Tensor], start: Tensor, entry: int, count: int = SAMPLING_STEPS
) -> Tensor:
    """Denoise vectors from step `entry` to the end in `count` deterministic steps (DDIM, Song et al. 2021).

    Args:
        denoiser: Function of noisy vectors `[B, D]` and steps `[B]` to estimated vectors.
        start: Vectors at step `entry`.
        entry: First step.
        count: Number of steps.
    """
    shares = signal_shares().to(start)
    steps = torch.linspace(entry, 0, count + 1, device=start.device).round().long()
    noisy = start
    for now, after in itertools.pairwise(steps):
        clean = denoiser(noisy, now.expand(len(noisy)))
        noise = (noisy - shares[now].sqrt() * clean) / (1 - shares[now]).sqrt()
        noisy = clean if after == 0 else shares[after].sqrt() * clean + (1 - shares[after]).sqrt() * noise
    return noisy
