"""Sources of a pack: the clips of one shard of the corpus, written so that each can be read by its range.

A training shard of a large corpus draws nearly every sample from another source shard. Read from the corpus's tables,
one clip costs the whole table of its shard's vectors, and the row group of the list that it stands in, once for every
training shard. So a pack that would read every source shard often has each read once, into a file in `runs/`: the
places of its clips, and one record a clip, with its rows of the list and of av, and its vectors.

These files are no part of the pack. They go when it is finished, and when clips are removed; where one is missing, the
tables are read, and the pack is the same.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vidaudio.corpus.corpus import Corpus
from vidaudio.errors import CorpusError, ManifestError
from vidaudio.json_values import parse_object
from vidaudio.manifest import Clip
from vidaudio.packs.tasks import PackTasks
from vidaudio.shards.commit import read_table, table_name
from vidaudio.shards.names import is_tar_name
from vidaudio.shards.store import Store

SOURCES_FOLDER = "runs/packs"
# Source shards are made ready where they would otherwise be read this often each.
PAYS_FROM_VISITS = 4
# Read at once for the places of a shard's clips; where they are more, a second read follows.
HEAD_BYTES = 32 << 10
_LENGTH = struct.Struct("<Q")
SOURCE_DAMAGE = (struct.error, ValueError, KeyError, TypeError, AttributeError, OverflowError, ManifestError)


@dataclass(frozen=True, slots=True)
class GatheredClip:
    """What is known of one clip: its row in av, its vectors float16 `[frames, D]`, its row of the list."""

    facts: dict[str, Any]
    vectors: np.ndarray
    row: Clip


@dataclass(frozen=True, slots=True)
class SourceClips:
    """Some clips of one source shard, by id, and the tar in av that their places are in."""

    clips: dict[str, GatheredClip]
    tar: str


def is_worthwhile(tasks: PackTasks) -> bool:
    """Whether reading every source shard once more, to write its clips by themselves, saves reading."""
    return tasks.visits() > PAYS_FROM_VISITS * len(tasks.source_shards())


def sources_folder(plan_hash: str) -> str:
    """Where the sources of a plan lie."""
    return f"{SOURCES_FOLDER}/{plan_hash[:16]}"


def source_name(shard: int) -> str:
    """The file of one source shard."""
    return f"{shard:06d}.clips"


def write_sources(corpus: Corpus, shard: int, encoder_name: str, folder: str) -> int:
    """Write the usable clips of a source shard, unless they are there; returns how many there are."""
    found = from_tables(corpus, shard, encoder_name, None)
    records, places, end = [], {}, 0
    for clip_id, clip in found.clips.items():
        about = json.dumps(
            {"facts": clip.facts, "row": dataclasses.asdict(clip.row), "dimensions": clip.vectors.shape[1]}
        ).encode()
        record = _LENGTH.pack(len(about)) + about + np.ascontiguousarray(clip.vectors, np.float16).tobytes()
        places[clip_id] = [end, len(record)]
        end += len(record)
        records.append(record)
    head = json.dumps({"tar": found.tar, "places": places}).encode()
    corpus.store.create(f"{folder}/{source_name(shard)}", b"".join([_LENGTH.pack(len(head)), head, *records]))
    return len(records)


def from_sources(store: Store, shard: int, wanted: Collection[str], folder: str) -> SourceClips:
    """Some clips of a source shard, each read by its range.

    Raises:
        FileNotFoundError: The source shard was not written, is gone again, or cannot be read.
    """
    try:
        return _read_sources(store, f"{folder}/{source_name(shard)}", wanted)
    except SOURCE_DAMAGE as error:
        # It is a copy of what the tables say: they are read where it cannot be.
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
    vectors = np.frombuffer(record, np.float16, offset=begin).reshape(-1, about["dimensions"])
    return GatheredClip(about["facts"], vectors, Clip(**row))


def from_tables(corpus: Corpus, shard: int, encoder_name: str, wanted: Collection[str] | None) -> SourceClips:
    """Clips of a source shard, from the corpus's tables; all usable ones for `wanted` None."""
    store = corpus.store
    av, record = read_table(store, table_name("av", shard))
    usable = av.filter(pc.equal(av["state"], "done"))
    facts = {row["id"]: row for row in _only(usable, wanted).to_pylist()}
    embedded = _only(read_table(store, table_name(f"embeddings/{encoder_name}", shard))[0], wanted)
    vectors = _vectors(embedded)
    rows = {clip.id: clip for clip in corpus.rows(shard)}
    kept = {clip: GatheredClip(facts[clip], vectors[clip], rows[clip]) for clip in facts if clip in vectors}
    if record.tar is None:
        raise CorpusError(f"{store.url}/{table_name('av', shard)} names no tar; `vidaudio verify` names the remedy")
    return SourceClips(kept, record.tar)


def drop_sources(store: Store, folder: str) -> None:
    """Delete the sources of one plan."""
    for name in store.list(folder):
        store.remove(f"{folder}/{name}")
    local = store.local_path(folder)
    if local is not None:
        with contextlib.suppress(OSError):  # somebody is writing there at this moment, or nothing is there
            local.rmdir()


def drop_all_sources(store: Store) -> None:
    """Delete the sources of every plan: they hold clips that were removed meanwhile."""
    for name in store.folders(SOURCES_FOLDER):
        drop_sources(store, f"{SOURCES_FOLDER}/{name}")


def _only(table: pa.Table, wanted: Collection[str] | None) -> pa.Table:
    return table if wanted is None else table.filter(pc.is_in(table["id"], pa.array(sorted(wanted), pa.string())))


def _vectors(embedded: pa.Table) -> dict[str, np.ndarray]:
    """By clip, vectors of its pictures; copies, so that the table they come from can go."""
    return {clip_id: rows.copy() for clip_id, rows in _rows_by_clip(embedded)}


def _rows_by_clip(embedded: pa.Table) -> Iterator[tuple[str, np.ndarray]]:
    if not embedded.num_rows:
        return
    column = embedded["embedding"].combine_chunks()
    flat = column.flatten().to_numpy(zero_copy_only=False).reshape(len(embedded), -1)
    ids = np.asarray(embedded["id"].to_pylist())
    edges = np.flatnonzero(np.r_[True, ids[1:] != ids[:-1]])
    for first, last in zip(edges, [*edges[1:], len(ids)], strict=True):
        yield str(ids[first]), flat[first:last]
