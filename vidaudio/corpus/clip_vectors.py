"""One vector a clip: the mean direction of its pictures, or its sound's, read shard by shard."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from vidaudio.corpus.columns import EMBED, SCORE
from vidaudio.corpus.corpus import Corpus
from vidaudio.correspondence.windows import unit
from vidaudio.errors import CorpusError
from vidaudio.shards.commit import committed_shards, table_name
from vidaudio.shards.parallel_read import read_tables


@dataclass(frozen=True)
class ClipVectors:
    """Vectors of the clips of a shard.

    Attributes:
        shard: Its number.
        ids: Of the clips `[N]`, each once, in the order of the table.
        vectors: Unit vectors, float32 `[N, D]`.
    """

    shard: int
    ids: list[str]
    vectors: np.ndarray


def picture_vectors(corpus: Corpus, encoder: str) -> Iterator[ClipVectors]:
    """Yield the mean direction of the pictures of every clip, of the shards that are embedded.

    Args:
        corpus: The corpus.
        encoder: Name of the encoder, as that of its folder in `embeddings/`.
    """
    for shard, table in _tables(corpus, EMBED.model_folder(encoder), "embedding"):
        ids = table["id"].to_numpy(zero_copy_only=False)
        vectors = unit(_matrix(table["embedding"]))
        firsts = np.flatnonzero(np.concatenate([[True], ids[1:] != ids[:-1]]))
        yield ClipVectors(shard, ids[firsts].tolist(), unit(np.add.reduceat(vectors, firsts)))


def sound_vectors(corpus: Corpus, scorer: str) -> Iterator[ClipVectors]:
    """Yield the vector of the sound of every clip, of the shards that are scored; scores of other tools have none.

    Args:
        corpus: The corpus.
        scorer: Name of the scorer.
    """
    for shard, table in _tables(corpus, SCORE.model_folder(scorer), "sound_vector"):
        if table["sound_vector"].null_count:
            continue
        yield ClipVectors(shard, table["id"].to_pylist(), unit(_matrix(table["sound_vector"])))


def _tables(corpus: Corpus, folder: str, field: str) -> Iterator[tuple[int, pa.Table]]:
    shards = sorted(committed_shards(corpus.store, folder))
    tables = read_tables(corpus.store, (table_name(folder, shard) for shard in shards), columns=["id", field])
    for shard, (table, _) in zip(shards, tables, strict=True):
        if field not in table.column_names:
            raise CorpusError(
                f"{corpus.url}/{table_name(folder, shard)} is of an older version and has no {field}; delete {folder} "
                "while nothing is running, and write it again"
            )
        if table.num_rows:
            yield shard, table


def _matrix(column: pa.ChunkedArray) -> np.ndarray:
    values = column.combine_chunks().flatten().to_numpy()
    return values.reshape(len(column), -1).astype(np.float32)
