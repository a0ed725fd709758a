"""The life of a corpus, killed behind every single write: releasing media, never keeping them, removing clips.

    python -m tests.chaos.life

`make chaos` runs it behind the builds; the tests strike some of the same writes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.media_world import list_world, pack_here, render_world, world_recipe, world_run
from tests.small_clip import write_small_clip
from vidaudio.corpus.corpus import Corpus, create_or_open
from vidaudio.demo.serve import FolderServer
from vidaudio.manifest import clips_from_table, read_manifest, table_from_clips
from vidaudio.pipeline.stages.download import download_shard
from vidaudio.pipeline.stages.embed import embed_shard, prepare_encoder
from vidaudio.pipeline.stages.extract import extract_shard

CLIPS = ("web_a", "web_b", "brief", "mute")
REMOVED = ("web_a", "mute")
# What is done, and to which corpus: one that was just begun, or one that is finished and packed.
ACTIONS = {"all": "begun", "until_extracted": "begun", "none": "begun", "remove": "packed"}


def main() -> int:
    faults = 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        render_world(folder / "world")
        with FolderServer(folder / "world") as server:
            world = list_world(folder / "world", server.url)
            encoder = write_small_clip(folder / "encoder")
            rows = [clip for clip in clips_from_table(read_manifest(world.manifest)) if clip.id in CLIPS]
            bases = {
                name: create_or_open(str(folder / name), world_recipe(encoder), table_from_clips(rows))
                for name in ("begun", "packed")
            }
            _finish(bases["packed"])
            for action, base in ACTIONS.items():
                faults += _strike(action, bases[base], folder / "work")
    return 1 if faults else 0


def _finish(corpus: Corpus) -> None:
    encoder = prepare_encoder(corpus)
    for shard in range(corpus.shards):
        download_shard(corpus, shard, "clips", world_run())
        extract_shard(corpus, shard, "av", world_run())
        embed_shard(corpus, shard, f"embeddings/{encoder}", world_run())
    pack_here(corpus, corpus.pack)


def _strike(action: str, corpus: Corpus, work: Path) -> int:
    """Strike behind every write; prints a line, and one for each fault."""
    task = {"base": corpus.url, "work": str(work), "action": action, "ids": REMOVED}
    command = [sys.executable, "-m", "tests.pipeline.killed_life", json.dumps(task)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "TQDM_DISABLE": "1"})
    if done.returncode:
        print(f"{action}: {done.stderr}", flush=True)
        return 1
    answer = json.loads(done.stdout)
    print(f"{action:<16}{len(answer['struck']):>4} writes struck, {len(answer['wrong'])} faults", flush=True)
    for fault in answer["wrong"]:
        print(f"  FAULT {fault}", flush=True)
    return len(answer["wrong"])


if __name__ == "__main__":
    raise SystemExit(main())
