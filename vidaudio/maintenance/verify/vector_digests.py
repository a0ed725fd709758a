"""Digests of the vectors of every clip, kept from the columns until the packs are looked at: 8 bytes a vector."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

DIGEST_BYTES = 8


@dataclass(frozen=True, slots=True)
class ShardVectors:
    """Of the clips of one shard.

    Attributes:
        digests: Of all vectors, clip by clip in the list's order.
        ends: Of every clip's digests among them, in digests, int32 `[clips]`.
        strangers: By id, of clips that the table has and the list does not give the shard.
    """

    digests: bytes
    ends: np.ndarray
    strangers: dict[str, bytes]


def shard_vectors(listed: Sequence[str], ids: Iterable[str], vectors: Iterable[np.ndarray]) -> ShardVectors:
    """Digests of the rows of an embeddings' table.

    Args:
        listed: Ids of the shard's clips.
        ids: The table's, a row each.
        vectors: The table's, float16.
    """
    found: dict[str, list[bytes]] = {}
    for clip, vector in zip(ids, vectors, strict=True):
        found.setdefault(clip, []).append(vector_digest(vector))
    own = [found.pop(clip, []) for clip in listed]
    ends = np.cumsum([len(each) for each in own], dtype=np.int32)
    digests = b"".join(digest for each in own for digest in each)
    return ShardVectors(digests, ends, {clip: b"".join(each) for clip, each in found.items()})


class ClipVectors:
    """Of all clips that have vectors of one encoder.

    Args:
        shard_clips: How many rows of the list each shard has, int `[shards]`.
    """

    def __init__(self, shard_clips: np.ndarray) -> None:
        self._first_rows = np.concatenate([[0], np.cumsum(shard_clips)])
        # Of all shards, in the order they were added.
        self._digests = bytearray()
        # By shard: where its digests begin in there, in bytes, and `ends`.
        self._shards: dict[int, tuple[int, np.ndarray]] = {}
        self._strangers: dict[str, tuple[int, bytes]] = {}

    def add(self, shard: int, vectors: ShardVectors) -> None:
        """Those of one shard, after those of the shards before it."""
        self._strangers |= {clip: (shard, digests) for clip, digests in vectors.strangers.items()}
        self._shards[shard] = len(self._digests), vectors.ends
        self._digests += vectors.digests

    def of(self, clip: str, rows: Sequence[int]) -> bytes | None:
        """Digests of a clip's vectors one after another, in the newest shard that has any; None where none has.

        Args:
            clip: Its id.
            rows: Where it stands in the list, from the first to the last.
        """
        newest, digests = self._strangers.get(clip, (-1, None))
        for row in rows:
            shard = int(np.searchsorted(self._first_rows, row, side="right")) - 1
            if shard > newest and shard in self._shards:
                own = self._own(shard, row - int(self._first_rows[shard]))
                newest, digests = (shard, own) if own else (newest, digests)
        return digests

    def _own(self, shard: int, place: int) -> bytes:
        """Of the clip at this place in a shard; empty where it has no vector."""
        begin, ends = self._shards[shard]
        first = int(ends[place - 1]) if place else 0
        return bytes(self._digests[begin + DIGEST_BYTES * first : begin + DIGEST_BYTES * int(ends[place])])


def vector_digest(vector: np.ndarray) -> bytes:
    """A short digest of one float16 vector."""
    return hashlib.blake2b(np.ascontiguousarray(vector, np.float16).tobytes(), digest_size=DIGEST_BYTES).digest()
