"""PaSST (Koutini et al., Interspeech 2022): a transformer over patches of a mel, trained to tag AudioSet.

The published models of 10 s with a hop of 320 samples, under the names of `hear21passt`. Patches are dropped in
training alone.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from vidaudio.encoders.sound_network import Heard, SoundNetwork, kaldi_filters

SAMPLE_RATE = 32_000
N_FFT, FRAME, HOP = 1024, 800, 320
BANDS, HIGHEST = 128, 15_000.0
EMPHASIS, FLOOR = 0.97, 1e-5
# The map of logarithms to about [-1, 1].
SHIFT, SCALE = 4.5, 5.0
PATCH, HEAD = 16, 64
# Positions of patches in 10 s, in frequency and in time, to the step between patches.
STEPS = {(12, 99): 10, (8, 62): 16}
# What the positions cover.
WINDOW = 10 * SAMPLE_RATE


class PasstMel(nn.Module):
    """PaSST's log mel: pre-emphasis, powers in 128 of Kaldi's mel bands up to 15 kHz, logarithm, a fixed map."""

    window: Tensor
    filters: Tensor

    def __init__(self) -> None:
        super().__init__()
        filters = kaldi_filters(N_FFT, BANDS, 0.0, HIGHEST, SAMPLE_RATE)
        self.register_buffer("filters", filters.T.contiguous(), persistent=False)
        self.register_buffer("window", torch.hann_window(FRAME, periodic=False), persistent=False)

    def forward(self, sounds: Tensor) -> Tensor:
        """Return the mels: `[N, samples]` to `[N, 1, bands, frames]`."""
        emphasised = sounds[:, 1:] - EMPHASIS * sounds[:, :-1]
        spectra = torch.stft(
            emphasised, N_FFT, HOP, FRAME, self.window, center=True, pad_mode="reflect", return_complex=True
        )
        bands = self.filters @ (spectra.real.square() + spectra.imag.square())
        return ((bands + FLOOR).log()[:, None] + SHIFT) / SCALE


class Attention(nn.Module):
    """Self-attention with heads of 64 numbers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = width // HEAD
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return what each token takes from all: `[N, tokens, width]` to the same."""
        queries, keys, values = self.qkv(tokens).unflatten(2, (3, self.heads, HEAD)).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(queries, keys, values)
        return self.proj(mixed.transpose(1, 2).flatten(2))


class Perceptron(nn.Module):
    """Two linear layers, with a GELU between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return a token for each token."""
        return self.fc2(functional.gelu(self.fc1(tokens)))


class Block(nn.Module):
    """A layer of the transformer, normalised before each part."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn, self.mlp = Attention(width), Perceptron(width, hidden)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return a token for each token."""
        tokens = tokens + self.attn(self.norm1(tokens))
        return tokens + self.mlp(self.norm2(tokens))


class Passt(SoundNetwork):
    """PaSST: a vector of each 10 s, and the probabilities of AudioSet's classes.

    Args:
        tensors: The published weights, which decide all sizes.

    Raises:
        KeyError: When weights are missing.
        ValueError: When the positions are not those of 10 s.
    """

    title = "PaSST"
    sample_rate = SAMPLE_RATE
    # A patch, and the sample that the pre-emphasis takes.
    least_samples = (PATCH - 1) * HOP + 1
    cls_token: Tensor
    dist_token: Tensor
    new_pos_embed: Tensor
    freq_new_pos_embed: Tensor
    time_new_pos_embed: Tensor

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        frequency, time = tensors["freq_new_pos_embed"], tensors["time_new_pos_embed"]
        places = (frequency.shape[2], time.shape[3])
        if places not in STEPS:
            raise ValueError(f"it has {places[0]} x {places[1]} positions, not those of 10 s: 12 x 99 or 8 x 62")
        width, depth = frequency.shape[1], len({name.split(".")[1] for name in tensors if name.startswith("blocks.")})
        self.front_end = PasstMel()
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(1, width, PATCH, STEPS[places])})
        for name in ("cls_token", "dist_token", "new_pos_embed", "freq_new_pos_embed", "time_new_pos_embed"):
            self.register_parameter(name, nn.Parameter(torch.empty_like(tensors[name])))
        hidden = len(tensors["blocks.0.mlp.fc1.weight"])
        self.blocks = nn.Sequential(*(Block(width, hidden) for _ in range(depth)))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.classes = len(tensors["head.1.weight"])
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, self.classes))

    @staticmethod
    def is_of(tensors: Mapping[str, Tensor]) -> bool:
        """Return whether weights are PaSST's, by their names."""
        return {"freq_new_pos_embed", "time_new_pos_embed", "head.1.weight"} <= tensors.keys()

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> tuple[Passt, dict[str, Tensor]]:
        """Return the network of the weights' sizes, and the weights that fill it.

        Raises:
            KeyError, ValueError: When weights are missing, or are of sounds that are not of 10 s.
        """
        # The head of the distillation has no part in vectors and classes.
        return cls(tensors), {name: each for name, each in tensors.items() if not name.startswith("head_dist.")}

    def heard(self, sounds: Tensor) -> Heard:
        """Return a vector of each window of 10 s, and probabilities that are means over windows and sum to 1.

        Windows of longer sounds lie evenly from the beginning to the end, and overlap by as little as it takes.
        """
        beyond = max(0, sounds.shape[1] - WINDOW)
        count = 1 - (-beyond // WINDOW)
        starts = [round(number * beyond / max(1, count - 1)) for number in range(count)]
        vectors = torch.stack([self.window_vectors(sounds[:, start : start + WINDOW]) for start in starts], 1)
        probabilities = self.head(vectors).sigmoid().mean(1)
        return Heard(vectors, probabilities / probabilities.sum(1, keepdim=True))

    def window_vectors(self, sounds: Tensor) -> Tensor:
        """Return the vectors of sounds of 10 s at most: the mean of the two tokens that stand for a whole sound."""
        patches = self.patch_embed["proj"](self.front_end(sounds))
        patches = patches + self.time_new_pos_embed[..., : patches.shape[3]] + self.freq_new_pos_embed
        whole = torch.cat([self.cls_token, self.dist_token], 1) + self.new_pos_embed
        tokens = torch.cat([whole.expand(len(sounds), -1, -1), patches.flatten(2).transpose(1, 2)], 1)
        return self.norm(self.blocks(tokens))[:, :2].mean(1)
