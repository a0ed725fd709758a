"""Near-duplicates among clips: of clips with nearly the same pictures and sound, the first in an order is kept.

Candidates are the nearest clips by their pictures, found by an index. Clips that are connected by near-duplicate pairs
form a group. Inside a group the first clip of the order is kept, all clips that are near-duplicates of it are dropped,
and so on with the rest. So every dropped clip is a near-duplicate of a kept one: a chain, such as overlapping cuts of
one video, does not shrink to its first clip.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from vidaudio.vector_index import build_index

# Nearest clips that are looked at for each clip, itself among them.
NEIGHBOURS = 33
ROWS_AT_ONCE = 8_192
# An index adds in float32, in an order of its own; the pairs that it finds are compared again exactly.
ROUNDING = 1e-4


@dataclass(frozen=True)
class NearDuplicates:
    """Clips that are dropped.

    Attributes:
        clips: Numbers of the dropped clips, increasing, int64 `[dropped]`.
        kept: Number of the kept clip that each is a near-duplicate of, int64 `[dropped]`.
        picture: Cosine of their pictures, float64 `[dropped]`.
        sound: Cosine of their sounds, float64 `[dropped]`; None if sounds were not compared.
    """

    clips: np.ndarray
    kept: np.ndarray
    picture: np.ndarray
    sound: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.clips)


@dataclass(frozen=True)
class ClipLooks:
    """What clips are compared by.

    Attributes:
        pictures: Unit vectors of the pictures, float32 `[N, D]`; zeros where a clip has none.
        sounds: Unit vectors of the sounds, `[N, S]`; zeros where a clip has none. None compares pictures alone.
        picture, sound: Least cosine of near-duplicates.
    """

    pictures: np.ndarray
    sounds: np.ndarray | None
    picture: float
    sound: float

    def cosines(self, first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the cosines of pictures and of sounds of pairs of clips, float64 `[pairs]`."""
        sounds = None if self.sounds is None else _cosines(self.sounds, first, second)
        return _cosines(self.pictures, first, second), sounds

    def are_near(self, picture: np.ndarray, sound: np.ndarray | None) -> np.ndarray:
        """Return which pairs with these cosines are near-duplicates, bool `[pairs]`."""
        near = picture >= self.picture
        return near if sound is None else near & (sound >= self.sound)


def find_near_duplicates(looks: ClipLooks, order: np.ndarray) -> NearDuplicates:
    """Return the clips to drop, so that of near-duplicates the first in an order is kept.

    Args:
        looks: What the clips are compared by.
        order: Numbers of all clips, those to be kept first at the beginning, int `[N]`.
    """
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order))
    found = [drop for group in _groups(looks) for drop in _dropped(looks, group[np.argsort(ranks[group])])]
    if not found:
        none = np.zeros(0, np.int64)
        return NearDuplicates(none, none, np.zeros(0), None if looks.sounds is None else np.zeros(0))
    clips, kept, picture = (np.concatenate([each[part] for each in found]) for part in (0, 1, 2))
    by_number = np.argsort(clips)
    sound = None
    if looks.sounds is not None:
        sound = np.concatenate([each[3] for each in found if each[3] is not None])[by_number]
    return NearDuplicates(clips[by_number], kept[by_number], picture[by_number], sound)


def _groups(looks: ClipLooks) -> Iterator[np.ndarray]:
    """Yield the groups of two clips or more that are connected by near-duplicate pairs."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = len(looks.pictures)
    if count < 2:
        return
    pairs = np.concatenate([np.zeros((0, 2), np.int64), *_near_pairs(looks)])
    graph = coo_array((np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    _, labels = connected_components(graph, directed=False)
    members = np.argsort(labels, kind="stable")
    edges = np.flatnonzero(np.diff(labels[members])) + 1
    yield from (group for group in np.split(members, edges) if len(group) > 1)


def _near_pairs(looks: ClipLooks) -> Iterator[np.ndarray]:
    """Yield near-duplicate pairs among each clip's nearest by pictures, int64 `[pairs, 2]`."""
    for first, second, picture in near_pairs(looks.pictures, looks.picture):
        sound = None if looks.sounds is None else _cosines(looks.sounds, first, second)
        yield np.stack([first, second], axis=1)[looks.are_near(picture, sound)]


def near_pairs(
    vectors: np.ndarray,
    least: float,
    *,
    neighbours: int = NEIGHBOURS,
    probed_cells: int | None = None,
    advance: Callable[[int], object] = lambda rows: None,
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield pairs of rows with at least a cosine, some thousand rows at a time: first, second, cosine `[pairs]` each.

    A pair is found from either of its rows, so that most come twice.

    Args:
        vectors: Unit vectors, float32 `[N, D]`.
        least: Least cosine.
        neighbours: Nearest rows that are looked at for each row, itself among them.
        probed_cells: Cells that an index of many vectors looks into; None for those of `build_index`.
        advance: Called with the number of rows that have just been compared.
    """
    index = build_index(vectors, probed_cells)
    for begin in range(0, len(vectors), ROWS_AT_ONCE):
        rows = vectors[begin : begin + ROWS_AT_ONCE]
        cosines, places = index.search(rows, min(neighbours, len(vectors)))
        own = np.arange(begin, begin + len(rows))[:, None]
        near = (cosines >= least - ROUNDING) & (places >= 0) & (places != own)
        first, second = np.broadcast_to(own, places.shape)[near], places[near]
        exact = _cosines(vectors, first, second)
        enough = exact >= least
        yield first[enough], second[enough], exact[enough]
        advance(len(rows))


def _dropped(
    looks: ClipLooks, group: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]]:
    """Yield the near-duplicates of each kept clip of a group, which is in order: clips, kept, and both cosines."""
    left = group
    while len(left) > 1:
        kept, others = left[0], left[1:]
        picture, sound = looks.cosines(np.full(len(others), kept), others)
        near = looks.are_near(picture, sound)
        if near.any():
            clips = others[near]
            yield clips, np.full(len(clips), kept), picture[near], None if sound is None else sound[near]
        left = others[~near]


def _cosines(vectors: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the dot products of pairs of rows, added in float64."""
    found = np.empty(len(first))
    for begin in range(0, len(first), ROWS_AT_ONCE):
        part = slice(begin, begin + ROWS_AT_ONCE)
        one, other = vectors[first[part]].astype(np.float64), vectors[second[part]].astype(np.float64)
        found[part] = np.einsum("nd,nd->n", one, other)
    return found
