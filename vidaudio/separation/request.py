"""Requests that combine queries: several sounds together, everything except some sounds, or both.

A mask is the wanted share of each pixel, so requests combine masks: the largest mask of the wanted sounds (1 where none
is named) times 1 - mask of each unwanted sound.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vidaudio.separation.separator import Separator


@dataclass(frozen=True, slots=True)
class Request:
    """Queries of the wanted and the unwanted sounds.

    Attributes:
        wanted: Queries of the wanted sounds, [Q, ...], Q >= 0; empty for everything.
        unwanted: Queries of the unwanted sounds, [Q, ...], Q >= 0; not empty if `wanted` is.
    """

    wanted: Tensor
    unwanted: Tensor

    def __post_init__(self) -> None:
        if len(self.wanted) + len(self.unwanted) == 0:
            raise ValueError("A request needs a query, of what is wanted or of what is not.")

    @classmethod
    def for_one(cls, query: Tensor) -> Request:
        """Return a request of one wanted query, [...]."""
        return cls(query[None], query[None][:0])

    @property
    def queries(self) -> Tensor:
        """Return the wanted queries, then the unwanted ones, [Q, ...]."""
        return torch.cat([self.wanted, self.unwanted])

    def to(self, device: torch.device) -> Request:
        """Return a copy on the given device."""
        return Request(self.wanted.to(device), self.unwanted.to(device))


def request_mask(model: Separator, spectrum: Tensor, request: Request, *, threshold: float | None = None) -> Tensor:
    """Return the mask of a request for each spectrum.

    Args:
        model: A system that takes queries, in eval mode.
        spectrum: Spectra of the mixtures, complex [B, bins, frames].
        request: Wanted and unwanted sounds, the same for all spectra.
        threshold: Threshold of a binary mask; None for a soft mask.

    Returns:
        float32 [B, bins, frames].
    """
    queries = request.queries
    masks = model.masks(spectrum, queries.expand(len(spectrum), *queries.shape))
    return combined_mask(masks, len(request.wanted), threshold=threshold)


def combined_mask(masks: Tensor, wanted: int, *, threshold: float | None = None) -> Tensor:
    """Return the mask of a request from those of its queries.

    Args:
        masks: Masks of the wanted queries, then of the unwanted ones, float [B, Q, bins, frames].
        wanted: Number of wanted queries.
        threshold: Threshold of a binary mask; None for a soft mask.

    Returns:
        [B, bins, frames].
    """
    chosen = masks[:, :wanted].amax(dim=1) if wanted else torch.ones_like(masks[:, 0])
    mask = chosen * (1 - masks[:, wanted:]).prod(dim=1)
    return mask if threshold is None else (mask > threshold).float()
