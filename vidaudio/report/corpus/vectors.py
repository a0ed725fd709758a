"""Vectors of the pictures of drawn clips, one a clip, with whose they are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vidaudio.corpus.clip_vectors import ClipVectors, picture_vectors
from vidaudio.corpus.corpus import Corpus
from vidaudio.corpus.superseded import superseded
from vidaudio.hashing import hashed
from vidaudio.packs.selection import rows_by_shard
from vidaudio.report.corpus.choice import ClipRef

# About 400 MB of vectors with 512 dimensions.
MOST_VECTORS = 200_000
_HASHES = 2.0**64


@dataclass(frozen=True)
class DrawnVectors:
    """Vectors of the pictures of drawn clips.

    Attributes:
        clips: The clips.
        hashes: Hash of each clip's id, uint64 `[N]`.
        sources: Hash of each clip's source, uint64 `[N]`.
        labels: First label of each clip; None without one.
        vectors: Unit vectors, float32 `[N, D]`.
        embedded: Number of clips that they were drawn from.
    """

    clips: list[ClipRef]
    hashes: np.ndarray
    sources: np.ndarray
    labels: list[str | None]
    vectors: np.ndarray
    embedded: int


def draw_vectors(corpus: Corpus, encoder: str, most: int = MOST_VECTORS) -> DrawnVectors | None:
    """Return the vectors of all embedded clips, or of clips that are drawn by a hash of their ids.

    Args:
        corpus: Opened corpus.
        encoder: Name of the encoder.
        most: Number of clips above which clips are drawn; about so many are.

    Returns:
        None if no clip is embedded.
    """
    # The hash of a drawn clip is below this, so that nothing has to be held to draw.
    below = _HASHES * min(1.0, most / max(1, corpus.clips))
    older = superseded(corpus)
    embedded = 0
    clips: list[ClipRef] = []
    labels: list[str | None] = []
    hashes, sources, vectors = [], [], []
    for part, listed in _with_rows(corpus, encoder):
        ids = pa.chunked_array([pa.array(part.ids, pa.string())])
        current = np.array(older.is_current(part.shard, part.ids), bool)
        embedded += int(current.sum())
        own = hashed(ids)
        kept = np.flatnonzero(current & (own < below))
        if not len(kept):
            continue
        rows = listed.take(pc.index_in(ids.take(pa.array(kept)), listed["id"].combine_chunks()))
        clips += [ClipRef(part.shard, part.ids[place]) for place in kept]
        labels += [next(iter(own_labels or ()), None) for own_labels in rows["labels"].to_pylist()]
        hashes.append(own[kept])
        sources.append(hashed(rows["source"]))
        vectors.append(part.vectors[kept])
    if not clips:
        return None
    return DrawnVectors(
        clips, np.concatenate(hashes), np.concatenate(sources), labels, np.concatenate(vectors), embedded
    )


def _with_rows(corpus: Corpus, encoder: str) -> Iterator[tuple[ClipVectors, pa.Table]]:
    """Yield the vectors of every embedded shard, with the shard's rows of the list."""
    rows = rows_by_shard(corpus, ["id", "source", "labels", "shard"])
    for part in picture_vectors(corpus, encoder):
        yield part, next(listed for shard, listed in rows if shard == part.shard)
