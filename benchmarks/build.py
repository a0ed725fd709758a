"""Where the time of a build goes, how it grows from one core to two, and what a clip weighs on disk.

    python -m benchmarks.build [--clips FOLDER] [--copies N] [--model vit|small] [--rounds N] [--quick]

Every run is a whole build by the command's own function, in a fresh corpus and a process of its own: download from a
server on loopback (another process), extract, embed, pack. ViT-B/32 has random weights, since only speed counts. Rates
are of the work on shards and packs; what comes once a run (imports, the list, the encoder's fingerprint, starting Dask)
is told apart as `start`. Shares are from a run that has one shard under way at a time on one core, where stages do not
overlap. Runs take turns, so that a drifting machine is fair to all.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow.parquet as pq

from benchmarks.common import report
from benchmarks.media import clips
from vidaudio.manifest import Clip, write_manifest

SECONDS = 10.0
SERVER = """
import sys
from vidaudio.demo.serve import FolderServer
with FolderServer(sys.argv[1]) as server:
    print(server.url, flush=True)
    sys.stdin.read()
"""
FOLDERS = {"media": "clips", "av": "av", "embeddings": "embeddings", "pack": "training"}
SERIAL, ONE_CORE, ONE_WORKER, TWO_WORKERS = "one shard at a time", "1 worker, 1 core", "1 worker", "2 workers"


@dataclass(frozen=True, slots=True)
class Run:
    """One way to build.

    Attributes:
        workers: Of the local cluster.
        cores: That the whole run, its server excepted, may use; 0: all.
        shards_in_flight: At a time; 0: as a build decides.
    """

    workers: int
    cores: int = 0
    shards_in_flight: int = 0


RUNS = {
    SERIAL: Run(workers=1, cores=1, shards_in_flight=1),
    ONE_CORE: Run(workers=1, cores=1),
    ONE_WORKER: Run(workers=1),
    TWO_WORKERS: Run(workers=2),
}


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a folder, served by a process of its own."""
    command = [sys.executable, "-c", SERVER, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process.stdout.readline().strip()
        process.stdin.close()


def write_world(folder: Path, paths: list[Path], copies: int) -> list[str]:
    """Every video under so many names, as if each were another; the names."""
    names = [f"{number:05d}{path.suffix}" for number, path in enumerate(paths * copies)]
    for name, path in zip(names, paths * copies, strict=True):
        shutil.copyfile(path, folder / name)
    return names


def write_list(path: Path, names: list[str], url: str) -> None:
    """A clip of 10 s from the beginning of every video."""
    made = [
        Clip(id=name[:5], source=f"web:{name}", dataset="made", url=f"{url}/{name}", start_seconds=0.0,
             end_seconds=SECONDS, split="train")
        for name in names
    ]  # fmt: skip
    write_manifest(made, path)


def build_once(recipe_settings: list[str], manifest: Path, corpus: Path) -> dict[str, Any]:
    """One build in this process: seconds by phase and stage, the driver's processor time, bytes by folder."""
    from vidaudio.config.corpus import load_corpus_recipe
    from vidaudio.pipeline import build as run

    wall: dict[str, float] = {}
    driver: dict[str, float] = {}

    def clocked(name: str, work: Callable[..., None]) -> Callable[..., None]:
        def timed(*arguments: Any, **options: Any) -> None:
            began, spent = time.perf_counter(), time.process_time()
            work(*arguments, **options)
            wall[name], driver[name] = time.perf_counter() - began, time.process_time() - spent

        return timed

    run.run_shard_tasks = clocked("shards", run.run_shard_tasks)
    run.run_pack_tasks = clocked("packs", run.run_pack_tasks)
    began = time.perf_counter()
    run.build(load_corpus_recipe("folder", recipe_settings), str(manifest), str(corpus), progress=False)
    whole = time.perf_counter() - began
    (journal,) = corpus.glob("runs/*/tasks.parquet")
    tasks = [[row["stage"], row["seconds"]] for row in pq.read_table(journal, columns=["stage", "seconds"]).to_pylist()]
    done = sum(pq.read_table(path, columns=["state"])["state"].to_pylist().count("done") for path in _tables(corpus))
    sizes = {name: sum(p.stat().st_size for p in (corpus / f).rglob("*") if p.is_file()) for name, f in FOLDERS.items()}
    return {
        "clips": done, "whole": whole, "wall": wall, "driver": driver, "tasks": tasks, "bytes": sizes,
    }  # fmt: skip


def _tables(corpus: Path) -> list[Path]:
    return sorted((corpus / "av").glob("*.parquet"))


def measured(run: Run, settings: list[str], manifest: Path, scratch: Path) -> dict[str, Any]:
    """`build_once` in a process of its own, on the cores it may use; the corpus is deleted."""
    corpus = scratch / "corpus"
    dask = [f"dask.workers={run.workers}", "dask.dashboard=127.0.0.1:0"]
    dask += [f"dask.shards_in_flight={run.shards_in_flight}"] if run.shards_in_flight else []
    job = {"settings": settings + dask, "manifest": str(manifest), "corpus": str(corpus), "cores": run.cores}
    command = [sys.executable, "-m", "benchmarks.build", "--job", json.dumps(job)]
    try:
        answer = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    finally:
        shutil.rmtree(corpus, ignore_errors=True)
    return json.loads(answer.stdout.splitlines()[-1])


def shares(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Seconds of a serial run by stage, and their shares of its work on shards and packs; the median run.

    What the first task of a stage takes longer than the median of the others comes once a worker, and has a row of its
    own: imports, the encoder's weights, the decoder's process. What no task accounts for is the driver's, the
    scheduler's and the way between them and the worker.
    """
    middle = sorted(runs, key=lambda run: sum(run["wall"].values()))[len(runs) // 2]
    total = sum(middle["wall"].values())
    seconds: dict[str, float] = {}
    once = 0.0
    for stage in dict.fromkeys(stage for stage, _ in middle["tasks"]):
        taken = [own for name, own in middle["tasks"] if name == stage]
        first = max(0.0, taken[0] - median(taken[1:])) if len(taken) > 2 else 0.0
        once += first
        seconds[stage] = sum(taken) - first
    seconds |= {"once a worker": once, "between tasks": total - sum(seconds.values()) - once}
    return [
        {"part": part, "seconds": round(spent, 3), "ms_a_clip": round(1000 * spent / middle["clips"], 2),
         "share": round(spent / total, 4)}
        for part, spent in seconds.items()
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, help="folder of videos; the demo's are rendered otherwise")
    parser.add_argument("--limit", type=int, default=32, help="at most so many videos")
    parser.add_argument("--copies", type=int, default=6, help="of every video")
    parser.add_argument("--shard-clips", type=int, default=16)
    parser.add_argument("--model", choices=("vit", "small"), default="vit")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="few clips, a small model, one round: to see it work")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.job:
        job = json.loads(chosen.job)
        if job["cores"] and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: job["cores"]])
        print(json.dumps(build_once(job["settings"], Path(job["manifest"]), Path(job["corpus"]))))
        return
    if chosen.quick:
        chosen.limit, chosen.copies, chosen.shard_clips, chosen.model, chosen.rounds = 2, 4, 2, "small", 1

    with tempfile.TemporaryDirectory(prefix="vidaudio-build-") as folder:
        scratch, world = Path(folder), Path(folder) / "world"
        world.mkdir()
        names = write_world(world, clips(chosen.clips, chosen.limit), chosen.copies)
        settings = [f"shard_clips={chosen.shard_clips}", "download.allow_private_addresses=true"]
        settings += [
            f"embed.encoder.{name}={json.dumps(value)}" for name, value in _encoder(chosen.model, scratch).items()
        ]
        runs: dict[str, list[dict[str, Any]]] = {name: [] for name in RUNS}
        with served(world) as url:
            write_list(scratch / "list.parquet", names, url)
            for _ in range(chosen.rounds):
                for name, run in RUNS.items():
                    runs[name].append(measured(run, settings, scratch / "list.parquet", scratch))

    last = runs[SERIAL][-1]
    if last["clips"] != len(names):
        print(f"  {len(names) - last['clips']} of {len(names)} clips were not done; the rates are of the others")
    rates = {name: [run["clips"] / sum(run["wall"].values()) for run in made] for name, made in runs.items()}
    parts = shares(runs[SERIAL])
    for row in parts:
        print(f"  {row['part']:<16} {row['seconds']:8.2f} s  {row['share']:6.1%}")
    whole = [
        {"name": name, "workers": RUNS[name].workers, "cores": RUNS[name].cores or "all",
         "start_seconds": round(median(run["whole"] - sum(run["wall"].values()) for run in made), 2),
         "shards_seconds": round(median(run["wall"]["shards"] for run in made), 2),
         "packs_seconds": round(median(run["wall"]["packs"] for run in made), 2)}
        for name, made in runs.items()
    ]  # fmt: skip
    busy = sum(seconds for _, seconds in last["tasks"])
    report(
        "build",
        rates,
        ONE_CORE,
        {"clips": len(names), "shard_clips": chosen.shard_clips, "model": chosen.model, "rounds": chosen.rounds,
         "quick": chosen.quick, "runs": {name: asdict(run) for name, run in RUNS.items()}},
        where_the_time_goes=parts,
        whole_runs=whole,
        growth_one_core_to_two_workers=round(
            median(two / one for two, one in zip(rates[TWO_WORKERS], rates[ONE_CORE], strict=True)), 3
        ),
        driver_and_scheduler_share_of_work=round(
            median(sum(run["driver"].values()) for run in runs[SERIAL]) / busy, 5
        ),
        driver_and_scheduler_ms_a_task=round(
            1000 * median(sum(run["driver"].values()) for run in runs[SERIAL]) / len(last["tasks"]), 2
        ),
        **{f"{name}_bytes_per_clip": round(size / last["clips"]) for name, size in last["bytes"].items()},
    )  # fmt: skip


def _encoder(model: str, folder: Path) -> dict[str, str | None]:
    """Settings of the encoder; ViT-B/32's weights are drawn and written into the folder."""
    if model == "small":
        return {"architecture": "{package}/demo/clip", "pretrained": None}
    import open_clip
    import torch

    torch.manual_seed(0)
    weights = folder / "weights.pt"
    torch.save(open_clip.create_model("ViT-B-32", pretrained=None).state_dict(), weights)
    return {"architecture": "ViT-B-32", "pretrained": str(weights)}


if __name__ == "__main__":
    main()
