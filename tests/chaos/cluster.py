"""A cluster of separate processes, as a user starts one by hand: a scheduler, and nannies that each keep a worker."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil

from tests.chaos.processes import below, is_worker

NANNIES = 2
# Importing PyTorch takes most of it, on a machine that is busy with builds.
START_SECONDS = 120
STARTS = 3


class Cluster:
    """`dask scheduler` and `dask worker` processes on this machine, any of which may be killed and replaced."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._folder, self._environment = folder, environment
        self.scheduler: subprocess.Popen | None = None
        self.nannies: list[subprocess.Popen] = []
        self._logs: dict[int, Path] = {}
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    @property
    def address(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    def restore(self) -> None:
        """Start whatever is missing. With a new scheduler everything is new: its workers belonged to the old one."""
        if self.scheduler is None or self.scheduler.poll() is not None:
            self.close()
            self.scheduler = self._start("scheduler", "--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard")
        for dead in [nanny for nanny in self.nannies if nanny.poll() is not None]:
            self.nannies.remove(dead)
        while len(self.nannies) < NANNIES:
            resources = ("--resources", "net=1 cpu=1 gpu=1", "--nthreads", "3", "--memory-limit", "0")
            preload = ("--preload", "tests.chaos.points", "--no-dashboard", "--local-directory", str(self._folder))
            self.nannies.append(self._start("worker", self.address, *resources, *preload))

    def wait(self) -> None:
        """Until every nanny has its worker with the scheduler. Told by their logs: a client here would be a thread."""
        for _ in range(STARTS):
            deadline = time.monotonic() + START_SECONDS
            while time.monotonic() < deadline:
                if len(self.workers()) == NANNIES and all(map(self._registered, self.nannies)):
                    return
                time.sleep(0.02)
            # A nanny that was starting its worker as the scheduler died may never end nor go on: Dask's affair.
            self.close()
            self.restore()
        raise TimeoutError(f"no {NANNIES} workers within {STARTS} x {START_SECONDS} s; see {self._folder}")

    def _registered(self, nanny: subprocess.Popen) -> bool:
        told = self._logs[nanny.pid].read_text(errors="replace")
        return told.rfind("Registered to:") > told.rfind("Start worker at:")

    def workers(self) -> list[psutil.Process]:
        """The workers themselves."""
        found = []
        for nanny in self.nannies:
            if nanny.poll() is None:
                found += [child for child in below(nanny.pid) if is_worker(child)]
        return found

    def close(self) -> None:
        """End every process of it."""
        leaders = [one for one in (self.scheduler, *self.nannies) if one is not None]
        living = []
        for leader in leaders:
            if leader.poll() is None:
                living += below(leader.pid)
                leader.kill()
            leader.wait()
        for process in living:
            if process.is_running():
                process.kill()
        psutil.wait_procs(living, timeout=20)
        self.scheduler, self.nannies = None, []

    def _start(self, role: str, *arguments: str) -> subprocess.Popen:
        path = self._folder / f"{role}-{time.time_ns()}.log"
        with path.open("w") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "dask", role, *arguments],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **self._environment},
            )  # fmt: skip
        self._logs[process.pid] = path
        return process
