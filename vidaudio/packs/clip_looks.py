"""Near-duplicates among the chosen clips of a pack: their vectors, and the order in which clips are kept."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vidaudio.config.corpus import DedupBlock, PackBlock
from vidaudio.corpus.clip_vectors import ClipVectors, picture_vectors, sound_vectors
from vidaudio.corpus.columns import EMBED, SCORE
from vidaudio.corpus.corpus import Corpus
from vidaudio.errors import PackError
from vidaudio.packs.near_duplicates import ClipLooks, NearDuplicates, find_near_duplicates
from vidaudio.packs.vectors import packed_columns, with_fingerprint

# Of near-duplicates in several splits, the one in the first of these is kept. Other splits come before train, too: what
# a model is judged by must not be in what it learns from.
_SPLIT_RANKS = {"test": 0, "val": 1, "train": 3}
_OTHER_SPLITS = 2


def near_duplicates(
    corpus: Corpus,
    settings: PackBlock,
    models: Mapping[str, str],
    ids: pa.Array,
    shards: np.ndarray,
    order: np.ndarray,
) -> NearDuplicates:
    """Return the near-duplicates among clips; each clip is its number in `ids`.

    Args:
        corpus: The corpus.
        settings: Settings of the pack, with `dedup`.
        models: Name of the model by stage.
        ids: Ids of the clips, in manifest order.
        shards: Corpus shard of each clip, increasing, int `[N]`.
        order: Numbers of the clips, those to be kept first at the beginning, int `[N]`; see `keeping_order`.

    Raises:
        PackError: When the pack has no vectors of pictures.
    """
    dedup = settings.dedup or DedupBlock()
    pictures = _rows(picture_vectors(corpus, _picture_encoder(corpus, settings, models)), ids, shards, np.float32)
    sounds = None
    if settings.scorer is not None:
        # Half precision: only the candidates that pictures leave are compared by sound.
        sounds = _rows(sound_vectors(corpus, models[SCORE.stage]), ids, shards, np.float16)
        # Scores of another tool have no vectors.
        sounds = sounds if sounds.shape[1] else None
    return find_near_duplicates(ClipLooks(pictures, sounds, dedup.picture, dedup.sound), order)


def keeping_order(ids: pa.Array, splits: np.ndarray, names: Sequence[str], scores: np.ndarray | None) -> np.ndarray:
    """Return the clips in the order in which near-duplicates are kept: by split, by score, and by a hash of the id.

    Args:
        ids: Ids of the clips.
        splits: Split of each clip, as its place in `names`, int `[N]`.
        names: Names of the splits.
        scores: How well sound and picture of each clip correspond, NaN if unknown, `[N]`; None without scores.
    """
    ranks = np.array([_SPLIT_RANKS.get(name, _OTHER_SPLITS) for name in names], np.int64)[splits]
    hashes = np.array([_hash(clip_id) for clip_id in ids.to_pylist()], np.uint64)
    # A NaN is sorted last.
    worst = np.zeros(len(ids)) if scores is None else -scores.astype(np.float64)
    return np.lexsort((hashes, worst, ranks))


def _hash(clip_id: str) -> int:
    return int.from_bytes(hashlib.blake2b(clip_id.encode(), digest_size=8).digest())


def _picture_encoder(corpus: Corpus, settings: PackBlock, models: Mapping[str, str]) -> str:
    for column in packed_columns(corpus.store, settings, models[EMBED.stage]):
        if with_fingerprint(corpus.store, column).input == "frames":
            return column.encoder
    raise PackError(
        "near-duplicates are found by vectors of pictures, and pack.vectors names none; name an encoder of pictures, "
        "too, or leave pack.dedup out"
    )


def _rows(parts: Iterable[ClipVectors], ids: pa.Array, shards: np.ndarray, dtype: type) -> np.ndarray:
    """Return a vector for every clip, `[N, D]`; zeros for a clip that has none."""
    found: np.ndarray = np.zeros((len(ids), 0), dtype)
    for part in parts:
        if not found.shape[1]:
            found = np.zeros((len(ids), part.vectors.shape[1]), dtype)
        first, last = np.searchsorted(shards, [part.shard, part.shard + 1]).tolist()
        places = pc.index_in(ids.slice(first, last - first), pa.array(part.ids, pa.string()))
        known = np.asarray(places.is_valid())
        own = np.asarray(places.drop_null(), np.int64)
        found[first:last][known] = part.vectors[own]
    return found
