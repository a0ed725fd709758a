"""The plan: which clip belongs to which shard. A pure function of manifest and settings, so every run agrees on it."""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vidaudio.errors import CorpusError
from vidaudio.manifest import SCHEMA


def assign_shards(manifest: pa.Table, shard_clips: int) -> pa.Table:
    """Number the rows' shards and order the rows by them.

    Clips of one source stay together, in one shard, so that a source is fetched once; sources keep the order of their
    first clip. A shard is closed once it holds `shard_clips` clips, so only a source with very many makes it larger.
    """
    if manifest.num_rows == 0:
        raise CorpusError("the manifest has no clips")
    codes = pc.dictionary_encode(manifest["source"]).combine_chunks().indices.to_numpy()
    order = np.argsort(codes, kind="stable")
    clips_of_source = np.bincount(codes)
    shard_of_source = np.empty(len(clips_of_source), np.int32)
    shard = held = 0
    for source, clips in enumerate(clips_of_source):
        if held >= shard_clips:
            shard, held = shard + 1, 0
        shard_of_source[source] = shard
        held += clips
    shards = pa.array(shard_of_source[codes][order], pa.int32())
    ordered = manifest.take(pa.array(order))
    return ordered.set_column(SCHEMA.get_field_index("shard"), SCHEMA.field("shard"), shards)


def manifest_hash(planned: pa.Table) -> str:
    """SHA-256 over every value of the planned rows, in order."""
    digest = hashlib.sha256()
    for batch in planned.select(SCHEMA.names).combine_chunks().to_batches():
        for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            digest.update(repr(row).encode())
    return digest.hexdigest()
