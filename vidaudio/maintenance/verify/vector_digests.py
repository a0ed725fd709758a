"""Digests of all clips' vectors, 8 bytes per vector, kept from the check of the columns for the check of the packs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

DIGEST_BYTES = 8


@dataclass(frozen=True, slots=True)
class ShardVectors:
    """Vector digests of the clips of one shard.

    Attributes:
        digests: Digests of all vectors, clip by clip in manifest order.
        ends: For every clip, the end of its digests, counted in digests; int32 `[clips]`.
        strangers: By id, digests of clips that the table contains although the manifest does not assign them to the
            shard.
    """

    digests: bytes
    ends: np.ndarray
    strangers: dict[str, bytes]


def shard_vectors(listed: Sequence[str], ids: Iterable[str], vectors: Iterable[np.ndarray]) -> ShardVectors:
    """Compute digests of the rows of an embeddings table.

    Args:
        listed: Ids of the shard's clips.
        ids: Clip id of each row of the table.
        vectors: Vector of each row of the table, float16.
    """
    found: dict[str, list[bytes]] = {}
    for clip, vector in zip(ids, vectors, strict=True):
        found.setdefault(clip, []).append(vector_digest(vector))
    own = [found.pop(clip, []) for clip in listed]
    ends = np.cumsum([len(each) for each in own], dtype=np.int32)
    digests = b"".join(digest for each in own for digest in each)
    return ShardVectors(digests, ends, {clip: b"".join(each) for clip, each in found.items()})


class ClipVectors:
    """Vector digests of all clips that have vectors of one encoder.

    Args:
        shard_clips: Number of manifest rows of each shard, int `[shards]`.
    """

    def __init__(self, shard_clips: np.ndarray) -> None:
        self._first_rows = np.concatenate([[0], np.cumsum(shard_clips)])
        # Digests of all shards, in the order they were added.
        self._digests = bytearray()
        # By shard: offset of its digests in `_digests`, in bytes, and `ends`.
        self._shards: dict[int, tuple[int, np.ndarray]] = {}
        self._strangers: dict[str, tuple[int, bytes]] = {}

    def add(self, shard: int, vectors: ShardVectors) -> None:
        """Add the digests of one shard; call in ascending order of shards."""
        self._strangers |= {clip: (shard, digests) for clip, digests in vectors.strangers.items()}
        self._shards[shard] = len(self._digests), vectors.ends
        self._digests += vectors.digests

    def of(self, clip: str, rows: Sequence[int]) -> bytes | None:
        """Return a clip's vector digests, concatenated, from the newest shard that has any; None if no shard has.

        Args:
            clip: Clip id.
            rows: Row numbers of the clip in the manifest, ascending.
        """
        newest, digests = self._strangers.get(clip, (-1, None))
        for row in rows:
            shard = int(np.searchsorted(self._first_rows, row, side="right")) - 1
            if shard > newest and shard in self._shards:
                own = self._own(shard, row - int(self._first_rows[shard]))
                newest, digests = (shard, own) if own else (newest, digests)
        return digests

    def _own(self, shard: int, place: int) -> bytes:
        """Return the digests of the clip at this place in a shard; empty if it has no vector."""
        begin, ends = self._shards[shard]
        first = int(ends[place - 1]) if place else 0
        return bytes(self._digests[begin + DIGEST_BYTES * first : begin + DIGEST_BYTES * int(ends[place])])


def vector_digest(vector: np.ndarray) -> bytes:
    """Return an 8-byte digest of one float16 vector."""
    return hashlib.blake2b(np.ascontiguousarray(vector, np.float16).tobytes(), digest_size=DIGEST_BYTES).digest()
