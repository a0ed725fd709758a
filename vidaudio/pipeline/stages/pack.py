"""pack: committed clips to the training shards that a loader streams; each output shard is one task.

Members are read by range from the committed tars. Training tars keep plain names, so that any WebDataset reader can
list them; the first complete tar under a name stands, and its table, created last, describes that very tar.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import soundfile

from vidaudio.pipeline.corpus import Corpus
from vidaudio.pipeline.pack_plan import PackedSample, PackPlan, PackTask
from vidaudio.shards.commit import CommitRecord, encode_table, read_record, read_table, table_name
from vidaudio.shards.read import TarReader
from vidaudio.shards.store import Store
from vidaudio.shards.tar import Member, ShardWriter, members, sha256_of
from vidaudio.stream.index import INDEX_FILE, SAMPLE_SCHEMA, write_index
from vidaudio.stream.reader import WAV_HEADER_BYTES


def pack_shard(corpus: Corpus, task: PackTask, encoder_name: str) -> CommitRecord:
    """Write one training shard and its table; returns what stands."""
    store = corpus.store
    table_at = f"{task.folder}/{task.name}.parquet"
    if store.exists(table_at):
        return read_record(store, table_at)
    audio = "wav" if task.settings.audio == "pcm16" else "flac"
    with store.workspace() as scratch, _ClipReader(corpus, encoder_name) as reader:
        tar = scratch / "shard.tar"
        described: list[dict[str, Any]] = []
        with ShardWriter(tar) as writer:
            for sample in task.samples:
                facts, parts = _encode(reader, sample, audio, split=task.split, with_frames=task.settings.frames)
                writer.write(sample.key, parts)
                described.append(facts)
        target = f"{task.folder}/{task.name}.tar"
        inside, sha, size = members(tar), sha256_of(tar), tar.stat().st_size
        if not store.put_new(target, tar):
            inside, sha, size = _standing_tar(store, target, scratch)
        table = _sample_table(described, inside, audio)
        record = CommitRecord("pack", task.number, task.plan_hash, table.num_rows, f"{task.name}.tar", sha, size)
        store.create(table_at, encode_table(table, record))
        return record


def finish_pack(corpus: Corpus, plan: PackPlan, encoder_name: str) -> None:
    """Write the index that loaders map into memory, once every shard stands."""
    tables = []
    for number, task in enumerate(plan.tasks):
        table, _ = read_table(corpus.store, f"{plan.folder}/{task.name}.parquet")
        column = pa.array(np.full(table.num_rows, number), pa.int32())
        tables.append(table.append_column("shard", column).select(SAMPLE_SCHEMA.names).cast(SAMPLE_SCHEMA))
    encoder = json.loads(corpus.store.read(f"embeddings/{encoder_name}/encoder.json"))
    metadata = {
        "tars": [f"{task.name}.tar" for task in plan.tasks],
        "audio": "wav" if plan.settings.audio == "pcm16" else "flac",
        "sample_rate": corpus.recipe.extract.sample_rate,
        "frames_per_second": corpus.recipe.extract.frames_per_second,
        "encoder": encoder,
        "plan_hash": plan.plan_hash,
    }
    with corpus.store.workspace() as scratch:
        write_index(scratch / INDEX_FILE, pa.concat_tables(tables), metadata)
        corpus.store.put_new(f"{plan.folder}/{INDEX_FILE}", scratch / INDEX_FILE)


class _ClipReader:
    """Members of committed clips, each table and tar opened once a task."""

    def __init__(self, corpus: Corpus, encoder_name: str) -> None:
        self._corpus = corpus
        self._encoder_name = encoder_name
        self._shards: dict[int, tuple[dict[str, dict], dict[str, np.ndarray], dict[str, Any], TarReader]] = {}

    def clip(self, sample: PackedSample) -> tuple[dict[str, Any], np.ndarray, Any, TarReader]:
        """Facts, embeddings `[frames, D]` float16, manifest row and tar of a sample's clip."""
        if sample.shard not in self._shards:
            self._shards[sample.shard] = self._open(sample.shard)
        facts, vectors, rows, tar = self._shards[sample.shard]
        return facts[sample.clip_id], vectors[sample.clip_id], rows[sample.clip_id], tar

    def _open(self, shard: int):
        store = self._corpus.store
        av, record = read_table(store, table_name("av", shard))
        facts = {row["id"]: row for row in av.to_pylist() if row["state"] == "done"}
        embedded, _ = read_table(store, table_name(f"embeddings/{self._encoder_name}", shard))
        column = embedded["embedding"].combine_chunks()
        flat = column.flatten().to_numpy(zero_copy_only=False).reshape(len(embedded), -1)
        ids = np.asarray(embedded["id"].to_pylist())
        edges = np.flatnonzero(np.r_[True, ids[1:] != ids[:-1]]) if len(ids) else np.zeros(0, int)
        vectors = {ids[a]: flat[a:b] for a, b in zip(edges, [*edges[1:], len(ids)], strict=True)}
        rows = {clip.id: clip for clip in self._corpus.rows(shard)}
        return facts, vectors, rows, TarReader(store, f"av/{record.tar}", whole=False)

    def __enter__(self) -> _ClipReader:
        return self

    def __exit__(self, *_: object) -> None:
        for *_rest, tar in self._shards.values():
            tar.close()


def _encode(
    reader: _ClipReader, sample: PackedSample, audio: str, *, split: str, with_frames: bool
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Facts and members of one sample."""
    facts, vectors, clip, tar = reader.clip(sample)
    segment = sample.segment
    sound = tar.read(facts["audio_offset"], facts["audio_length"])
    start_seconds = facts["audio_start_seconds"]
    frames = slice(segment.first_frame, segment.first_frame + segment.frames)
    shift = 0.0
    samples = facts["samples"]
    if not segment.whole or audio != "flac":
        values, rate = soundfile.read(io.BytesIO(sound), dtype="int16")
        if not segment.whole:
            # A segment is a little clip of its own: its clock starts at its first sample.
            shift = start_seconds + segment.start_sample / rate
            start_seconds = 0.0
            values = _cut(values, segment.start_sample, segment.samples)
            samples = segment.samples
        sink = io.BytesIO()
        soundfile.write(sink, values, rate, format=audio.upper(), subtype="PCM_16")
        sound = sink.getvalue()
        if audio == "wav" and len(sound) != WAV_HEADER_BYTES + 2 * len(values):
            raise ValueError("this libsndfile writes WAV headers of another size than the loader skips")
    described = {
        "id": clip.id,
        "source": clip.source,
        "dataset": clip.dataset,
        "split": split,
        "labels": list(clip.labels),
        "captions": list(clip.captions),
        "start_seconds": round(clip.start_seconds + shift, 6),
        "samples": samples,
        "audio_start_seconds": start_seconds,
        "frame_seconds": [round(s - shift, 6) for s in facts["frame_seconds"][frames]],
        "grid_seconds": [round(s - shift, 6) for s in facts["grid_seconds"][frames]],
    }
    array = io.BytesIO()
    np.lib.format.write_array(array, np.ascontiguousarray(vectors[frames]), allow_pickle=False)
    parts = {
        audio: sound,
        "clip.npy": array.getvalue(),
        "json": json.dumps(described, sort_keys=True, ensure_ascii=False).encode(),
    }
    if with_frames:
        spans = list(zip(facts["frame_offsets"], facts["frame_lengths"], strict=True))[frames]
        parts |= {f"{n:03d}.jpg": tar.read(*span) for n, span in enumerate(spans)}
    return {"key": sample.key, **described}, parts


def _cut(values: np.ndarray, start: int, samples: int) -> np.ndarray:
    """`samples` values from `start`, zeros where there are none."""
    cut = np.zeros(samples, np.int16)
    begin, end = max(0, start), min(len(values), start + samples)
    if end > begin:
        cut[begin - start : end - start] = values[begin:end]
    return cut


def _sample_table(described: Sequence[Mapping[str, Any]], inside: Mapping[str, Member], audio: str) -> pa.Table:
    rows = []
    for facts in described:
        sound, vectors = inside[f"{facts['key']}.{audio}"], inside[f"{facts['key']}.clip.npy"]
        rows.append(
            {
                **facts,
                "audio_offset": sound.offset,
                "audio_length": sound.length,
                "vectors_offset": vectors.offset,
                "vectors_length": vectors.length,
            }
        )
    schema = pa.schema([field for field in SAMPLE_SCHEMA if field.name != "shard"])
    return pa.Table.from_pylist(rows, schema=schema)


def _standing_tar(store: Store, name: str, scratch) -> tuple[dict[str, Member], str, int]:
    """Describe the tar that another task completed first."""
    local = store.local_path(name)
    if local is None:
        local = scratch / "standing.tar"
        store.download(name, local)
    return members(local), sha256_of(local), local.stat().st_size
