"""What may be asked for at once: several sounds together, everything but some, or both.

A mask says which share of each pixel is wanted, so requests are put together of masks: the largest mask of the wanted
sounds (of everything, where none is named), times what each unwanted sound leaves over, 1 - mask.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vidaudio.separation.separator import Separator


@dataclass(frozen=True, slots=True)
class Request:
    """Queries of the sounds wanted and of those not wanted, [Q, ...] each, Q >= 0; not both empty."""

    wanted: Tensor
    unwanted: Tensor

    def __post_init__(self) -> None:
        if len(self.wanted) + len(self.unwanted) == 0:
            raise ValueError("A request needs a query, of what is wanted or of what is not.")

    @classmethod
    def for_one(cls, query: Tensor) -> Request:
        """One query, [...]."""
        return cls(query[None], query[None][:0])

    def to(self, device: torch.device) -> Request:
        return Request(self.wanted.to(device), self.unwanted.to(device))


def request_mask(model: Separator, spectrum: Tensor, request: Request, *, threshold: float | None = None) -> Tensor:
    """The mask of a request about each spectrum.

    Args:
        model: In eval mode.
        spectrum: complex [B, bins, frames].
        request: Of what.
        threshold: Makes the mask binary; None leaves it soft.

    Returns:
        float32 [B, bins, frames].
    """
    wanted = len(request.wanted)
    queries = torch.cat([request.wanted, request.unwanted])
    masks = model.masks(spectrum, queries.expand(len(spectrum), *queries.shape))
    chosen = masks[:, :wanted].amax(dim=1) if wanted else torch.ones_like(masks[:, 0])
    mask = chosen * (1 - masks[:, wanted:]).prod(dim=1)
    return mask if threshold is None else (mask > threshold).float()
