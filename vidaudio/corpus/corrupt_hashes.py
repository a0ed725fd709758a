"""Hashes of corrupt files that were fetched for retried clips, so that the same bytes are not fetched again and again.

They are stored beside the run logs. No identity check reads them; without them a clip is fetched once more than needed.
There is one table per manifest part that was planned for a retry, `runs/corrupt/<part>`.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vidaudio.corpus.columns import DOWNLOAD, EXTRACT, Column
from vidaudio.corpus.corpus import Corpus
from vidaudio.errors import CorpusError, StoreError
from vidaudio.manifest.source import RowSource
from vidaudio.media.outcomes import Reason, State
from vidaudio.shards.commit import table_name
from vidaudio.shards.parallel_read import read_tables
from vidaudio.shards.store import Store

FOLDER = "runs/corrupt"
SCHEMA = pa.schema([("id", pa.string()), ("sha256", pa.string()), ("decoded", pa.bool_())])
_CORRUPT = (Reason.CORRUPT.value, Reason.CORRUPT_FETCHED.value)


@dataclass(frozen=True, slots=True)
class CorruptHashes:
    """SHA-256 hashes of the corrupt files of one clip.

    Attributes:
        fetched: Hashes of files that the download refused.
        undecodable: Hashes of files that could not be decoded.
    """

    fetched: tuple[str, ...] = ()
    undecodable: tuple[str, ...] = ()


def write_corrupt_hashes(corpus: Corpus, part: str, rows: RowSource, ids_by_shard: Mapping[int, pa.Array]) -> None:
    """Write the hashes of corrupt files for the clips of a part that was planned for a retry.

    Args:
        corpus: The corpus.
        part: File of the part.
        rows: Rows of the part.
        ids_by_shard: Ids of the part's clips, by the shard in which they were tried last.
    """
    found = pa.concat_tables([SCHEMA.empty_table(), *(_tried(corpus, s, ids) for s, ids in ids_by_shard.items())])
    if not found.num_rows:
        return
    sink = io.BytesIO()
    pq.write_table(_own(found, rows), sink)
    # Without the file the clips are fetched once more than needed: no reason to stop.
    with contextlib.suppress(OSError, StoreError):
        corpus.store.create(f"{FOLDER}/{PurePosixPath(part).name}", sink.getvalue())


def read_corrupt_hashes(store: Store, clip_ids: Collection[str]) -> dict[str, CorruptHashes]:
    """Return the known hashes of these clips, by id."""
    wanted = pa.array(sorted(clip_ids), pa.string())
    known: dict[str, CorruptHashes] = {}
    for name in sorted(store.list(FOLDER)):
        try:
            table = pq.read_table(io.BytesIO(store.read(f"{FOLDER}/{name}")), schema=SCHEMA)
        except (pa.ArrowException, OSError, CorpusError, StoreError):
            continue  # incomplete or damaged: ignored
        for row in table.filter(pc.is_in(table["id"], wanted)).to_pylist():
            before = known.get(row["id"], CorruptHashes())
            if row["decoded"]:
                known[row["id"]] = CorruptHashes(before.fetched, (*before.undecodable, row["sha256"]))
            else:
                known[row["id"]] = CorruptHashes((*before.fetched, row["sha256"]), before.undecodable)
    return known


def _tried(corpus: Corpus, shard: int, ids: pa.Array) -> pa.Table:
    """Return the hashes of files of one shard's clips that the download or the decoder refused."""
    clips = _fields(corpus, DOWNLOAD, shard, ("id", "state", "reason", "sha256"))
    clips = clips.filter(pc.and_(pc.is_in(clips["id"], ids), pc.greater(pc.utf8_length(clips["sha256"]), 0)))
    done = pc.equal(clips["state"], State.DONE.value)
    refused = clips.filter(pc.and_(pc.invert(done), pc.is_in(clips["reason"], pa.array(_CORRUPT))))
    undecodable = clips.filter(pc.and_(done, pc.is_in(clips["id"], _not_decoded(corpus, shard))))
    return pa.concat_tables([_hashes(refused, decoded=False), _hashes(undecodable, decoded=True)])


def _not_decoded(corpus: Corpus, shard: int) -> pa.Array:
    if not corpus.store.exists(table_name(EXTRACT.folder, shard)):
        return pa.array([], pa.string())
    av = _fields(corpus, EXTRACT, shard, ("id", "reason"))
    return av.filter(pc.is_in(av["reason"], pa.array(_CORRUPT)))["id"].combine_chunks()


def _fields(corpus: Corpus, column: Column, shard: int, names: Sequence[str]) -> pa.Table:
    ((table, _),) = read_tables(corpus.store, [table_name(column.folder, shard)], columns=names)
    return table


def _hashes(clips: pa.Table, *, decoded: bool) -> pa.Table:
    flags = pa.array([decoded] * clips.num_rows, pa.bool_())
    return pa.table([clips["id"], clips["sha256"], flags], schema=SCHEMA)


def _own(found: pa.Table, rows: RowSource) -> pa.Table:
    """Return the hashes without refused files shared by several sources: these are a site's error page."""
    wanted = pc.unique(found["id"])
    listed = pa.concat_tables(table.filter(pc.is_in(table["id"], wanted)) for table in rows.tables(["id", "source"]))
    joined = found.join(listed, "id")
    counts = joined.filter(pc.invert(joined["decoded"])).group_by("sha256").aggregate([("source", "count_distinct")])
    shared = counts.filter(pc.greater(counts["source_count_distinct"], 1))["sha256"].combine_chunks()
    own = pc.or_(joined["decoded"], pc.invert(pc.is_in(joined["sha256"], shared)))
    return joined.filter(own).select(SCHEMA.names).sort_by("id")
