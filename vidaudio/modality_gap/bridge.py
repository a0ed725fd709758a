"""The unpaired diffusion bridge (Lee et al., CVPR 2025): a text is taken for a picture's vector full of noise.

A diffusion model learns vectors of pictures alone. Asked with a text, it starts in the middle of its denoising, from
the text's vector instead of noise, and ends at a vector such as a picture has. No text is used in training.
"""

from __future__ import annotations

from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidaudio.cpus import one_thread
from vidaudio.modality_gap.base import GapData, GapMethod, require
from vidaudio.modality_gap.vector_diffusion import (
    STEPS,
    TIME_FEATURES,
    ddim,
    initialise,
    load_weights,
    noised,
    time_features,
    train_average,
    weights_as_tensors,
)
from vidaudio.noise_schedules import linear_betas, signal_shares

# Length of the vectors that are diffused: unit vectors would drown in unit noise.
LENGTH = 5.0
ENTRY = 600
SAMPLING_STEPS = 5
BATCH = 64
SHARES = signal_shares(linear_betas(STEPS, 1e-4, 0.02))
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

        def loss_of_batch() -> Tensor:
            clean = points[torch.randint(len(points), (BATCH,), generator=generator)]
            return (denoiser(*noised(clean, SHARES, generator)) - clean).square().mean()

        with one_thread():
            optimiser = torch.optim.Adam(denoiser.parameters(), lr=learning_rate)
            weights = train_average(denoiser, optimiser, loss_of_batch, steps, name=cls.name)
        tensors = weights_as_tensors(weights) | {
            "image_mean": image_mean,
            "text_mean": text_mean,
            "deviation": deviation,
        }
        tensors["norm"] = data.images.norm(dim=-1).mean()
        settings = {"steps": steps, "learning_rate": learning_rate, "width": width, "entry": entry}
        return cls(tensors, data.encoder, points.shape[1], settings)

    @torch.no_grad()
    def map_texts(self, texts: Tensor) -> Tensor:
        """Return the pictures' vectors at which the denoising of the texts ends."""
        denoiser = Denoiser(self.dimensions, self.options["width"]).to(texts.device)
        load_weights(denoiser, self.tensors)
        means = {name: self.tensors[name].to(texts) for name in ("image_mean", "text_mean", "deviation", "norm")}
        start = LENGTH * F.normalize(F.normalize(texts.float(), dim=-1) - means["text_mean"], dim=-1)
        end = ddim(denoiser, start, SHARES, entry=self.options["entry"], count=SAMPLING_STEPS)
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
        initialise(self, generator)

    def forward(self, noisy: Tensor, step: Tensor) -> Tensor:
        """Return the estimated vectors, `[B, D]`.

        Args:
            noisy: Vectors with noise, `[B, D]`.
            step: Step of each, int64 `[B]`.
        """
        time = self.time(time_features(step))
        hidden = self.enter(noisy)
        for block in self.blocks:
            assert isinstance(block, nn.ModuleDict)
            hidden = hidden + block["down"](F.silu(block["up"](block["norm"](hidden + time))))
        return self.leave(hidden)
