"""Methods against the modality gap on the way of a query: of a text, of pictures, of a step of training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from vidaudio.modality_gap.base import GapMethod


class AskedThrough(Protocol):
    """A method that turns a text into what stands for a picture: a fitted `GapMethod`, or a published prior."""

    @property
    def name(self) -> str:
        """Name of the method."""

    def map_words(self, sentences: Sequence[str], text: Tensor) -> Tensor:
        """Return the query that stands for a text, `[D]`; see `GapMethod.map_words`."""


@dataclass(frozen=True)
class QueryGap:
    """Methods that queries go through.

    Attributes:
        train: Method that takes part in training; None without one.
        ask: Method that turns a text into what stands for a picture; None without one.
    """

    train: GapMethod | None = None
    ask: AskedThrough | None = None

    def of_text(self, text: Tensor, sentences: Sequence[str]) -> Tensor:
        """Return the query of a text, `[D]`.

        Args:
            text: Mean vector of the sentences, `[D]`.
            sentences: The text in the recipe's templates.
        """
        if self.ask is not None:
            return self.of_images(self.ask.map_words(sentences, text))
        return text if self.train is None else self.train.map_texts(text[None])[0]

    def of_images(self, images: Tensor) -> Tensor:
        """Return the query of pictures' vectors, `[..., D]`."""
        if self.train is None:
            return images
        return self.train.map_images(images.reshape(-1, images.shape[-1])).view_as(images)


def perturbed(
    method: GapMethod, queries: Tensor, texts: Tensor | None, *, seed: int, positions: Sequence[int]
) -> Tensor:
    """Return a step's queries `[B, N, D]`, changed at random: a pure function of seed and position of each mixture.

    So they are the same after a restart, on any number of ranks and with any number of parts per batch.
    """
    changed = []
    for place, position in enumerate(positions):
        generator = torch.Generator().manual_seed((seed * 1_000_003 + position) % 2**63)
        changed.append(method.perturb(queries[place], generator, None if texts is None else texts[place]))
    return torch.stack(changed)
