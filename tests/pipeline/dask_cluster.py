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

RESOURCES = "net=1,cpu=1,gpu=1"


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

    @property
    def scheduler_file(self) -> Path:
        return self.folder / "scheduler.json"

    def add_worker(self, name: str, resources: str = RESOURCES) -> None:
        """Start a worker; whether it has come to the scheduler is another matter."""
        threads = sum(int(offered.partition("=")[2]) for offered in resources.split(","))
        self.start(
            name, "worker", "--scheduler-file", str(self.scheduler_file), "--host", "127.0.0.1", "--no-nanny",
            "--nthreads", str(threads), "--resources", resources, "--no-dashboard",
            "--local-directory", str(self.folder / name),
        )  # fmt: skip


@contextlib.contextmanager
def dask_cluster(folder: Path, workers: int, *, resources: str = RESOURCES) -> Iterator[DaskCluster]:
    """A scheduler and so many workers on loopback, ended with the block."""
    cluster = DaskCluster(folder)
    folder.mkdir()
    try:
        cluster.start(
            "scheduler", "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard",
            "--scheduler-file", str(cluster.scheduler_file),
        )  # fmt: skip
        for number in range(workers):
            cluster.add_worker(f"worker{number}", resources)
        with Client(scheduler_file=str(cluster.scheduler_file), timeout=60) as client:
            if workers:
                client.wait_for_workers(workers, timeout=60)
            cluster.address = client.scheduler.address
        yield cluster
    finally:
        for process in cluster.processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
