"""A Dask cluster out of a batch system's jobs: Slurm, PBS, SGE, LSF, HTCondor and others, by dask-jobqueue.

The scheduler runs in the driver's process, and one worker in every job. There are two kinds of jobs: those that fetch
and decode, and those with a GPU that embed. dask-jobqueue's own cluster classes support one kind only, so its jobs are
passed to Dask's `SpecCluster` directly. Jobs that the batch system ends, at their wall time for example, are submitted
again.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import inspect
import logging
import shutil
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from vidaudio.config.cluster import ClusterBlock
from vidaudio.config.corpus import DaskBlock
from vidaudio.errors import ClusterError, RecipeError

if TYPE_CHECKING:
    from dask_jobqueue.core import Job
    from distributed import SpecCluster

# How often to look for jobs that have ended.
RESUBMIT_SECONDS = 20.0
# A worker that has been missing for this long is taken as lost.
LOST_AFTER = "5s"
_CLASSES = {
    "slurm": "slurm.SLURMJob",
    "pbs": "pbs.PBSJob",
    "sge": "sge.SGEJob",
    "lsf": "lsf.LSFJob",
    "htcondor": "htcondor.HTCondorJob",
    "oar": "oar.OARJob",
    "moab": "moab.MoabJob",
}
_NUMERIC_LIBRARIES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def check_jobs(block: ClusterBlock) -> None:
    """Check that such jobs could be submitted from here, before any job is submitted.

    Raises:
        ClusterError: When dask-jobqueue or the batch system's command is missing.
        RecipeError: When the jobs do not accept a setting or its value.
    """
    kind = _job_class(block.kind)
    for name, spec in job_specs(block).items():
        _check_options(kind, block.kind, spec["options"])
        _tried(kind, block.kind, name, spec["options"])
    command = str(kind.submit_command).split()[0]
    if shutil.which(command) is None:
        raise ClusterError(
            f"{command} is not on this machine's PATH, so no {block.kind} jobs can be submitted from here; run the "
            "build where jobs are submitted, or connect to workers of your own with --scheduler tcp://HOST:PORT"
        )


def job_specs(block: ClusterBlock) -> dict[str, dict[str, Any]]:
    """Return every job by its worker's name, as `distributed.SpecCluster` expects it.

    A worker has one thread for every task that its resources admit. Numeric libraries get all of the job's cores only
    where the worker embeds.
    """
    plain = _options(block, block.extra)
    embeds = {} if block.gpu else {"gpu": 1}
    resources = {"net": block.downloads, "cpu": block.cores, **embeds}
    groups = [("cpu", block.jobs, {**plain, **_worker(resources, block.cores if embeds else 1, plain)})]
    if block.gpu:
        over = {"cores": block.gpu.cores, "memory": block.gpu.memory, "queue": block.gpu.queue}
        over |= {"walltime": block.gpu.walltime}
        with_gpu = plain | {key: value for key, value in over.items() if value is not None}
        for key, value in block.gpu.extra.items():
            mine = with_gpu.get(key)
            with_gpu[key] = [*mine, *value] if isinstance(mine, list) and isinstance(value, list) else value
        groups.append(("gpu", block.gpu.jobs, {**with_gpu, **_worker({"gpu": 1}, with_gpu["cores"], with_gpu)}))
    kind = _job_class(block.kind)
    return {
        f"{group}-{number}": {"cls": kind, "options": options}
        for group, jobs, options in groups
        for number in range(jobs)
    }


def _options(block: ClusterBlock, extra: dict[str, Any]) -> dict[str, Any]:
    told = {"queue": block.queue, "walltime": block.walltime, "interface": block.interface}
    return {
        "cores": block.cores,
        "memory": block.memory,
        "processes": 1,
        **{key: value for key, value in told.items() if value is not None},
        **extra,
    }


def _worker(resources: dict[str, int], numeric_threads: int, told: dict[str, Any]) -> dict[str, Any]:
    """Return options that make a job's worker offer `resources`; the recipe's values of the same options are kept."""
    offered = ",".join(f"{name}={units}" for name, units in resources.items())
    # The worker uses the last of a repeated argument. Without this, dask-jobqueue would set one thread per core.
    arguments = ["--resources", offered, "--nthreads", str(sum(resources.values()))]
    threads = [f"export {name}={numeric_threads}" for name in _NUMERIC_LIBRARIES]
    return {
        "worker_extra_args": [*told.get("worker_extra_args", []), *arguments],
        "job_script_prologue": [*threads, *told.get("job_script_prologue", [])],
    }


@contextlib.contextmanager
def job_cluster(block: DaskBlock) -> Iterator[SpecCluster]:
    """Provide a cluster of jobs, submitted on entry and cancelled on exit; tasks start as soon as the first job does.

    Raises:
        ClusterError: When the jobs cannot be submitted; the message contains the batch system's answer.
    """
    import dask
    from distributed import Scheduler, SpecCluster
    from tornado.ioloop import PeriodicCallback

    asked = block.cluster
    assert asked is not None, "the recipe has a cluster block"
    place = {"host": asked.host} if asked.host else {"interface": asked.interface} if asked.interface else {}
    options = {"dashboard_address": block.dashboard, "dashboard": True, **place}
    scheduler = {"cls": Scheduler, "options": options}
    specs = job_specs(asked)
    with dask.config.set({"distributed.deploy.lost-worker-timeout": LOST_AFTER}):
        try:
            cluster = SpecCluster(scheduler=scheduler, workers=specs, name="vidaudio", silence_logs=logging.CRITICAL)
        except (OSError, RuntimeError, ValueError, AssertionError) as error:
            # During cleanup, Dask raises AssertionError for jobs that never began; the real error is its context.
            cause = error.__context__ if isinstance(error, AssertionError) and error.__context__ else error
            said = " ".join(str(cause).split())
            raise ClusterError(f"the {asked.kind} jobs could not be submitted: {said}") from error

        async def watch() -> None:
            # Scaling to the current size makes the cluster submit its missing jobs again.
            resubmit = PeriodicCallback(lambda: cluster.scale(len(specs)), RESUBMIT_SECONDS * 1000)
            resubmit.start()

        with cluster:
            cluster.sync(watch)
            yield cluster


def _job_class(kind: str) -> type[Job]:
    module, _, name = _CLASSES[kind].partition(".")
    try:
        return getattr(importlib.import_module(f"dask_jobqueue.{module}"), name)
    except ImportError as error:
        raise ClusterError(
            f"dask.cluster.kind={kind} needs dask-jobqueue, which is not installed: pip install 'vidaudio[cluster]'"
        ) from error


def _check_options(kind: type[Job], name: str, options: dict[str, Any]) -> None:
    """Raise `RecipeError` for an option that neither this kind of job nor the base classes accept."""
    known = {
        parameter
        for cls in inspect.getmro(kind)
        for parameter in inspect.signature(cls.__init__).parameters  # type: ignore[misc] # only read
        if cls is not object
    }
    for option in options:
        if option not in known:
            near = difflib.get_close_matches(option, sorted(known), n=1)
            hint = f"did you mean {near[0]}?" if near else f"see dask_jobqueue's {kind.__name__}"
            raise RecipeError(f"dask.cluster: {name} jobs have no {option} ({hint})")


def _tried(kind: type[Job], system: str, name: str, options: dict[str, Any]) -> None:
    """Write one job's script, which finds values that dask-jobqueue does not accept."""
    try:
        with warnings.catch_warnings():
            # OAR's class warns about a setting that only OAR users know; it warns again when a job starts.
            warnings.simplefilter("ignore")
            kind("tcp://127.0.0.1:8786", name=name, **options).job_script()
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        said = " ".join(str(error).split())
        raise RecipeError(f"dask.cluster: dask-jobqueue refuses these {system} jobs: {said}") from error
