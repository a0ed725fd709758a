"""The split of a source that the list gives none: drawn by a hash, so it depends on source and seed alone."""

from __future__ import annotations

import bisect
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from vidaudio.errors import RecipeError


@dataclass(frozen=True, slots=True)
class ShareBounds:
    """Splits in the order of their names, and where each one's part of the numbers from 0 to 1 ends."""

    names: tuple[str, ...]
    ends: tuple[float, ...]


def share_bounds(fractions: Mapping[str, float]) -> ShareBounds:
    """Return the bounds of shares.

    Raises:
        RecipeError: They are no shares.
    """
    # By name: a corpus and a pack describe themselves with sorted keys, and what was written in another order
    # before must draw the same.
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
