"""Pairs of clips to mix: every draw is a function of the target's number alone.

There are two rules. In a split of a corpus, each clip is a target once, and its partner is from another source. For
published lists, the partner is the papers' own draw, which ignores sources: `random.seed(row)`, then one `randint` over
the second list. The mixtures on the authors' page confirm this draw.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vidaudio.errors import PackError
from vidaudio.stream.index import TrainingIndex
from vidaudio.stream.windows import Windows
from vidaudio.text import number_of


@dataclass(frozen=True, slots=True)
class TestPair:
    """Index rows of a target and of the clip that is mixed with it."""

    __test__ = False  # the name begins with Test, but pytest must not collect it

    target: int
    interference: int


def published_partner(row: int, interference: int) -> int:
    """Return the row of the second list that the papers mix with a row of the first (CLIPSep's `MixDatasetV2`).

    Args:
        row: Row of the target, from 0.
        interference: Number of rows of the second list.
    """
    return random.Random(row).randint(0, interference - 1)


def published_pairs(targets: int, interference: int) -> list[tuple[int, int]]:
    """Return rows of the first and of the second list, one pair per target; a clip may be paired with itself."""
    return [(row, published_partner(row, interference)) for row in range(targets)]


def draw_pairs(
    index: TrainingIndex, windows: Windows, labels: Sequence[str] | None, mixtures: int | None = None
) -> list[TestPair]:
    """Return one pair per clip: Python's generator, seeded with the target's number, draws the interference.

    Targets are in order of their keys. Interference is from another source and, if `labels` are given, has another
    label; clips without a label (an empty one) are then left out.

    Raises:
        PackError: When no two clips can be mixed.
    """
    keys = index.table["key"].to_pylist()
    rows = np.asarray(sorted(windows.usable.tolist(), key=keys.__getitem__), np.int64)
    kinds = None
    if labels is not None:
        rows = np.asarray([row for row in rows.tolist() if labels[row]], np.int64)
        kinds = np.unique([labels[row] for row in rows.tolist()], return_inverse=True)[1]
    sources = index.codes("source")[rows]
    pairs = []
    for number, target in enumerate(rows[:mixtures].tolist()):
        allowed = sources != sources[number]
        if kinds is not None:
            allowed &= kinds != kinds[number]
        others = rows[allowed]
        if len(others):
            pairs.append(TestPair(target, int(others[random.Random(number).choice(range(len(others)))])))
    if not pairs:
        raise PackError(
            f"no mixture can be made of {number_of(len(rows), 'usable clip')} ({windows.too_short} too short): it "
            f"takes two different sources{' and labels' if labels is not None else ''}. Evaluate on another split, "
            "such as --split val, or pack once more with a larger test split: vidaudio pack CORPUS --name NAME --set "
            "'split_fractions={train: 0.7, val: 0.1, test: 0.2}'"
        )
    return pairs
