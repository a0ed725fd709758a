"""Clips to mix: every draw is a function of the target's number alone.

There are two rules. In a split of a corpus, each clip is a target once, and its partners are from other sources. For
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
    """Index rows of a target and of the clips that are mixed with it.

    Attributes:
        target: Row of the target.
        interference: Row of its partner.
        others: Rows of further partners, in mixtures of more than two sounds.
        number: Number of the target among all that could be drawn for, in order of their keys.
    """

    __test__ = False  # the name begins with Test, but pytest must not collect it

    target: int
    interference: int
    others: tuple[int, ...] = ()
    number: int = 0

    @property
    def rows(self) -> tuple[int, ...]:
        """Return the rows of all clips, the target first."""
        return (self.target, self.interference, *self.others)


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


def chosen_numbers(count: int, mixtures: int | None) -> list[int]:
    """Return which of `count` targets are tested if there is room for some mixtures, ascending.

    They are drawn by one seed, since neighbours in a list are often sounds of one kind. The choice grows with the
    number of mixtures: a smaller one is part of a larger one.

    Args:
        count: Number of targets.
        mixtures: Maximum number of mixtures; None for all.
    """
    return sorted(random.Random("targets").sample(range(count), count)[:mixtures])


def target_rows(index: TrainingIndex, windows: Windows, labels: Sequence[str] | None) -> np.ndarray:
    """Return the rows that can be targets, int64 `[targets]`, in order of their keys.

    If `labels` are given, clips without a label (an empty one) are left out.
    """
    keys = index.table["key"].to_pylist()
    rows = sorted(windows.usable.tolist(), key=keys.__getitem__)
    return np.asarray([row for row in rows if labels is None or labels[row]], np.int64)


def draw_pairs(
    index: TrainingIndex,
    windows: Windows,
    labels: Sequence[str] | None,
    mixtures: int | None = None,
    *,
    sources: int = 2,
) -> list[TestPair]:
    """Return the clips to mix with each target: Python's generator, seeded with the target's number, draws them.

    All clips of a mixture are from different sources and, if `labels` are given, have different labels; clips without a
    label (an empty one) are then left out. Partners are drawn one after another. The seed of the first one is the
    target's number, that of a further one its place and the target's number, so a mixture of N sounds has the first
    N - 1 sounds of a mixture of N + 1. A target for which a draw finds no clip is left out.

    Args:
        index: Index of the split.
        windows: Windows of its samples.
        labels: Label of each row, if those of a mixture must differ.
        mixtures: Number of targets to draw for, see `chosen_numbers`; None for all.
        sources: Number of clips in a mixture, 2 or more.

    Raises:
        PackError: When no clips can be mixed.
    """
    rows = target_rows(index, windows, labels)
    traits = [index.codes("source")[rows]]
    if labels is not None:
        traits.append(np.unique([labels[row] for row in rows.tolist()], return_inverse=True)[1])
    pairs = []
    for number in chosen_numbers(len(rows), mixtures):
        places = _drawn(number, traits, sources)
        if places:
            target, interference, *others = rows[places].tolist()
            pairs.append(TestPair(target, interference, tuple(others), number))
    if not pairs:
        raise PackError(_too_few(rows, windows, traits, sources))
    return pairs


def _drawn(number: int, traits: Sequence[np.ndarray], sources: int) -> list[int]:
    """Return the places of a target and of its partners, which share none of the traits; empty if there are too few."""
    chosen = [number]
    allowed = np.ones(len(traits[0]), bool)
    while len(chosen) < sources:
        for trait in traits:
            allowed &= trait != trait[chosen[-1]]
        others = np.flatnonzero(allowed)
        if not len(others):
            return []
        seed = number if len(chosen) == 1 else f"source {len(chosen)} {number}"
        chosen.append(int(others[random.Random(seed).choice(range(len(others)))]))
    return chosen


def _too_few(rows: np.ndarray, windows: Windows, traits: Sequence[np.ndarray], sources: int) -> str:
    clips = f"{number_of(len(rows), 'usable clip')} ({windows.too_short} too short)"
    and_labels = len(traits) > 1
    if sources == 2:
        return (
            f"no mixture can be made of {clips}: it takes two different sources{' and labels' if and_labels else ''}. "
            "Evaluate on another split, such as --split val, or pack once more with a larger test split: vidaudio pack "
            "CORPUS --name NAME --set 'split_fractions={train: 0.7, val: 0.1, test: 0.2}'"
        )
    counts = [number_of(len(np.unique(trait)), name) for trait, name in zip(traits, ("source", "label"), strict=False)]
    return (
        f"no mixture of {sources} sounds can be made of {clips}: it takes {sources} different sources"
        f"{' and labels' if and_labels else ''}, and the clips have {' and '.join(counts)}; lower --sources, or "
        "evaluate on another split (--split)"
    )
