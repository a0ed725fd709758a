"""Scale: the memory of a build of millions of clips, and how long status and a finished build take far away.

    python -m benchmarks.scale [--only drive|status] [--rows 10000000] [--shards 40000] [--status-shards 20000]

`drive` plans a list and drives its shards through the real driver, with a scheduler and workers in processes of their
own and stages that only wait; memory is that of each process when 1,000 shards are through and at the end. `status`
times `vidaudio status` and a build with nothing to do on a corpus of four stages in an object store that answers every
request after 50 ms: cold without any snapshot, warm with it. Imports and the start of Python are in the times.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.common import write_result
from benchmarks.slow_s3 import BUCKET, heard, slow_s3
from vidaudio.config.corpus import RunSettings, load_corpus_recipe
from vidaudio.corpus.corpus import Corpus, create_or_open
from vidaudio.manifest import SCHEMA
from vidaudio.manifest.source import open_manifest
from vidaudio.shards.commit import CommitRecord, encode_table

FIRST_SHARDS = 1000
CLIPS_A_SOURCE = 2
LATENCY_SECONDS = 0.05
STATUS_CLIPS = 32
SETTINGS = ("embed.encoder.precision=float32", "dask.workers=1")


def write_list(path: Path, rows: int) -> None:
    """A list of so many clips, two a source, with short ids and addresses."""
    with pq.ParquetWriter(path, SCHEMA, compression="zstd") as writer:
        for first in range(0, rows, 100_000):
            numbers = range(first, min(rows, first + 100_000))
            videos = [f"v{number // CLIPS_A_SOURCE:010d}" for number in numbers]
            starts = [10.0 * (number % CLIPS_A_SOURCE) for number in numbers]
            columns = {
                "id": [f"{video}_{int(start):06d}" for video, start in zip(videos, starts, strict=True)],
                "source": [f"web:{video}" for video in videos],
                "dataset": ["synthetic"] * len(videos),
                "url": [f"http://127.0.0.1/{video}.mp4" for video in videos],
                "media_start_seconds": [None] * len(videos),
                "start_seconds": starts,
                "end_seconds": [start + 10.0 for start in starts],
                "split": ["train"] * len(videos),
                "labels": [["dog"]] * len(videos),
                "captions": [[]] * len(videos),
                "shard": [None] * len(videos),
            }
            writer.write_table(pa.table(columns, schema=SCHEMA))


def begin(url: str, list_path: Path, shard_clips: int) -> Corpus:
    """A corpus of the list, as a build begins it."""
    recipe = load_corpus_recipe("folder", [f"shard_clips={shard_clips}", *SETTINGS])
    return create_or_open(url, recipe, open_manifest(list_path))


def measure_drive(folder: Path, rows: int, shards: int, workers: int) -> list[dict[str, Any]]:
    """Memory in MB of driver, scheduler and workers, when `FIRST_SHARDS` are through and at the end."""
    list_path, scheduler_file = folder / "list.parquet", folder / "scheduler.json"
    write_list(list_path, rows)
    dask = [sys.executable, "-m", "dask"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    environment = os.environ | {"DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False"}
    at = ["--scheduler-file", str(scheduler_file)]
    resources = ["--nthreads", "3", "--resources", "net=1 cpu=1 gpu=1", "--no-dashboard", "--memory-limit", "0"]
    preload = ["--preload", "benchmarks.waiting_stages", "--no-nanny", "--local-directory", str(folder)]
    started = [
        subprocess.Popen([*dask, "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", *at], **quiet)
    ]
    try:
        for _ in range(workers):
            command = [*dask, "worker", "--host", "127.0.0.1", *resources, *preload, *at]
            started.append(subprocess.Popen(command, env=environment, **quiet))
        pids = [str(process.pid) for process in started]
        command = [sys.executable, "-m", "benchmarks.scale", "--driver", str(folder), "--shards", str(shards), *pids]
        answer = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    finally:
        # A worker whose scheduler has gone looks for it for minutes before it heeds a request to end.
        for process in started:
            process.kill()
        for process in started:
            process.wait()
    return json.loads(answer.stdout.splitlines()[-1])


def drive(folder: Path, shards: int, pids: list[int]) -> list[dict[str, Any]]:
    """The driver's part, in a process of its own: plan, then drive every chain of every shard."""
    from distributed import Client

    from benchmarks import waiting_stages
    from vidaudio.pipeline import shard_tasks
    from vidaudio.pipeline.run_log import RunLog
    from vidaudio.pipeline.task_loop import Progress

    measured: list[dict[str, Any]] = []
    began = time.monotonic()

    def measure(when: str, through: int) -> None:
        memory = [psutil.Process(pid).memory_info().rss / 1e6 for pid in (os.getpid(), *pids)]
        names = ["driver", "scheduler", *(f"worker {number}" for number in range(len(pids) - 1))]
        row = {"when": when, "shards": through, "seconds": round(time.monotonic() - began, 1)}
        measured.append(row | {name: round(megabytes, 1) for name, megabytes in zip(names, memory, strict=True)})

    rows = pq.read_metadata(folder / "list.parquet").num_rows
    corpus = begin(str(folder / "corpus"), folder / "list.parquet", -(-rows // shards))
    measure("planned", 0)
    finished = Progress.finished

    def counting(self: Progress, *arguments: Any) -> None:
        finished(self, *arguments)
        if self.through in (FIRST_SHARDS, corpus.shards):
            measure("driven", self.through)

    Progress.finished = counting
    report = RunLog()
    with Client(scheduler_file=str(folder / "scheduler.json"), timeout=60) as client:
        client.wait_for_workers(len(pids) - 1, timeout=120)
        missing = shard_tasks.missing_shards(corpus, list(waiting_stages.NAMES), waiting_stages.MODELS)
        shard_tasks.run_shard_tasks(
            client, corpus, missing, waiting_stages.MODELS, RunSettings(), report, progress=True
        )
    report.write(corpus.store)
    if report.failed:
        raise SystemExit(f"{report.failed} tasks failed: {list(report.errors.items())[:3]}")
    measure("journal written", corpus.shards)
    import resource

    measured[-1]["driver peak"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6, 1)
    return measured


def write_tables(corpus: Corpus, folder: Path) -> None:
    """Tables as the stages commit them, and names in the places of tars, for all shards and four stages."""
    draw = np.random.default_rng(0)
    reasons = np.array(["private", "removed", "timeout"])
    for kind in ("clips", "av", "embeddings/encoder", "scores/scorer"):
        (folder / kind).mkdir(parents=True)
    for table in corpus.tables(["id", "shard"]):
        for shard in np.unique(table["shard"].to_numpy()).tolist():
            ids = table["id"].filter(pa.array(table["shard"].to_numpy() == shard)).combine_chunks()
            failed = draw.random(len(ids)) < 0.2
            reason = pa.array(reasons[draw.integers(0, 3, len(ids))], mask=~failed)
            state = pa.array(np.where(failed, "failed", "done"))
            outcomes = {"id": ids, "state": state, "reason": reason, "message": pa.nulls(len(ids), pa.string())}
            done = ids.filter(pa.array(~failed))
            no_reason = pa.nulls(len(ids), pa.string())
            columns = {
                "clips": ("download", outcomes),
                "av": ("extract", {"id": done, "state": ["done"] * len(done), "reason": no_reason[: len(done)]}),
                "embeddings/encoder": ("embed", {"id": done}),
                "scores/scorer": ("score", {"id": done, "score": draw.random(len(done))}),
            }
            for kind, (stage, values) in columns.items():
                made = pa.table(values)
                tar = f"{shard:06d}.{shard:08x}.tar" if stage in ("download", "extract") else None
                record = CommitRecord(stage, shard, corpus.plan_hash, made.num_rows, tar)
                (folder / kind / f"{shard:06d}.parquet").write_bytes(encode_table(made, record))
                if tar is not None:
                    (folder / kind / tar).write_bytes(b"")


def measure_status(folder: Path, shards: int) -> list[dict[str, Any]]:
    """Seconds and requests of each command on a corpus far away."""
    list_path = folder / "list.parquet"
    write_list(list_path, shards * STATUS_CLIPS)
    local = folder / "objects" / "corpus"
    write_tables(begin(str(local), list_path, STATUS_CLIPS), local)
    url = f"s3://{BUCKET}/corpus"
    status = ["status", url]
    build = ["build", "folder", "-m", str(list_path), "-o", url, "--only", "download,extract", "--quiet"]
    build += [word for setting in (f"shard_clips={STATUS_CLIPS}", *SETTINGS) for word in ("--set", setting)]
    steps = [("status, cold", status), ("status, warm", status)]
    steps += [("finished build, cold", build), ("finished build, warm", build)]
    results = []
    with slow_s3(folder / "objects", LATENCY_SECONDS) as (address, environment):
        for what, command in steps:
            if what == "finished build, cold":
                delete = urllib.request.Request(f"{address}/{BUCKET}/corpus/runs/status.parquet", method="DELETE")
                urllib.request.urlopen(delete).close()
            heard(address)
            began = time.perf_counter()
            run = [sys.executable, "-m", "vidaudio", *command]
            subprocess.run(run, check=True, env=os.environ | environment, stdout=subprocess.DEVNULL)
            seconds = time.perf_counter() - began
            results.append({"what": what, "seconds": round(seconds, 2), "requests": heard(address)[0]})
    return results


def print_table(rows: list[dict[str, Any]]) -> None:
    """Rows with the columns of all of them, for the eye."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [names, *([str(row.get(name, "")) for name in names] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        print("  " + "  ".join(f"{cell:>{width}}" for cell, width in zip(line, widths, strict=True)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["drive", "status"])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--shards", type=int, default=40_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--status-shards", type=int, default=20_000)
    parser.add_argument("--driver", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("pids", type=int, nargs="*", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.driver:
        print(json.dumps(drive(chosen.driver, chosen.shards, chosen.pids)))
        return
    for name in ("drive", "status"):
        if chosen.only not in (None, name):
            continue
        folder = Path(tempfile.mkdtemp(prefix="vidaudio-scale-"))
        try:
            if name == "drive":
                settings = {"rows": chosen.rows, "shards": chosen.shards, "workers": chosen.workers, "stages": 3}
                rows = measure_drive(folder, chosen.rows, chosen.shards, chosen.workers)
            else:
                settings = {"shards": chosen.status_shards, "stages": 4, "clips_per_shard": STATUS_CLIPS}
                settings |= {"latency_seconds": LATENCY_SECONDS, "build": "--only download,extract"}
                rows = measure_status(folder, chosen.status_shards)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        print_table(rows)
        write_result(f"scale_{name}", settings, rows)


if __name__ == "__main__":
    main()
