"""The paired diffusion prior (CLIPSonic-SD; Ramesh et al., 2022, section 2.2): draws a picture's vector for a text's.

A transformer learns, from the pairs of a corpus, the vector of a picture from one with noise and from the text. Its
tokens are those of DALL-E 2's prior without the words' states, since methods get vectors: text, time, noisy vector, and
a learned query whose output is the picture's vector. Vectors have the length sqrt(dimensions), as in LAION's prior.
"""

from __future__ import annotations

from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidaudio.cpus import one_thread
from vidaudio.errors import GapError
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
from vidaudio.noise_schedules import cosine_betas, signal_shares

SHARES = signal_shares(cosine_betas(STEPS))
SAMPLING_STEPS = 64
# Vectors that are drawn for a text; the one that is closest to the text is kept.
DRAWS = 2
TEXT_DROPOUT = 0.1
BATCH = 64
LAYERS, HEADS, TOKENS = 2, 4, 4
WEIGHT_DECAY, CLIP_NORM = 6.02e-2, 0.5


class Prior(GapMethod):
    """Diffusion prior: a small transformer, trained on pairs to draw a picture's vector for a text's.

    All texts begin with the same noise, of the method's seed: the mapping is continuous, and a text's vector does not
    depend on the others.
    """

    name = "prior"
    needs = frozenset({"pairs"})

    @classmethod
    def fit(
        cls,
        data: GapData,
        *,
        seed: int = 0,
        steps: int = 2000,
        learning_rate: float = 1e-3,
        width: int = 192,
        guidance: float = 1.0,
        **options: Any,
    ) -> Self:
        """Train the transformer on pairs.

        Args:
            data: Vectors with pairs.
            seed: Seed of initial weights, batches and noise.
            steps: Optimiser steps, of `BATCH` pairs each.
            learning_rate: AdamW's, with cosine decay.
            width: Width of the transformer, a multiple of `HEADS`.
            guidance: Scale of classifier-free guidance in sampling; 1 is none.
            options: There are no others.
        """
        require(data, cls)
        if width % HEADS:
            raise GapError(f"the width of a prior is a multiple of {HEADS}, not {width}")
        generator = torch.Generator().manual_seed(seed)
        images, texts = scaled(data.images[data.image_rows]), scaled(data.texts)
        denoiser = PriorTransformer(images.shape[1], width, generator)

        def loss_of_batch() -> Tensor:
            pair = torch.randint(len(images), (BATCH,), generator=generator)
            kept = torch.rand(BATCH, generator=generator) >= TEXT_DROPOUT
            clean = images[pair]
            noisy, step = noised(clean, SHARES, generator)
            return (denoiser(noisy, step, texts[data.text_rows[pair]], kept) - clean).square().mean()

        with one_thread():
            optimiser = torch.optim.AdamW(denoiser.parameters(), lr=learning_rate, weight_decay=WEIGHT_DECAY)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
            weights = train_average(
                *(denoiser, optimiser, loss_of_batch, steps), name=cls.name, schedule=schedule, clip_norm=CLIP_NORM
            )
        tensors = weights_as_tensors(weights) | {"norm": data.images.norm(dim=-1).mean()}
        settings = {"steps": steps, "learning_rate": learning_rate, "width": width, "guidance": guidance, "seed": seed}
        return cls(tensors, data.encoder, images.shape[1], settings)

    @torch.no_grad()
    @one_thread()
    def map_texts(self, texts: Tensor) -> Tensor:
        """Return the pictures' vectors that are drawn for the texts, each computed alone."""
        denoiser = PriorTransformer(self.dimensions, self.options["width"]).to(texts.device)
        load_weights(denoiser, self.tensors)
        generator = torch.Generator().manual_seed(self.options["seed"])
        noise = torch.randn(DRAWS, self.dimensions, generator=generator).to(texts.device)
        drawn = [self._drawn(denoiser, text, noise) for text in scaled(texts.float())]
        return F.normalize(torch.stack(drawn), dim=-1) * self.tensors["norm"].to(texts)

    def _drawn(self, denoiser: PriorTransformer, text: Tensor, noise: Tensor) -> Tensor:
        """Return the draw that is closest to a text, `[D]`."""
        asked, every = text.expand(len(noise), -1), torch.ones(len(noise), dtype=torch.bool, device=text.device)
        guidance = self.options["guidance"]

        def estimate(noisy: Tensor, step: Tensor) -> Tensor:
            clean = denoiser(noisy, step, asked, every)
            if guidance == 1:
                return clean
            without = denoiser(noisy, step, asked, ~every)
            return without + guidance * (clean - without)

        draws = ddim(estimate, noise, SHARES, entry=STEPS - 1, count=SAMPLING_STEPS)
        return draws[F.cosine_similarity(draws, asked, dim=-1).argmax()]


def scaled(vectors: Tensor) -> Tensor:
    """Return vectors at the length sqrt(dimensions), at which each number's variance is about 1."""
    return F.normalize(vectors, dim=-1) * vectors.shape[-1] ** 0.5


class PriorTransformer(nn.Module):
    """Transformer over four tokens, each of which attends to itself and those before it.

    Args:
        dimensions: Dimensions of the vectors.
        width: Width of the tokens.
        generator: Source of the initial weights.
    """

    def __init__(self, dimensions: int, width: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.text = nn.Linear(dimensions, width)
        self.no_text = nn.Parameter(torch.zeros(width))
        self.time = nn.Linear(TIME_FEATURES, width)
        self.noisy = nn.Linear(dimensions, width)
        self.query = nn.Parameter(torch.zeros(width))
        self.places = nn.Parameter(torch.zeros(TOKENS, width))
        self.blocks = nn.ModuleList(Block(width) for _ in range(LAYERS))
        self.norm = nn.LayerNorm(width)
        self.leave = nn.Linear(width, dimensions)
        initialise(self, generator)

    def forward(self, noisy: Tensor, step: Tensor, texts: Tensor, has_text: Tensor) -> Tensor:
        """Return the estimated vectors, `[B, D]`.

        Args:
            noisy: Vectors with noise, `[B, D]`.
            step: Step of each, int64 `[B]`.
            texts: Vectors of texts, `[B, D]`.
            has_text: Whether each may see its text, bool `[B]`.
        """
        text = torch.where(has_text[:, None], self.text(texts), self.no_text)
        query = self.query.expand_as(text)
        tokens = torch.stack([text, self.time(time_features(step)), self.noisy(noisy), query], dim=1) + self.places
        for block in self.blocks:
            tokens = block(tokens)
        return self.leave(self.norm(tokens[:, -1]))


class Block(nn.Module):
    """Attention of each token to itself and those before it, and a layer of its own for each.

    Args:
        width: Width of the tokens.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.into = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return changed tokens, `[B, T, width]`."""
        parts = self.into(self.attention_norm(tokens)).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = parts.unbind(0)
        seen = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        tokens = tokens + self.out(seen.transpose(1, 2).flatten(2))
        return tokens + self.down(F.gelu(self.up(self.norm(tokens))))
