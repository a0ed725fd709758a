"""A Dask cluster as on several machines: a scheduler and workers as processes and with folders of their own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from distributed import Client


@dataclass
class DaskCluster:
    """Where the scheduler listens, and which temporary folder it has: budgets are kept there."""

    folder: Path
    address: str = ""
    processes: list[subprocess.Popen] = field(default_factory=list)

    @property
    def budget_folder(self) -> Path:
        return self.folder / "scheduler" / f"vidaudio-budget-{os.getuid()}"

    def start(self, name: str, *arguments: str) -> subprocess.Popen:
        own = self.folder / name
        own.mkdir(exist_ok=True)
        environment = {**os.environ, "TMPDIR": str(own), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", f"distributed.cli.dask_{arguments[0]}", *arguments[1:]]
        with (own / "log").open("ab") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        self.processes.append(process)
        return process


@contextlib.contextmanager
def dask_cluster(folder: Path, workers: int, *, resources: str = "net=1,cpu=1,gpu=1") -> Iterator[DaskCluster]:
    """A scheduler and so many workers on loopback, ended with the block."""
    cluster = DaskCluster(folder)
    folder.mkdir()
    threads = sum(int(offered.partition("=")[2]) for offered in resources.split(","))
    try:
        where = folder / "scheduler.json"
        cluster.start(
            "scheduler", "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard",
            "--scheduler-file", str(where),
        )  # fmt: skip
        for number in range(workers):
            cluster.start(
                f"worker{number}", "worker", "--scheduler-file", str(where), "--host", "127.0.0.1", "--no-nanny",
                "--nthreads", str(threads), "--resources", resources, "--no-dashboard",
                "--local-directory", str(folder / f"worker{number}"),
            )  # fmt: skip
        with Client(scheduler_file=str(where), timeout=60) as client:
            client.wait_for_workers(workers, timeout=60)
            cluster.address = client.scheduler.address
        yield cluster
    finally:
        for process in cluster.processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
