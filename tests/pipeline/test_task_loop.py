"""Driving: a scheduler that dies before it is asked for a record, and tasks that load PyTorch at the same moment."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from distributed import Client, Future, LocalCluster
from distributed.client import FutureCancelledError

from vidaudio.errors import BuildError, CorpusError
from vidaudio.media.outcomes import Outcome, Reason
from vidaudio.pipeline.build import raise_errors
from vidaudio.pipeline.run_log import RunLog
from vidaudio.pipeline.stages.circuit_breaker import stopped_by
from vidaudio.pipeline.task_id import TaskId
from vidaudio.pipeline.task_loop import SCHEDULER_GONE, Progress, run_tasks


def test_a_scheduler_that_goes_before_the_records_are_fetched_ends_the_run_in_words():
    submitted: list[Future] = []
    report = RunLog()
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):

        def submit(shard: int) -> list[Future]:
            future = client.submit(lambda: {"stage": "download", "shard": shard}, key=f"download-{shard:06d}-run")
            assert future.result()["shard"] == shard

            def lost() -> None:
                raise FutureCancelledError(future.key, "scheduler-connection-lost")

            # Its end was told and what it returned is gone with the scheduler.
            future.result = lost
            submitted.append(future)
            return [future]

        progress = Progress("building", unit="clip", total=10, shards=10, shown=False)
        run_tasks(iter(range(10)), submit, limit=1, units=lambda _: 1, report=report, progress=progress)
        assert len(submitted) == 1
        submitted.clear()
    assert list(report.errors.values()) == [SCHEDULER_GONE]


def test_a_full_disk_is_told_once_however_many_shards_met_it():
    def fetch(shard: int) -> None:
        # As workers raise it; each names a file of its own.
        raise stopped_by(Outcome.failed(Reason.DISK, f"No space left on device: /scratch/{shard:06d}/media"))

    report = RunLog()
    with (
        LocalCluster(n_workers=1, threads_per_worker=3, processes=False, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):

        def submit(shard: int) -> list[Future]:
            return [client.submit(fetch, shard, key=f"download-{shard:06d}-run")]

        progress = Progress("building", unit="clip", total=3, shards=3, shown=False)
        run_tasks(iter(range(3)), submit, limit=3, units=lambda _: 1, report=report, progress=progress)
    assert report.failed == 3
    with pytest.raises(BuildError) as told:
        raise_errors(SimpleNamespace(url="here"), report)
    text = str(told.value)
    assert text.startswith("3 tasks failed (download-")
    assert text.count("nothing comes through") == 1
    assert re.search(r"download-\d{6} and 2 more: stopped: .*make room on the disk", text)
    # Going on would write the whole list down as failed, and what went wrong has to be mended first.
    assert "stop_after_failures" not in text
    assert text.endswith("once the cause is mended, the same command goes on from there.")
    assert ".." not in text
    assert ".)" not in text


@pytest.mark.parametrize("failing", [None, "slow", "fast"])
def test_a_shard_is_through_when_its_last_task_is_whichever_that_is(failing: str | None):
    def work(stage: str, shard: int, *_: object) -> dict[str, object]:
        if stage == "slow":
            time.sleep(0.3)
        if stage == failing:
            raise CorpusError("it failed")
        return {"stage": stage, "shard": shard}

    in_flight: list[int] = []
    report = RunLog()
    with (
        LocalCluster(n_workers=1, threads_per_worker=3, processes=False, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):

        def submit(shard: int) -> list[Future]:
            in_flight.append(shard - progress.through)
            first = client.submit(work, "first", shard, key=f"first-{shard:06d}-run")
            stages = ("slow", "fast")
            return [first, *(client.submit(work, s, shard, first, key=f"{s}-{shard:06d}-run") for s in stages)]

        progress = Progress("building", unit="clip", total=3, shards=3, shown=False)
        run_tasks(iter(range(3)), submit, limit=1, units=lambda _: 1, report=report, progress=progress)
    assert in_flight == [0, 0, 0]
    assert (progress.through, report.tasks, report.failed) == ((3, 9, 0) if failing is None else (3, 6, 3))
    assert set(report.errors) == ({f"{failing}-{shard:06d}" for shard in range(3)} if failing else set())


def test_what_ended_a_shard_travels_with_its_reason():
    assert pickle.loads(pickle.dumps(stopped_by(Outcome.failed(Reason.NETWORK, "no route")))).reason is Reason.NETWORK
    assert "stop_after_failures=0" in str(stopped_by(Outcome.failed(Reason.NETWORK, "no route")))


# What the threads of a worker run first: the writer of tars, the encoder, the driver's own module.
AT_ONCE = """
import importlib, sys, threading
from vidaudio.pipeline.preload import load_libraries
modules = ["webdataset", "vidaudio.encoders.clip", "torch.utils.data", "vidaudio.pipeline.stages.extract"]
start = threading.Barrier(len(modules))
failed = []
def load(name):
    start.wait()
    try:
        load_libraries()
        importlib.import_module(name)
    except ImportError as error:
        failed.append(f"{name}: {error}")
threads = [threading.Thread(target=load, args=(name,)) for name in modules]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
sys.exit("; ".join(failed) or 0)
"""


def test_threads_of_a_worker_that_need_pytorch_at_once_all_get_it():
    done = subprocess.run([sys.executable, "-c", AT_ONCE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("stage", "part"), [("download", "000012"), ("pack", "train-000003")])
def test_a_task_is_found_again_by_its_key(stage: str, part: str):
    task = TaskId(stage, part, "18a3f")
    assert TaskId.parse(task.key) == task
    assert str(task) == f"{stage}-{part}"
