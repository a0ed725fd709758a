"""Regression from texts to pictures, learned from pairs: a clip's label or caption, and its frames."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor, nn

from vidaudio.cpus import one_thread
from vidaudio.errors import GapError
from vidaudio.modality_gap.base import GapData, GapMethod, require
from vidaudio.modality_gap.statistics import EPSILON

WIDTH_FACTOR = 2
BATCH = 256


class Ridge(GapMethod):
    """Linear regression with a penalty on its weights, in closed form."""

    name = "ridge"
    needs = frozenset({"pairs"})

    @classmethod
    def fit(cls, data: GapData, *, seed: int = 0, penalty: float = 0.1, **options: Any) -> Self:
        """Solve `min |X W - Y|^2 + penalty * mean_variance * P |W|^2`, X and Y centred.

        Args:
            data: Vectors with pairs.
            seed: Not used.
            penalty: Weight of the penalty, in units of a text dimension's mean variance.
            options: There are no others.
        """
        require(data, cls)
        texts, images = data.texts[data.text_rows].double(), data.images[data.image_rows].double()
        text_mean, image_mean = texts.mean(dim=0), images.mean(dim=0)
        x, y = texts - text_mean, images - image_mean
        gram = x.T @ x
        ridge = penalty * gram.diagonal().mean().clamp_min(EPSILON) * torch.eye(len(gram), dtype=torch.float64)
        matrix = torch.linalg.solve(gram + ridge, x.T @ y)
        tensors = {"matrix": matrix, "image_mean": image_mean, "text_mean": text_mean}
        tensors = {name: tensor.float() for name, tensor in tensors.items()}
        return cls(tensors, data.encoder, len(matrix), {"penalty": penalty})

    def map_texts(self, texts: Tensor) -> Tensor:
        """Return the regression's pictures."""
        matrix, image_mean, text_mean = (self.tensors[name].to(texts) for name in ("matrix", "image_mean", "text_mean"))
        return (texts - text_mean) @ matrix + image_mean


class Mlp(GapMethod):
    """A network of one hidden layer beside a skip connection, trained on pairs by squared error."""

    name = "mlp"
    needs = frozenset({"pairs"})

    @classmethod
    @one_thread()
    def fit(
        cls, data: GapData, *, seed: int = 0, steps: int = 1000, learning_rate: float = 1e-3, **options: Any
    ) -> Self:
        """Train the network.

        Args:
            data: Vectors with pairs.
            seed: Seed of initial weights and batches.
            steps: Optimiser steps, of `BATCH` pairs each.
            learning_rate: Adam's, with cosine decay.
            options: There are no others.
        """
        require(data, cls)
        generator = torch.Generator().manual_seed(seed)
        dimensions = data.images.shape[1]
        means = data.means()
        scale = {"text_scale": data.texts.std().clamp_min(EPSILON), "image_scale": data.images.std().clamp_min(EPSILON)}
        network = _network(dimensions, generator)
        optimiser = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        x = (data.texts - means["text_mean"]) / scale["text_scale"]
        y = (data.images - means["image_mean"]) / scale["image_scale"]
        for _ in range(steps):
            pair = torch.randint(len(data.image_rows), (BATCH,), generator=generator)
            inputs = x[data.text_rows[pair]]
            loss = (inputs + network(inputs) - y[data.image_rows[pair]]).square().mean()
            if not torch.isfinite(loss):
                raise GapError("the regression's loss is no number; use a lower learning rate")
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
        weights = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
        return cls(weights | means | scale, data.encoder, dimensions, {"steps": steps, "learning_rate": learning_rate})

    @torch.no_grad()
    def map_texts(self, texts: Tensor) -> Tensor:
        """Return the network's pictures."""
        tensors = {name: tensor.to(texts) for name, tensor in self.tensors.items()}
        x = (texts - tensors["text_mean"]) / tensors["text_scale"]
        hidden = torch.nn.functional.gelu(x @ tensors["network.0.weight"].T + tensors["network.0.bias"])
        change = hidden @ tensors["network.2.weight"].T + tensors["network.2.bias"]
        return (x + change) * tensors["image_scale"] + tensors["image_mean"]


def _network(dimensions: int, generator: torch.Generator) -> nn.Sequential:
    first, last = nn.Linear(dimensions, WIDTH_FACTOR * dimensions), nn.Linear(WIDTH_FACTOR * dimensions, dimensions)
    nn.init.normal_(first.weight, std=dimensions**-0.5, generator=generator)
    # Training begins with the skip connection alone.
    for zero in (first.bias, last.weight, last.bias):
        nn.init.zeros_(zero)
    return nn.Sequential(first, nn.GELU(), last)
