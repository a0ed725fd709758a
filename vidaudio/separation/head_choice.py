"""Which mask stands for the target where a system cannot be asked (PIT): all a listener could try, or one.

The published evaluation of PIT tries the first mask and its complement and keeps the better one, an oracle's choice.
With n heads an oracle may choose among all of them; without one, the first head is as good as any.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

HeadChoice = Literal["complement", "heads", "first"]
HEAD_CHOICES: tuple[str, ...] = get_args(HeadChoice)


def candidate_masks(masks: Tensor, choice: HeadChoice) -> Tensor:
    """The masks to try as the target's; the best score of them counts.

    Args:
        masks: Of all heads, in [0, 1], [B, N, bins, frames].
        choice: `complement`: the first mask and 1 - it (CLIPSep's evaluation of PIT, whatever N); `heads`: each head's;
            `first`: the first head's, without an oracle.

    Returns:
        [B, candidates, bins, frames].

    Raises:
        ValueError: Another choice.
    """
    if choice == "heads":
        return masks
    if choice == "first":
        return masks[:, :1]
    if choice == "complement":
        return torch.cat([masks[:, :1], 1 - masks[:, :1]], dim=1)
    raise ValueError(f"there is no choice {choice!r} of heads; there are {', '.join(HEAD_CHOICES)}")
