"""A training shard is written in a stream: however large it is, the process that packs it holds a few samples."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from vidaudio.config.corpus import load_corpus_recipe
from vidaudio.corpus.corpus import Corpus, create_or_open
from vidaudio.manifest import Clip, table_from_clips
from vidaudio.pipeline.stages import extract
from vidaudio.shards.commit import commit
from vidaudio.shards.tar import ShardWriter, list_members

CLIPS, SOUND_BYTES, FRAME_BYTES = 96, 700_000, 100_000
ENCODER = "by-hand"
SECONDS = (0.0, 1.0, 2.0)
PACK = """
import json, resource, sys
from vidaudio.corpus.corpus import open_corpus
from vidaudio.packs.plan import begin_pack, plan_pack
from vidaudio.packs.input_cache import sources_folder, write_sources
from vidaudio.packs.vectors import packed_columns
from vidaudio.packs.write import pack_shard

corpus, with_sources = open_corpus(sys.argv[1]), sys.argv[2] == "sources"
models = {"embed": sys.argv[3]}
most = {}
# The first and small one brings along what any packing does: libraries, Arrow's pools.
for name, clips, where in (("small", 4, "id <= 'c003'"), ("large", 1000, None)):
    settings = corpus.pack.model_copy(
        update={"name": f"{name}-{sys.argv[2]}", "clips_per_shard": clips, "where": where, "frames": True}
    )
    plan = plan_pack(corpus, settings, models)
    begin_pack(corpus, plan, models)
    tasks = plan.tasks
    if with_sources:
        tasks = tasks.reading(sources_folder(plan.plan_hash))
        for shard in tasks.source_shards().tolist():
            write_sources(corpus, shard, packed_columns(corpus.store, settings, sys.argv[3]), tasks.sources)
    (task,) = tasks
    record = pack_shard(corpus, task, models)
    most[name] = {"bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, "tar": record.tar_bytes}
print(json.dumps(most))
"""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """One shard of large clips, committed as the stages commit: packing looks at no byte of sounds and pictures."""
    rows = [Clip(f"c{n:03d}", f"s:{n}", "d", f"/nowhere/{n}.mp4", end_seconds=3.0, split="train") for n in range(CLIPS)]
    recipe = load_corpus_recipe("folder", ("embed.encoder.precision=float32",))
    made = create_or_open(str(tmp_path_factory.mktemp("large") / "corpus"), recipe, table_from_clips(rows))
    noise = np.random.default_rng(0)
    with made.store.workspace() as scratch:
        tar = scratch / "av.tar"
        with ShardWriter(tar) as writer:
            for clip in rows:
                parts = {f"{n:03d}.jpg": noise.bytes(FRAME_BYTES) for n in range(len(SECONDS))}
                writer.write(clip.id, {"flac": noise.bytes(SOUND_BYTES), **parts, "json": b"{}"})
        inside = list_members(tar)
        facts = []
        for clip in rows:
            sound, frames = inside[f"{clip.id}.flac"], [inside[f"{clip.id}.{n:03d}.jpg"] for n in range(len(SECONDS))]
            fact = {"id": clip.id, "state": "done", "seconds": 3.0, "video_seconds": 3.0, "samples": 48_000}
            fact |= {"audio_start_seconds": 0.0, "frame_seconds": SECONDS, "grid_seconds": SECONDS, "rms_dbfs": -20.0}
            fact |= {"silent": False, "motion": 1.0, "decode_errors": 0, "audio_gaps": 0}
            fact |= {"audio_offset": sound.offset, "audio_length": sound.length}
            fact |= {"frame_offsets": [f.offset for f in frames], "frame_lengths": [f.length for f in frames]}
            facts.append(fact)
        table = pa.Table.from_pylist(facts, schema=extract.AV_SCHEMA)
        commit(made.store, "av", 0, stage="extract", plan_hash=made.plan_hash, table=table, tar=tar)
    embedded = {
        "id": [clip.id for clip in rows for _ in SECONDS],
        "frame_seconds": [second for _ in rows for second in SECONDS],
        "embedding": pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(CLIPS * len(SECONDS) * 8, np.float16)), 8),
    }
    folder = f"embeddings/{ENCODER}"
    commit(made.store, folder, 0, stage="embed", plan_hash=made.plan_hash, table=pa.table(embedded))
    made.store.create(f"{folder}/encoder.json", b'{"dimensions": 8}')
    return made


@pytest.mark.parametrize("way", ["tables", "sources"])
def test_a_training_shard_far_larger_than_its_samples_takes_the_memory_of_a_few(corpus: Corpus, way: str):
    command = [sys.executable, "-c", PACK, corpus.url, way, ENCODER]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    most = json.loads(done.stdout.splitlines()[-1])
    sample = SOUND_BYTES + len(SECONDS) * FRAME_BYTES
    assert most["large"]["tar"] > CLIPS * sample
    assert most["small"]["tar"] < 5 * sample
    # What grows with the shard are its clips' facts and vectors, a kilobyte or two each.
    assert most["large"]["bytes"] - most["small"]["bytes"] < 16 * sample < most["large"]["tar"] / 5
