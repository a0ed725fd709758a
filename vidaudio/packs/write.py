"""Packing of committed clips into the training shards that a loader streams; each output shard is one task.

Members are read from the committed tars by byte range (see `gather`). Training tars keep plain names, so that any
WebDataset reader can list them. The first complete tar under a name is kept, and its table, created last, describes
exactly that tar.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from vidaudio.corpus.columns import EXTRACT
from vidaudio.corpus.corpus import Corpus
from vidaudio.errors import CorpusError
from vidaudio.hashing import sha256_of
from vidaudio.media.flac import BadSound, decode_sound
from vidaudio.packs.description import read_pack_file
from vidaudio.packs.gather import GatheredClips, gathered
from vidaudio.packs.input_cache import drop_sources, sources_folder
from vidaudio.packs.plan import PackPlan
from vidaudio.packs.sample_format import describe, encode_sound, sample_members, sample_places, sound_format
from vidaudio.packs.tasks import PackedSample, PackTask
from vidaudio.packs.vectors import described_vectors, vectors_of_segment, with_fingerprint
from vidaudio.shards.commit import CommitRecord, encode_table, read_record
from vidaudio.shards.parallel_read import read_tables
from vidaudio.shards.store import Store
from vidaudio.shards.tar import Member, ShardWriter, list_members
from vidaudio.stream.index import INDEX_FILE, WEIGHT, sample_schema, table_schema
from vidaudio.stream.index_writer import IndexWriter
from vidaudio.stream.vector_columns import VectorColumn

# Key of a sample's JSON: by how much its sound was put earlier, seconds.
FIXED_OFFSET = "fixed_offset_seconds"


def pack_shard(corpus: Corpus, task: PackTask, models: Mapping[str, str]) -> CommitRecord:
    """Write one training shard and its table, unless the table exists; return the record of the shard."""
    store = corpus.store
    table_at = f"{task.folder}/{task.name}.parquet"
    if store.exists(table_at):
        return read_record(store, table_at)
    with store.workspace() as scratch, gathered(corpus, task, models, scratch) as clips:
        tar = scratch / "shard.tar"
        described: list[dict[str, Any]] = []
        weighted = [{}] * len(task.samples) if task.weights is None else [{WEIGHT: own} for own in task.weights]
        late = task.late or (None,) * len(task.samples)
        with ShardWriter(tar) as writer:
            for sample, weight, own_late in zip(task.samples, weighted, late, strict=True):
                facts, parts = _encode(clips, sample, task, weight, own_late)
                writer.write(sample.key, parts)
                described.append(facts)
        target = f"{task.folder}/{task.name}.tar"
        inside, sha, size = list_members(tar), sha256_of(tar), tar.stat().st_size
        if not store.put_new(target, tar):
            inside, sha, size = _standing_tar(store, target, scratch)
        table = _sample_table(described, inside, task, clips.columns)
        record = CommitRecord("pack", task.number, task.plan_hash, table.num_rows, f"{task.name}.tar", sha, size)
        store.create(table_at, encode_table(table, record))
        return record


def finish_pack(corpus: Corpus, plan: PackPlan) -> None:
    """Write the index, which loaders map into memory, the list of what is left out, and the card.

    Call when every shard exists.
    """
    from vidaudio.packs.card import CARD_FILE, write_card
    from vidaudio.packs.left_out import LEFT_OUT_FILE, write_left_out

    standing = corpus.store.list(plan.folder)
    if LEFT_OUT_FILE not in standing:
        write_left_out(corpus, plan)
    if INDEX_FILE not in standing:
        write_pack_index(corpus, plan.folder)
    if CARD_FILE not in standing:
        write_card(corpus, plan.folder)
    drop_sources(corpus.store, sources_folder(plan.plan_hash))


def write_pack_index(corpus: Corpus, folder: str) -> None:
    """Write or replace a pack's index: all its tables, one after another.

    The index depends only on committed files of the corpus, so every process writes the same one.

    Raises:
        CorruptFileError: When a table or the description of the encoder is damaged.
    """
    described = read_pack_file(corpus.store, folder)
    columns = [with_fingerprint(corpus.store, column) for column in described.vector_columns]
    weight = described.settings.weight
    schema = sample_schema(columns, weighted=weight is not None)
    tars: list[str | None] = []
    with corpus.store.workspace() as scratch, IndexWriter(schema, scratch) as writer:
        names = (f"{folder}/{name}.parquet" for name in described.shards)
        for number, (table, record) in enumerate(read_tables(corpus.store, names)):
            column = pa.array(np.full(table.num_rows, number), pa.int32())
            writer.add(table.append_column("shard", column).select(schema.names).cast(schema))
            tars.append(record.tar)
        metadata = {
            "tars": tars,
            "audio": sound_format(described.settings.audio),
            "sample_rate": corpus.settings.extract.sample_rate,
            "frames_per_second": corpus.settings.extract.frames_per_second,
            "encoder": dict(columns[0].fingerprint),
            "vectors": [column.described() | {"fingerprint": dict(column.fingerprint)} for column in columns],
            "plan_hash": described.plan_hash,
            "generation": described.generation,
            "removed_samples": described.removed_samples,
            **({} if weight is None else {WEIGHT: weight}),
        }
        writer.write(scratch / INDEX_FILE, metadata)
        corpus.store.put(f"{folder}/{INDEX_FILE}", scratch / INDEX_FILE)


class _Sound(NamedTuple):
    """The sound of one sample.

    Attributes:
        data: Encoded sound.
        samples: Number of sound samples.
        start_seconds: Time of the first sound sample, on the sample's own clock.
        shift_seconds: Start of the sample's own clock, on the clip's clock.
    """

    data: bytes
    samples: int
    start_seconds: float
    shift_seconds: float


def _encode(
    clips: GatheredClips, sample: PackedSample, task: PackTask, weight: Mapping[str, float], late: float | None
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return the facts and the tar members of one sample.

    Args:
        clips: Clips of the shard.
        sample: The sample.
        task: The shard.
        weight: What the sample says of its weight, if it has one.
        late: How much later than its pictures its sound is, seconds: it is put earlier; None in a pack that leaves
            offsets alone.
    """
    audio = sound_format(task.settings.audio)
    gathered_clip = clips[sample.clip_id]
    facts, clip = gathered_clip.facts, gathered_clip.row
    if late is not None:
        facts = {**facts, "audio_start_seconds": facts["audio_start_seconds"] - late}
    segment = sample.segment
    sound = _sound(clips, sample, facts, audio)
    frames = slice(segment.first_frame, segment.first_frame + segment.frames)
    shift = sound.shift_seconds
    described = describe(
        clip,
        task.split,
        start_seconds=clip.start_seconds + shift,
        samples=sound.samples,
        audio_start_seconds=sound.start_seconds,
        frame_seconds=[s - shift for s in facts["frame_seconds"][frames]],
        grid_seconds=[s - shift for s in facts["grid_seconds"][frames]],
    )
    described |= {**weight, **({} if late is None else {FIXED_OFFSET: round(late, 4)})}
    end_seconds = shift + sound.samples / clips.sample_rate
    vectors = [
        (column, vectors_of_segment(column, gathered_clip.vectors[column.encoder], segment, shift, end_seconds))
        for column in clips.columns
    ]
    told = described_vectors(vectors)
    parts = sample_members(audio, sound.data, {c.member: own.values for c, own in vectors}, described | told)
    if task.settings.frames:
        spans = list(zip(facts["frame_offsets"], facts["frame_lengths"], strict=True))[frames]
        parts |= {f"{n:03d}.jpg": clips.read(*span, sample.shard) for n, span in enumerate(spans)}
    seconds = {c.seconds: told["vectors_seconds"][c.encoder] for c in clips.columns if c.input == "sound"}
    return {"key": sample.key, **described, **seconds}, parts


def _sound(clips: GatheredClips, sample: PackedSample, facts: Mapping[str, Any], audio: str) -> _Sound:
    """Return the sound of one sample, which is encoded again unless it is a whole clip in FLAC."""
    segment, start_seconds = sample.segment, facts["audio_start_seconds"]
    sound = clips.read(facts["audio_offset"], facts["audio_length"], sample.shard)
    if segment.whole and audio == "flac":
        return _Sound(sound, facts["samples"], start_seconds, 0.0)
    try:
        values, rate = decode_sound(sound, facts["samples"])
    except BadSound as error:
        raise CorpusError(
            f"the sound of {sample.clip_id}, in shard {sample.shard} of {EXTRACT.folder}, is damaged: {error}; "
            "`vidaudio verify` names the remedy"
        ) from error
    if segment.start_sample is None:
        return _Sound(encode_sound(values, rate, audio), facts["samples"], start_seconds, 0.0)
    # A segment is treated as a small clip: its clock starts at its first sample.
    shift = start_seconds + segment.start_sample / rate
    cut = _cut(values, segment.start_sample, segment.samples)
    return _Sound(encode_sound(cut, rate, audio), segment.samples, 0.0, shift)


def _cut(values: np.ndarray, start: int, samples: int) -> np.ndarray:
    """Return `samples` values from `start`, with zeros where the sound has none."""
    cut = np.zeros(samples, np.int16)
    begin, end = max(0, start), min(len(values), start + samples)
    if end > begin:
        cut[begin - start : end - start] = values[begin:end]
    return cut


def _sample_table(
    described: Sequence[Mapping[str, Any]],
    inside: Mapping[str, Member],
    task: PackTask,
    columns: Sequence[VectorColumn],
) -> pa.Table:
    audio = sound_format(task.settings.audio)
    rows = [{**facts, **sample_places(inside, facts["key"], audio, columns)} for facts in described]
    return pa.Table.from_pylist(rows, schema=table_schema(columns, weighted=task.weights is not None))


def _standing_tar(store: Store, name: str, scratch) -> tuple[dict[str, Member], str, int]:
    """Return members, SHA-256 and size of the tar that another task completed first."""
    local = store.local_path(name)
    if local is None:
        local = scratch / "standing.tar"
        store.download(name, local)
    return list_members(local), sha256_of(local), local.stat().st_size
