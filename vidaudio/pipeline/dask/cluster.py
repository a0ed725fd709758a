"""The Dask cluster that a build runs on: a running one, jobs of a batch system, or a local one sized by the machine.

Workers offer three resources: `net` for fetching, `cpu` for decoding, `gpu` for embedding. A local worker runs one task
of each at a time. Without a GPU, every local worker embeds on its own cores; with GPUs, only as many workers embed as
there are GPUs.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from vidaudio.config.corpus import DaskBlock
from vidaudio.cpus import available_cores
from vidaudio.errors import ClusterError
from vidaudio.pipeline.dask.batch_jobs import check_jobs, job_cluster

if TYPE_CHECKING:
    from distributed import Client

CONNECT_SECONDS, HEAR_SECONDS = 20.0, 5.0
# Workers that were just started or restarted may not have registered yet.
WORKERS_SECONDS, LOOK_SECONDS = 30.0, 0.2
# By default the driver's scheduler and nannies monitor themselves fifty times a second, for the dashboard's curves and
# warnings. That takes 3 % of a core, and tasks that take minutes do not need it.
_CALM = {
    "distributed.admin.tick.interval": "500ms",
    "distributed.admin.tick.limit": "60s",
    "distributed.admin.system-monitor.interval": "5s",
    "distributed.admin.system-monitor.gil.enabled": False,
    "distributed.worker.profile.enabled": False,
}
# Dask lets a nanny go whose worker died and is not back within 15 s, for good. On a busy machine a worker takes longer
# to start, and a build would wait for ever for workers that nobody starts.
_PATIENT = {"distributed.deploy.lost-worker-timeout": "365d"}


@contextlib.contextmanager
def connected(block: DaskBlock) -> Iterator[Client]:
    """Provide a client of the cluster that the recipe asks for; whatever was started for it ends with it.

    Raises:
        ClusterError: When the cluster cannot be started or reached, or its workers cannot do the work.
    """
    import dask
    from distributed import Client

    from vidaudio.pipeline.dask.shared_rate_limit import serve_rate_limiter

    _silence_dask()
    if block.scheduler:
        with _running_cluster(block.scheduler) as client:
            yield client
        return
    with dask.config.set(_CALM):
        if block.spans_machines:
            with job_cluster(block) as cluster, Client(cluster) as client:
                serve_rate_limiter(client, cluster.scheduler_address)
                yield client
        else:
            with dask.config.set(_PATIENT), _local_cluster(block) as cluster, Client(cluster) as client:
                yield client


def check_cluster(block: DaskBlock) -> None:
    """Check that the recipe's cluster could be started, as far as this can be decided without starting it.

    Raises:
        CorpusError, RecipeError: When something is missing, or the batch system does not know a setting.
    """
    if block.cluster is not None and block.spans_machines and not block.scheduler:
        check_jobs(block.cluster)


def check_scheduler(block: DaskBlock) -> None:
    """Check that the running cluster that a recipe names, if any, answers and can do the work.

    Raises:
        ClusterError: When no scheduler answers, it has no workers, or they offer too few resources.
    """
    if block.scheduler:
        with connected(block):
            pass


def max_in_flight(client: Client, block: DaskBlock) -> int:
    """Return how many shards may be in flight: enough that no worker waits, few enough that memory stays bounded.

    The recipe's `shards_in_flight` decides if it is set. Otherwise it is twice the number of tasks of one resource that
    all workers run at once. Jobs that are still in their queue count as running.
    """
    if block.shards_in_flight:
        return block.shards_in_flight
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    running = sum(int(max(worker.get("resources", {}).values(), default=1)) for worker in workers)
    jobs = None if block.scheduler else block.cluster
    expected = jobs.jobs * max(jobs.cores, jobs.downloads) if jobs is not None else 0
    return 2 * max(1, running, expected)


@contextlib.contextmanager
def _running_cluster(address: str) -> Iterator[Client]:
    """Provide a client of a running cluster, after checking its workers' resources."""
    from distributed import Client

    from vidaudio.pipeline.dask.shared_rate_limit import serve_rate_limiter

    try:
        with ThreadPoolExecutor(1) as aside:  # the caller may run an event loop of its own
            aside.submit(asyncio.run, _ask_scheduler(address)).result()
        client = Client(address, timeout=CONNECT_SECONDS)
    except (OSError, ValueError, TimeoutError) as error:
        why = str(error) or "what listens there is no scheduler; is it the dashboard's port?"
        raise ClusterError(f"no Dask scheduler answers at {address}: {why}") from error
    with client:
        _check_resources(client, address)
        serve_rate_limiter(client, address)
        yield client


async def _ask_scheduler(address: str) -> None:
    """Check that a scheduler answers; a client would wait forever for a server of another kind, such as a dashboard."""
    from distributed.core import rpc
    from distributed.security import Security

    arguments = Security().get_connection_args("client")
    async with asyncio.timeout(CONNECT_SECONDS + HEAR_SECONDS):
        async with rpc(address, timeout=CONNECT_SECONDS, connection_args=arguments) as scheduler:
            await scheduler.identity(n_workers=0)


def _silence_dask() -> None:
    """Silence Dask's log: failures reach the user as outcomes and task errors, and the log would only bury them."""
    for name in ("distributed", "distributed.client"):  # the second has its own level and handler
        commentary = logging.getLogger(name)
        commentary.setLevel(logging.CRITICAL)
        commentary.propagate = False


def worker_count(block: DaskBlock) -> int:
    """Return the number of processes of the local cluster: the recipe's, else one per core this process may use."""
    return (block.cluster.jobs if block.cluster and not block.spans_machines else block.workers) or available_cores()


def _local_cluster(block: DaskBlock):
    from distributed import Nanny, Scheduler, SpecCluster

    gpus = _gpus()
    # By default Dask's nanny allows numeric libraries one thread, however few workers share the machine.
    threads = str(max(1, available_cores() // worker_count(block)))
    workers = {}
    for number in range(worker_count(block)):
        resources = {"net": 1, "cpu": 1}
        if not gpus or number < gpus:
            resources["gpu"] = 1
        environment = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
        if gpus and number < gpus:
            environment["CUDA_VISIBLE_DEVICES"] = str(number)
        options = {"nthreads": 3, "resources": resources, "host": "127.0.0.1", "env": environment, "memory_limit": 0}
        workers[number] = {"cls": Nanny, "options": {**options, "silence_logs": logging.CRITICAL}}
    scheduler = {
        "cls": Scheduler,
        "options": {"host": "127.0.0.1", "port": 0, "dashboard_address": block.dashboard, "dashboard": True},
    }
    try:
        with _interrupts_ignored():
            return SpecCluster(scheduler=scheduler, workers=workers, silence_logs=logging.CRITICAL)
    except RuntimeError as error:
        raise ClusterError(f"the local Dask workers did not start ({error}); {_why_workers_may_not_start()}") from error


def _why_workers_may_not_start() -> str:
    """Return the advice that fits the caller: workers import the user's script, but not the command."""
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    name = spec.name if spec else Path(getattr(main, "__file__", "vidaudio")).stem
    if name.partition(".")[0] in ("vidaudio", "pytest"):
        return (
            "one was killed as it started, or could not get memory or processes (`ulimit -u`); nothing is lost: give "
            "the same command again, with fewer of them by --set dask.workers=1 if it happens again"
        )
    return (
        'call vidaudio under `if __name__ == "__main__":` in a script of your own, since each worker imports that '
        "script; or else one was killed as it started: then run it again"
    )


@contextlib.contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Make processes started inside ignore Ctrl-C: the driver handles it and stops them in order."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _gpus() -> int:
    """Return the number of GPUs of this machine, without starting CUDA in the driver."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([device for device in visible.split(",") if device.strip() not in ("", "-1")])
    return len([name for name in os.listdir("/dev") if name.startswith("nvidia") and name[6:].isdigit()])


def _check_resources(client: Client, address: str) -> None:
    """Raise an error if no worker offers a resource: tasks that need it would wait forever."""
    start = 'with `dask worker ADDRESS --nthreads 3 --resources "net=1,cpu=1,gpu=1"`'
    deadline = time.monotonic() + WORKERS_SECONDS
    while not (workers := client.scheduler_info(n_workers=-1)["workers"].values()):
        if time.monotonic() >= deadline:
            raise ClusterError(f"no worker has come to {address} in {WORKERS_SECONDS:g} s; start some {start}")
        time.sleep(LOOK_SECONDS)
    offered = {name for worker in workers for name in worker.get("resources", {})}
    missing = {"net", "cpu", "gpu"} - offered
    if missing:
        raise ClusterError(f"the workers of {address} offer no {', '.join(sorted(missing))}; start them {start}")
