"""The draw of splits for sources without one in the manifest: by a hash, so it depends only on source and seed."""

from __future__ import annotations

import bisect
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from vidaudio.errors import RecipeError


@dataclass(frozen=True, slots=True)
class ShareBounds:
    """Splits sorted by name, and the end of each split's interval within 0 to 1."""

    names: tuple[str, ...]
    ends: tuple[float, ...]


def share_bounds(fractions: Mapping[str, float]) -> ShareBounds:
    """Return the intervals of the splits within 0 to 1.

    Args:
        fractions: Share of each split; the shares need not sum to 1.

    Raises:
        RecipeError: When there is no share, one is negative, or their sum is not positive and finite.
    """
    # Sort by name: a corpus and a pack store settings with sorted keys, and settings that were written in another order
    # before must draw the same splits.
    shares = dict(sorted(fractions.items()))
    total = sum(shares.values())
    if not shares or not 0 < total < float("inf") or min(shares.values()) < 0:
        raise RecipeError("pack.split_fractions must be shares >= 0 that sum to more than 0")
    return ShareBounds(tuple(shares), tuple(np.cumsum([share / total for share in shares.values()]).tolist()))


def drawn_split(source: str, seed: int, bounds: ShareBounds) -> str:
    """Return the split that a source is drawn into."""
    digest = hashlib.sha256(f"{seed}:{source}".encode()).digest()
    fraction = int.from_bytes(digest[:8]) / 2**64
    return bounds.names[min(bisect.bisect_right(bounds.ends, fraction), len(bounds.names) - 1)]
