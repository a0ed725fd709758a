"""Plan of an evaluation: which clips are asked for, and which real sounds the results are compared with.

The test split is halved by source and label. One half is asked for; the other is the reference of every set. So the
real sounds of the first half are a floor that no metric can tell from a perfect generator, at equal numbers, and no
generated sound is compared with the clip whose picture it was made from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from vidaudio.errors import PackError
from vidaudio.stream.index import TrainingIndex

LEAST_CLIPS = 8


@dataclass(frozen=True, slots=True)
class EvalClip:
    """A clip of the test.

    Attributes:
        row: Row in the index of its split.
        key: Name of the clip in its shard, and of its sound files.
        source: Video that it is cut from.
        label: First label or, without one, first caption; empty without either.
    """

    row: int
    key: str
    source: str
    label: str


@dataclass(frozen=True, slots=True)
class EvalPlan:
    """Both halves of a test, each in the order of its rows.

    Attributes:
        queries: Clips that are asked for.
        reference: Clips whose real sounds are compared with.
    """

    queries: tuple[EvalClip, ...]
    reference: tuple[EvalClip, ...]

    def of_keys(self, keys: Container[str]) -> EvalPlan:
        """Return the plan of those clips that have one of the keys.

        Raises:
            PackError: When too few are left.
        """
        halves = [tuple(clip for clip in half if clip.key in keys) for half in (self.queries, self.reference)]
        if min(map(len, halves)) < LEAST_CLIPS // 2:
            raise PackError(
                f"of the clips to test, {len(halves[0])} and {len(halves[1])} of both halves can be read; an "
                f"evaluation needs {LEAST_CLIPS} clips at least"
            )
        return EvalPlan(*halves)


def clips_of(index: TrainingIndex) -> list[EvalClip]:
    """Return all clips of a split."""
    table = index.table
    columns = (table[name].to_pylist() for name in ("key", "source", "labels", "captions"))
    return [
        EvalClip(row, key, source, (labels or captions or [""])[0])
        for row, (key, source, labels, captions) in enumerate(zip(*columns, strict=True))
    ]


def plan_test(clips: Sequence[EvalClip], *, limit: int | None = None, seed: int = 0) -> EvalPlan:
    """Halve a test by source, label by label.

    Args:
        clips: Clips of the split.
        limit: Clips of each half, at most.
        seed: Seed of the halves and of what a limit keeps.

    Raises:
        PackError: When there are too few clips or sources.
    """
    by_source = {
        source: list(group)
        for source, group in groupby(sorted(clips, key=lambda clip: clip.source), key=lambda clip: clip.source)
    }
    sources = sorted(by_source, key=lambda source: (by_source[source][0].label, _drawn(seed, source)))
    halves: tuple[list[EvalClip], list[EvalClip]] = ([], [])
    for source in sources:
        # The smaller half, so that sources with many clips do not tip the balance.
        min(halves, key=len).extend(by_source[source])
    kept = min(*map(len, halves), limit or len(clips))
    if kept < LEAST_CLIPS // 2:
        raise PackError(
            f"the split has {len(clips)} clips of {len(sources)} sources, and is halved by source; an evaluation needs "
            f"{LEAST_CLIPS} clips at least"
        )
    first, second = (_chosen(half, kept, seed) for half in halves)
    return EvalPlan(first, second)


def _chosen(clips: Iterable[EvalClip], count: int, seed: int) -> tuple[EvalClip, ...]:
    kept = sorted(clips, key=lambda clip: (_drawn(seed, clip.source), clip.row))[:count]
    return tuple(sorted(kept, key=lambda clip: clip.row))


def _drawn(seed: int, source: str) -> bytes:
    """Return a place in a random order that depends on the source alone."""
    return hashlib.sha256(f"{seed} {source}".encode()).digest()
