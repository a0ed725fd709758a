"""Near-duplicates: clips of different sources whose pictures, and whose sounds where they are known, are alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from vidaudio.corpus.clip_vectors import sound_vectors
from vidaudio.corpus.corpus import Corpus
from vidaudio.packs.near_duplicates import near_pairs
from vidaudio.report.corpus.choice import ClipRef
from vidaudio.report.corpus.vectors import DrawnVectors

LEAST_PICTURES, LEAST_SOUND = 0.97, 0.9
MOST_SHOWN = 12
# Neighbours that are looked up for each clip; some are of its own source.
NEIGHBOURS = 8
# Cells that an approximate index searches: vectors as near as these are nearly always in the same cell, or the next.
PROBED_CELLS = 8


@dataclass(frozen=True, slots=True)
class Pair:
    """Two clips of different sources.

    Attributes:
        first, second: The clips.
        pictures: Cosine of their pictures' vectors.
        sound: Cosine of their sounds' vectors; None where one has no score.
    """

    first: ClipRef
    second: ClipRef
    pictures: float
    sound: float | None = None


@dataclass(frozen=True)
class Duplicates:
    """Near-duplicates of a corpus.

    Attributes:
        compared: Number of clips that were compared.
        embedded: Number of clips that they were drawn from.
        pictures_alike: Number of pairs with alike pictures.
        sounds_too: Number of these pairs whose sounds are alike, too; None without scores.
        shown: Pairs that are shown, no clip in two of them.
    """

    compared: int
    embedded: int
    pictures_alike: int
    sounds_too: int | None
    shown: tuple[Pair, ...]


def find_duplicates(
    corpus: Corpus, drawn: DrawnVectors, scorer: str | None, advance: Callable[[int], object] = lambda clips: None
) -> Duplicates:
    """Return the near-duplicates among drawn clips.

    Args:
        corpus: Opened corpus.
        drawn: The clips.
        scorer: Name of the scorer whose vectors of sound are compared, too; None for none.
        advance: Called with the number of clips that have just been compared.
    """
    pairs = _picture_pairs(drawn, advance)
    alike = pairs
    if scorer is not None and pairs:
        pairs = _with_sound(corpus, pairs, scorer)
        alike = [pair for pair in pairs if pair.sound is not None and pair.sound > LEAST_SOUND]
    shown: list[Pair] = []
    taken: set[ClipRef] = set()
    for pair in sorted(alike, key=lambda pair: (-pair.pictures, pair.first, pair.second)):
        if len(shown) == MOST_SHOWN:
            break
        if taken.isdisjoint((pair.first, pair.second)):
            shown.append(pair)
            taken |= {pair.first, pair.second}
    sounds_too = None if scorer is None else len(alike)
    return Duplicates(len(drawn.clips), drawn.embedded, len(pairs), sounds_too, tuple(shown))


def _picture_pairs(drawn: DrawnVectors, advance: Callable[[int], object]) -> list[Pair]:
    """Return the pairs of clips of different sources whose pictures are alike, each once."""
    vectors = np.ascontiguousarray(drawn.vectors)
    found: dict[tuple[ClipRef, ClipRef], float] = {}
    near = near_pairs(vectors, LEAST_PICTURES, neighbours=NEIGHBOURS + 1, probed_cells=PROBED_CELLS, advance=advance)
    for first, second, cosines in near:
        apart = drawn.sources[first] != drawn.sources[second]
        for one, other, cosine in zip(first[apart], second[apart], cosines[apart], strict=True):
            # Drawn clips are in the order of the shards, not of the ids.
            pair = sorted((drawn.clips[one], drawn.clips[other]))
            found[pair[0], pair[1]] = min(1.0, round(float(cosine), 5))
    return [Pair(first, second, cosine) for (first, second), cosine in found.items()]


def _with_sound(corpus: Corpus, pairs: list[Pair], scorer: str) -> list[Pair]:
    """Return pairs with the cosines of their sounds, for which only the vectors of these clips are held."""
    wanted = {clip for pair in pairs for clip in (pair.first, pair.second)}
    held: dict[ClipRef, np.ndarray] = {}
    for part in sound_vectors(corpus, scorer):
        for place, clip_id in enumerate(part.ids):
            if (clip := ClipRef(part.shard, clip_id)) in wanted:
                held[clip] = part.vectors[place]
    compared = []
    for pair in pairs:
        if pair.first in held and pair.second in held:
            cosine = float(held[pair.first] @ held[pair.second])
            pair = replace(pair, sound=round(cosine, 5))
        compared.append(pair)
    return compared
