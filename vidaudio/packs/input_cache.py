"""Input cache of a pack: the clips of each corpus shard, written so that each clip can be read by its byte range.

A training shard of a large corpus takes nearly every sample from another corpus shard. Read from the corpus's tables,
one clip costs the whole vector table of its shard and the row group of the manifest that contains it, again for every
training shard. A pack that would read every corpus shard often therefore reads each of them once and writes a file in
`runs/`: the places of the shard's clips, and one record per clip with its manifest row, its av row and its vectors.

These files are not part of the pack. They are deleted when the pack is finished or clips are removed. If a file is
missing, the tables are read instead, and the pack is the same.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import struct
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vidaudio.corpus.columns import EMBED, EXTRACT
from vidaudio.corpus.corpus import Corpus
from vidaudio.errors import CorpusError, ManifestError
from vidaudio.json_values import parse_object
from vidaudio.manifest import Clip
from vidaudio.packs.tasks import PackTasks
from vidaudio.packs.vectors import ClipVectors
from vidaudio.shards.commit import read_table, table_name
from vidaudio.shards.names import is_tar_name
from vidaudio.shards.store import Store
from vidaudio.stream.vector_columns import VectorColumn

SOURCES_FOLDER = "runs/packs"
# An input cache is written if corpus shards would otherwise be read more often than this on average.
PAYS_FROM_VISITS = 4
# Size of the first read of a file's head, which lists the clips' places; a longer head needs a second read.
HEAD_BYTES = 32 << 10
_LENGTH = struct.Struct("<Q")
SOURCE_DAMAGE = (struct.error, ValueError, KeyError, TypeError, AttributeError, OverflowError, ManifestError)


@dataclass(frozen=True, slots=True)
class GatheredClip:
    """Facts of one clip: its av row, its vectors by encoder, and its manifest row."""

    facts: dict[str, Any]
    vectors: dict[str, ClipVectors]
    row: Clip


@dataclass(frozen=True, slots=True)
class SourceClips:
    """Some clips of one corpus shard, by id, and the av tar that contains their members."""

    clips: dict[str, GatheredClip]
    tar: str


def is_worthwhile(tasks: PackTasks) -> bool:
    """Return whether an input cache saves reads, although writing it reads every corpus shard once more."""
    return tasks.visits() > PAYS_FROM_VISITS * len(tasks.source_shards())


def sources_folder(plan_hash: str) -> str:
    """Return the folder of a plan's input cache."""
    return f"{SOURCES_FOLDER}/{plan_hash[:16]}"


def source_name(shard: int) -> str:
    """Return the name of the file that caches one corpus shard."""
    return f"{shard:06d}.clips"


def write_sources(corpus: Corpus, shard: int, columns: Sequence[VectorColumn], folder: str) -> int:
    """Write the usable clips of a corpus shard, unless the file exists; return the number of clips."""
    found = from_tables(corpus, shard, columns, None)
    records, places, end = [], {}, 0
    for clip_id, clip in found.clips.items():
        vectors = {
            name: {"shape": own.values.shape, "seconds": own.seconds, "texts": own.texts}
            for name, own in clip.vectors.items()
        }
        about = json.dumps({"facts": clip.facts, "row": dataclasses.asdict(clip.row), "vectors": vectors}).encode()
        values = (np.ascontiguousarray(own.values, np.float16).tobytes() for own in clip.vectors.values())
        record = b"".join([_LENGTH.pack(len(about)), about, *values])
        places[clip_id] = [end, len(record)]
        end += len(record)
        records.append(record)
    head = json.dumps({"tar": found.tar, "places": places}).encode()
    corpus.store.create(f"{folder}/{source_name(shard)}", b"".join([_LENGTH.pack(len(head)), head, *records]))
    return len(records)


def from_sources(store: Store, shard: int, wanted: Collection[str], folder: str) -> SourceClips:
    """Read some clips of a corpus shard from the input cache, each by its byte range.

    Args:
        store: Store of the corpus.
        shard: Number of the corpus shard.
        wanted: Ids of the clips; ids that the file does not contain are ignored.
        folder: Folder of the input cache.

    Raises:
        FileNotFoundError: When the file was not written, was deleted, or cannot be parsed.
    """
    try:
        return _read_sources(store, f"{folder}/{source_name(shard)}", wanted)
    except SOURCE_DAMAGE as error:
        # The file only copies what the tables contain, so the caller reads the tables instead.
        raise FileNotFoundError(f"{store.url}/{folder}/{source_name(shard)} is damaged") from error


def _read_sources(store: Store, name: str, wanted: Collection[str]) -> SourceClips:
    head = store.read_range(name, 0, HEAD_BYTES)
    (length,) = _LENGTH.unpack_from(head)
    begin = _LENGTH.size + length
    if len(head) < begin:
        head += store.read_range(name, len(head), begin - len(head))
    described = parse_object(head[_LENGTH.size : begin])
    if not is_tar_name(described["tar"]):
        raise ValueError("it names no tar")
    clips = {}
    for clip_id in wanted:
        if clip_id in described["places"]:
            offset, length = described["places"][clip_id]
            clips[clip_id] = _clip(store.read_range(name, begin + offset, length))
    return SourceClips(clips, described["tar"])


def _clip(record: bytes) -> GatheredClip:
    (length,) = _LENGTH.unpack_from(record)
    begin = _LENGTH.size + length
    about = parse_object(record[_LENGTH.size : begin])
    row = about["row"] | {name: tuple(about["row"][name]) for name in ("labels", "captions")}
    vectors = {}
    for name, own in about["vectors"].items():
        values = np.frombuffer(record, np.float16, count=math.prod(own["shape"]), offset=begin).reshape(own["shape"])
        vectors[name] = ClipVectors(values, tuple(own["seconds"]), tuple(own["texts"]))
        begin += values.nbytes
    return GatheredClip(about["facts"], vectors, Clip(**row))


def from_tables(
    corpus: Corpus, shard: int, columns: Sequence[VectorColumn], wanted: Collection[str] | None
) -> SourceClips:
    """Read clips of a corpus shard from the corpus's tables.

    A clip without vectors of its pictures is left out. It may have no vectors of sound or text.

    Args:
        corpus: Corpus to read from.
        shard: Number of the corpus shard.
        columns: Vector columns of the pack.
        wanted: Ids of the clips; None means all usable clips.
    """
    store = corpus.store
    av_at = table_name(EXTRACT.folder, shard)
    av, record = read_table(store, av_at)
    usable = av.filter(pc.equal(av["state"], "done"))
    facts = {row["id"]: row for row in _only(usable, wanted).to_pylist()}
    rows = {clip.id: clip for clip in corpus.rows(shard)}
    vectors: dict[str, dict[str, ClipVectors]] = {clip: {} for clip in facts}
    for column in columns:
        table = _only(read_table(store, table_name(EMBED.model_folder(column.encoder), shard))[0], wanted)
        own = _vectors(table, column)
        none = None if column.input == "frames" else ClipVectors(np.zeros((0, column.dimensions), np.float16))
        found = ((clip, own.get(clip, none)) for clip in vectors)
        vectors = {clip: vectors[clip] | {column.encoder: values} for clip, values in found if values is not None}
    kept = {clip: GatheredClip(facts[clip], own, rows[clip]) for clip, own in vectors.items()}
    if record.tar is None:
        raise CorpusError(f"{store.url}/{av_at} names no tar; `vidaudio verify` names the remedy")
    return SourceClips(kept, record.tar)


def drop_sources(store: Store, folder: str) -> None:
    """Delete the input cache of one plan."""
    for name in store.list(folder):
        store.remove(f"{folder}/{name}")
    local = store.local_path(folder)
    if local is not None:
        with contextlib.suppress(OSError):  # another process is writing there, or the folder is missing
            local.rmdir()


def drop_all_sources(store: Store) -> None:
    """Delete the input cache of every plan: they may contain clips that were removed meanwhile."""
    for name in store.folders(SOURCES_FOLDER):
        drop_sources(store, f"{SOURCES_FOLDER}/{name}")


def _only(table: pa.Table, wanted: Collection[str] | None) -> pa.Table:
    return table if wanted is None else table.filter(pc.is_in(table["id"], pa.array(sorted(wanted), pa.string())))


def _vectors(embedded: pa.Table, column: VectorColumn) -> dict[str, ClipVectors]:
    """Return the vectors of each clip, as copies, so that the table's memory can be freed."""
    if not embedded.num_rows:
        return {}
    values = embedded["embedding"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    values = values.reshape(len(embedded), -1)
    seconds = embedded["start_seconds"].to_pylist() if column.input == "sound" else []
    texts = embedded["text"].to_pylist() if column.input == "text" else []
    ids = np.asarray(embedded["id"].to_pylist())
    edges = np.flatnonzero(np.r_[True, ids[1:] != ids[:-1]])
    return {
        str(ids[first]): ClipVectors(values[first:last].copy(), tuple(seconds[first:last]), tuple(texts[first:last]))
        for first, last in zip(edges, [*edges[1:], len(ids)], strict=True)
    }
