"""Choice of the target's mask for a system without queries (PIT): all masks that a listener could try, or one.

The published evaluation of PIT tries the first mask and its complement and keeps the better one, an oracle's choice.
With n heads an oracle can choose among all n masks; without an oracle, the first head is as good as any.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

HeadChoice = Literal["complement", "heads", "first"]
HEAD_CHOICES: tuple[str, ...] = get_args(HeadChoice)


def candidate_masks(masks: Tensor, choice: HeadChoice) -> Tensor:
    """Return the masks to try as the target's; the best of their scores counts.

    Args:
        masks: Masks of all heads, in [0, 1], [B, N, bins, frames].
        choice: `complement`: the first mask and 1 minus it (CLIPSep's evaluation of PIT, for any N); `heads`: each
            head's mask; `first`: the first head's mask, without an oracle.

    Returns:
        [B, candidates, bins, frames].

    Raises:
        ValueError: When `choice` is none of these.
    """
    if choice == "heads":
        return masks
    if choice == "first":
        return masks[:, :1]
    if choice == "complement":
        return torch.cat([masks[:, :1], 1 - masks[:, :1]], dim=1)
    raise ValueError(f"there is no choice {choice!r} of heads; there are {', '.join(HEAD_CHOICES)}")
