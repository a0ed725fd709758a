"""Lookup of manifest rows by clip, in columns of some tens of bytes per clip: a manifest may have millions of clips."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from vidaudio.corpus.corpus import Corpus
from vidaudio.hashing import hashed

# Rows per chunk: few chunks to search, and none so large that concatenating it takes long.
PIECE_ROWS = 1 << 16


class ListedClips:
    """Rows of a manifest, looked up by clip id.

    Args:
        rows: Table with a column `id`, kept in its chunks. Of a clip with several rows, the last one counts.
    """

    def __init__(self, rows: pa.Table) -> None:
        self._pieces = rows.to_batches()
        self._ends = np.cumsum([piece.num_rows for piece in self._pieces], dtype=np.int64)
        hashes = np.empty(rows.num_rows, np.uint64)
        for piece, end in zip(self._pieces, self._ends, strict=True):
            hashes[end - piece.num_rows : end] = hashed(pa.chunked_array([piece.column("id")]))
        self._order = np.argsort(hashes).astype(np.int32)
        self._hashes = hashes[self._order]

    def of(self, ids: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Return the rows of these clips by id; clips that are not in the manifest are left out."""
        wanted = set(ids)
        rows = (row for piece in self._taken(self._candidates(wanted)) for row in piece.to_pylist())
        return {row["id"]: row for row in rows if row["id"] in wanted}

    def places(self, ids: Iterable[str]) -> dict[str, list[int]]:
        """Return the row numbers of these clips, ascending, by id; clips without a row are left out."""
        wanted = set(ids)
        candidates = self._candidates(wanted)
        names = (name for piece in self._taken(candidates, ["id"]) for name in piece.column("id").to_pylist())
        found: dict[str, list[int]] = {}
        for name, place in zip(names, candidates.tolist(), strict=True):
            if name in wanted:
                found.setdefault(name, []).append(place)
        return found

    def _candidates(self, wanted: set[str]) -> np.ndarray:
        """Return, in order, the rows whose id hash matches; some may be other clips with the same hash."""
        hashes = np.unique(hashed(pa.chunked_array([pa.array(list(wanted), pa.string())])))
        first, last = (np.searchsorted(self._hashes, hashes, side) for side in ("left", "right"))
        found = [self._order[begin:end] for begin, end in zip(first, last, strict=True)]
        return np.sort(np.concatenate([np.zeros(0, np.int32), *found]))

    def _taken(self, rows: np.ndarray, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Yield these rows, in order, grouped by chunk; `columns` None means all columns."""
        bounds = np.searchsorted(rows, np.concatenate([[0], self._ends]))
        for number in np.flatnonzero(np.diff(bounds)).tolist():
            piece = self._pieces[number]
            own = rows[bounds[number] : bounds[number + 1]] - (self._ends[number] - piece.num_rows)
            yield (piece if columns is None else piece.select(list(columns))).take(pa.array(own))


def listed_clips(corpus: Corpus) -> ListedClips:
    """Read the facts that training samples are compared with, for every row of the manifest.

    A clip that was tried again has one row per try. The columns are `id`, `shard`, `split`, and digests of the rest:
    `origin` and `words`, see `origin_digest` and `words_digest`.
    """
    pieces: list[pa.Table] = []
    waiting: list[pa.Table] = []
    for table in corpus.tables(["id", "source", "dataset", "split", "labels", "captions", "shard"]):
        waiting.append(_digested(table))
        if sum(each.num_rows for each in waiting) >= PIECE_ROWS:
            pieces.append(pa.concat_tables(waiting).combine_chunks())
            waiting = []
    if waiting:
        pieces.append(pa.concat_tables(waiting).combine_chunks())
    return ListedClips(pa.concat_tables(pieces))


def origin_digest(source: str | None, dataset: str | None) -> int:
    """Return a 64-bit digest of a clip's source and dataset."""
    return _digest([source, dataset])


def words_digest(labels: Sequence[str] | None, captions: Sequence[str] | None) -> int:
    """Return a 64-bit digest of a clip's labels and captions; None and an empty list give different digests."""
    return _digest([labels, captions])


def _digest(value: Any) -> int:
    text = json.dumps(value, separators=(",", ":")).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest())


def _digested(table: pa.Table) -> pa.Table:
    source, dataset, labels, captions = (
        table[name].to_pylist() for name in ("source", "dataset", "labels", "captions")
    )
    origins = [origin_digest(*pair) for pair in zip(source, dataset, strict=True)]
    # Training shards write missing labels and captions as empty lists.
    words = [words_digest(mine or [], others or []) for mine, others in zip(labels, captions, strict=True)]
    return pa.table(
        {
            "id": table["id"],
            "shard": table["shard"],
            "split": table["split"],
            "origin": pa.array(origins, pa.uint64()),
            "words": pa.array(words, pa.uint64()),
        }
    )
