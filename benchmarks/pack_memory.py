"""Memory of what one process does for a whole pack: its plan, the index and the card, over corpora of growing size.

    python -m benchmarks.pack_memory [--clips 100000 1000000]

The corpora are synthetic: tables of 10-s clips in shards of 256 and training shards of 512, and no media, which none of
these steps reads. A clip in ten has an uploader of its own. Each step runs in a process of its own; its memory is what
it holds at most beside the pages of files that it has mapped, which the system may take back at any time, and the same
with them. `bytes_a_clip` is the growth between the smallest and the largest corpus. A million clips take 3 GB of disk.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from benchmarks.common import write_result
from benchmarks.scale import begin, write_list
from vidaudio.corpus.corpus import Corpus, open_corpus
from vidaudio.encoders.naming import description_bytes
from vidaudio.packs.plan import PackPlan, begin_pack, plan_pack
from vidaudio.pipeline.stages import download, extract
from vidaudio.shards.commit import CommitRecord, encode_table, table_name
from vidaudio.stream.index import SAMPLE_SCHEMA
from vidaudio.stream.vector_columns import encoder_name

SHARD_CLIPS = 256
SECONDS = 10
# Enough for the sound of a clip, as far as checks of tables and indices know; also the size of each training tar.
SOUND_BYTES = 32
_DESCRIBED = {"architecture": "none", "pretrained": None, "precision": "float32", "weights_sha256": "0" * 64}
ENCODER = encoder_name("none", "float32", "0" * 64)
MODELS = {"embed": ENCODER}
STEPS = ("plan", "index", "card")


def write_corpus(folder: Path, clips: int) -> None:
    """A corpus of so many clips that is built and packed, as far as its tables go."""
    write_list(folder / "list.parquet", clips)
    corpus = begin(str(folder / "corpus"), folder / "list.parquet", SHARD_CLIPS)
    corpus.store.create(f"embeddings/{ENCODER}/encoder.json", description_bytes(_DESCRIBED | {"dimensions": 512}))
    root = Path(corpus.url)
    for name in ("clips", "av"):
        (root / name).mkdir()
    for shard in range(corpus.shards):
        ids = corpus.table(shard)["id"].to_pylist()
        for stage, name, rows in (("download", "clips", _clips), ("extract", "av", _av)):
            record = CommitRecord(stage, shard, corpus.plan_hash, len(ids))
            # Flushing each to disk, as a commit does, would take most of the time.
            (root / table_name(name, shard)).write_bytes(encode_table(rows(ids), record))
        (root / table_name(f"embeddings/{ENCODER}", shard)).touch()
    plan = plan_pack(corpus, corpus.pack, MODELS)
    begin_pack(corpus, plan, MODELS)
    _write_training_tables(root, plan)


def _clips(ids: list[str]) -> pa.Table:
    infos = [json.dumps({"uploader": f"the channel number {clip_id[1:10]}", "title": "a title"}) for clip_id in ids]
    return _filled(download.CLIPS_SCHEMA, len(ids), {"id": ids, "state": ["done"] * len(ids), "info": infos})


def _av(ids: list[str]) -> pa.Table:
    grid = [float(second) for second in range(SECONDS)]
    facts = {"seconds": SECONDS, "video_seconds": SECONDS, "samples": 16_000 * SECONDS, "audio_start_seconds": 0.0}
    facts |= {"frame_seconds": grid, "grid_seconds": grid, "rms_dbfs": -20.0, "silent": False, "motion": 1.0}
    facts |= {"state": "done", "decode_errors": 0, "audio_gaps": 0, "audio_offset": 0, "audio_length": SOUND_BYTES}
    facts |= {"frame_offsets": list(range(SECONDS)), "frame_lengths": [1] * SECONDS}
    return _filled(
        extract.AV_SCHEMA, len(ids), {"id": ids} | {name: [value] * len(ids) for name, value in facts.items()}
    )


def _filled(schema: pa.Schema, rows: int, columns: dict[str, list]) -> pa.Table:
    """The columns, and nulls in all others."""
    return pa.table([columns.get(name, [None] * rows) for name in schema.names], schema=schema)


def _write_training_tables(root: Path, plan: PackPlan) -> None:
    schema = pa.schema([field for field in SAMPLE_SCHEMA if field.name != "shard"])
    grid = [float(second) for second in range(SECONDS)]
    for task in plan.tasks:
        rows = len(task.samples)
        ids = [sample.clip_id for sample in task.samples]
        same = {"dataset": "synthetic", "split": task.split, "labels": ["dog"], "captions": []}
        same |= {"samples": 16_000 * SECONDS, "audio_start_seconds": 0.0, "frame_seconds": grid, "grid_seconds": grid}
        columns: dict[str, Any] = {name: [value] * rows for name, value in same.items()}
        columns |= {"key": ids, "id": ids, "source": [f"web:{clip_id.partition('_')[0]}" for clip_id in ids]}
        for name in ("audio", "vectors"):
            columns |= {f"{name}_offset": [0] * rows, f"{name}_length": [SOUND_BYTES] * rows}
        record = CommitRecord("pack", task.number, plan.plan_hash, rows, f"{task.name}.tar", "0" * 64, SOUND_BYTES)
        data = encode_table(pa.table([columns[name] for name in schema.names], schema=schema), record)
        (root / task.folder / f"{task.name}.parquet").write_bytes(data)


def take(step: str, corpus: Corpus) -> None:
    """One step of a pack."""
    folder = f"training/{corpus.pack.name}"
    if step == "plan":
        plan_pack(corpus, corpus.pack, MODELS)
    elif step == "index":
        from vidaudio.packs.write import write_pack_index

        write_pack_index(corpus, folder)
    else:
        from vidaudio.packs.card import write_card

        write_card(corpus, folder)


def watched(work: Callable[[], None]) -> dict[str, float]:
    """Megabytes that this process grows by at most while it works, without and with the pages of mapped files."""
    most, done = {"RssAnon": 0, "VmRSS": 0}, threading.Event()
    before = _resident()

    def watch() -> None:
        while not done.wait(0.02):
            for name, kilobytes in _resident().items():
                most[name] = max(most[name], kilobytes)

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.perf_counter()
    try:
        work()
    finally:
        done.set()
        watcher.join()
    grown = {name: max(0, most[name] - before[name]) / 1024 for name in most}
    return {"own_mb": grown["RssAnon"], "with_mapped_mb": grown["VmRSS"], "seconds": time.perf_counter() - began}


def _resident() -> dict[str, int]:
    """Kilobytes this process holds: its own, and all with the pages of files."""
    kept = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return {name: int(kept[name].split()[0]) for name in ("RssAnon", "VmRSS")}


def measure(clips: int) -> dict[str, dict[str, float]]:
    """What each step takes for a corpus of so many clips."""
    with tempfile.TemporaryDirectory() as folder:
        write_corpus(Path(folder), clips)
        found = {}
        for step in STEPS:
            command = [sys.executable, "-m", "benchmarks.pack_memory", "--step", step, f"{folder}/corpus"]
            answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            found[step] = json.loads(answer.splitlines()[-1])
            print(
                f"  {clips:>10,} clips, {step:<5} {found[step]['own_mb']:8.1f} MB, with mapped pages "
                f"{found[step]['with_mapped_mb']:8.1f} MB, {found[step]['seconds']:6.1f} s",
                flush=True,
            )
        return found


def sizes_parser(description: str) -> argparse.ArgumentParser:
    """The options of a benchmark over corpora of growing size."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, nargs="+", help="sizes of the corpora (default: 100000 1000000)")
    parser.add_argument("--quick", action="store_true", help="only try it, on small corpora, and write no result")
    return parser


def sizes(given: argparse.Namespace) -> list[int]:
    """The numbers of clips that the options ask for, the smallest first."""
    return sorted(given.clips or ([512, 2_048] if given.quick else [100_000, 1_000_000]))


def bytes_a_clip(own_mb: Mapping[int, float]) -> float | None:
    """The growth from the smallest to the largest corpus, by their numbers of clips; None where there is only one."""
    least, most = min(own_mb), max(own_mb)
    return round((own_mb[most] - own_mb[least]) * 2**20 / (most - least), 1) if most > least else None


def main() -> None:
    parser = sizes_parser(__doc__)
    parser.add_argument("--step", nargs=2, metavar=("STEP", "CORPUS"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.step:
        step, url = given.step
        corpus = open_corpus(url)
        print(json.dumps(watched(lambda: take(step, corpus))))
        return
    found = {clips: measure(clips) for clips in sizes(given)}
    growth = {}
    for step in STEPS if len(found) > 1 else ():
        growth[step] = bytes_a_clip({clips: steps[step]["own_mb"] for clips, steps in found.items()})
        print(f"  {step:<5} {growth[step]:8.1f} bytes a clip")
    results = {
        "rows": [
            {"clips": clips, "step": step, **took} for clips, steps in found.items() for step, took in steps.items()
        ],
        "growth": [{"step": step, "bytes_a_clip": taken} for step, taken in growth.items()],
    }
    write_result("pack_memory", {"shard_clips": SHARD_CLIPS, "seconds": SECONDS, "quick": given.quick}, results)


if __name__ == "__main__":
    main()
