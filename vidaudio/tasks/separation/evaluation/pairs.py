"""Which clip is mixed with which: every draw is a function of the target's number alone.

Two rules. Of a split of a corpus every clip is a target once, and its partner is of another source. Of published lists
the partner is the papers' own draw, which knows nothing of sources: `random.seed(row)`, then one `randint` over the
second list. That it is this draw and no other can be seen in the mixtures that the authors put on their page.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vidaudio.errors import CorpusError
from vidaudio.stream.index import TrainingIndex
from vidaudio.stream.windows import Windows
from vidaudio.text import number_of


@dataclass(frozen=True, slots=True)
class TestPair:
    """Rows of the index: the target, and what it is mixed with."""

    __test__ = False  # not a class of tests, whatever its name begins with

    target: int
    interference: int


def published_partner(row: int, interference: int) -> int:
    """Row of the second list that the papers mix with a row of the first (CLIPSep's evaluation, `MixDatasetV2`).

    Args:
        row: Of the target, from 0.
        interference: Rows of the second list.
    """
    return random.Random(row).randint(0, interference - 1)


def published_pairs(targets: int, interference: int) -> list[tuple[int, int]]:
    """Rows of the first and of the second list, one pair a target; nothing keeps a clip from meeting itself."""
    return [(row, published_partner(row, interference)) for row in range(targets)]


def draw_pairs(
    index: TrainingIndex, windows: Windows, labels: Sequence[str] | None, mixtures: int | None = None
) -> list[TestPair]:
    """One pair a clip: the interference is drawn with Python's generator seeded by the target's number.

    Targets are in order of their keys. Interference is of another source and, where `labels` are given, another label;
    clips without a label (an empty one) are left out then.

    Raises:
        CorpusError: No two clips can be mixed.
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
        raise CorpusError(
            f"no mixture can be made of {number_of(len(rows), 'usable clip')} ({windows.too_short} too short): it "
            f"takes two different sources{' and labels' if labels is not None else ''}. Evaluate on another split, "
            "such as --split val, or pack once more with a larger test split: vidaudio pack CORPUS --name NAME --set "
            "'split_fractions={train: 0.7, val: 0.1, test: 0.2}'"
        )
    return pairs
