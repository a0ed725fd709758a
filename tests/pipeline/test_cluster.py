"""Clusters of a batch system's jobs: what is submitted, what is refused, and a build through jobs that really run."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
import time
import warnings
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import dask
import pytest

from tests.media.site.server import LoopbackSite
from tests.media_world import MediaWorld, world_recipe
from tests.pipeline.dask_cluster import dask_cluster
from vidaudio.config.corpus import CorpusRecipe, DaskBlock, load_corpus_recipe, with_scheduler
from vidaudio.errors import ClusterError, RecipeError
from vidaudio.pipeline.build import build
from vidaudio.pipeline.dask.batch_jobs import job_cluster, job_specs
from vidaudio.pipeline.dask.cluster import check_cluster, check_scheduler, connected, max_in_flight

SBATCH = """#!/bin/sh
cp "$1" "$SLURM_FOLDER/$$.script"
setsid /bin/bash "$SLURM_FOLDER/$$.script" > "$SLURM_FOLDER/$$.log" 2>&1 &
echo $! >> "$SLURM_FOLDER/started"
echo "Submitted batch job $!"
"""
SCANCEL = """#!/bin/sh
echo "$1" >> "$SLURM_FOLDER/cancelled"
kill -TERM -- "-$1"
"""


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A batch system of one machine: `sbatch` starts a job at once, in a session of its own, `scancel` ends it."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    for name, script in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("SLURM_FOLDER", str(folder))
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    yield folder
    for pid in numbers(folder / "started"):
        try:
            os.killpg(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def numbers(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def dask_block(*settings: str) -> DaskBlock:
    base = "dask.cluster={kind: slurm, jobs: 2, cores: 4, walltime: '1:00'}"
    return load_corpus_recipe("folder", (base, *settings)).dask


def scripts(block: DaskBlock) -> dict[str, str]:
    return {
        name: spec["cls"]("tcp://10.0.0.1:8786", name=name, **spec["options"]).job_script()
        for name, spec in job_specs(block.cluster).items()
    }


def last(option: str, script: str) -> str:
    """The value of a worker's option; of one that stands twice the last counts."""
    return re.findall(rf"{option} (\S+)", script)[-1]


def test_a_jobs_worker_offers_what_its_cores_can_do():
    script = scripts(dask_block("dask.cluster.downloads=2", "dask.cluster.walltime='24:00:00'"))["cpu-1"]
    assert last("--resources", script) == "net=2,cpu=4,gpu=1"
    assert last("--nthreads", script) == "7", "a thread for every task that may run at a time"
    assert "--nworkers" not in script
    assert "#SBATCH --cpus-per-task=4" in script
    assert "#SBATCH -t 24:00:00" in script
    assert "export OMP_NUM_THREADS=4" in script, "it embeds, too"


def test_with_gpu_jobs_the_others_do_not_embed_and_what_is_left_out_is_inherited():
    gpu = "{jobs: 2, cores: 8, queue: gpu, extra: {job_extra_directives: ['--gres=gpu:1']}}"
    extra = "{account: me, job_extra_directives: ['--constraint=fast'], job_script_prologue: ['module load x']}"
    settings = (f"dask.cluster.gpu={gpu}", f"dask.cluster.extra={extra}", "dask.cluster.queue=plain")
    made = scripts(dask_block(*settings))
    assert sorted(made) == ["cpu-0", "cpu-1", "gpu-0", "gpu-1"]
    assert [last("--resources", made[name]) for name in ("cpu-0", "gpu-0")] == ["net=1,cpu=4", "gpu=1"]
    assert [last("--nthreads", made[name]) for name in ("cpu-0", "gpu-0")] == ["5", "1"]
    assert ["#SBATCH -p plain" in made["cpu-0"], "#SBATCH -p gpu" in made["gpu-0"]] == [True, True]
    assert ["--gres=gpu:1" in script for script in made.values()] == [False, False, True, True]
    assert all("--constraint=fast" in script and "#SBATCH -A me" in script for script in made.values())
    threads = [re.search(r"OMP_NUM_THREADS=(\d+)", made[name])[1] for name in ("cpu-0", "gpu-0")]
    assert threads == ["1", "8"]
    assert made["gpu-0"].index("OMP_NUM_THREADS") < made["gpu-0"].index("module load x")


@pytest.mark.parametrize("kind", ["pbs", "sge", "lsf", "oar", "moab", "htcondor"])
def test_other_batch_systems_get_the_same_worker(kind: str):
    own = {"htcondor": ("dask.cluster.walltime=null", "dask.cluster.extra={disk: '10GB'}")}.get(kind, ())
    for script in scripts(dask_block(f"dask.cluster.kind={kind}", "dask.cluster.downloads=3", *own)).values():
        assert "net=3,cpu=4,gpu=1" in script


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["dask.cluster.extra={acount: me}"], r"slurm jobs have no acount \(did you mean account\?\)"),
        (["dask.cluster={kind: htcondor, walltime: null, queue: q}"], r"htcondor jobs have no queue"),
        (["dask.cluster.extra={job_extra_directives: 3}"], r"dask-jobqueue refuses these slurm jobs"),
    ],
)
def test_settings_that_the_batch_system_does_not_have_are_named_before_anything_is_submitted(slurm, settings, words):
    with pytest.raises(RecipeError, match=words):
        check_cluster(dask_block(*settings))
    assert not numbers(slurm / "started")


def test_what_is_missing_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ClusterError, match=r"sbatch is not on this machine's PATH.*--scheduler"):
        check_cluster(dask_block())
    check_cluster(dask_block("dask.scheduler=tcp://h:1"))  # taken before the cluster
    check_cluster(dask_block("dask.cluster.kind=local"))
    for name in [name for name in sys.modules if name.partition(".")[0] == "dask_jobqueue"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "dask_jobqueue", None)
    with pytest.raises(ClusterError, match=r"pip install 'vidaudio\[cluster\]'"):
        check_cluster(dask_block())


def test_a_batch_system_that_refuses_the_jobs_is_quoted(slurm: Path):
    (slurm / "sbatch").write_text("#!/bin/sh\necho 'error: invalid partition specified: x' >&2\nexit 1\n")
    with (
        pytest.raises(ClusterError, match=r"slurm jobs could not be submitted: .*invalid partition specified"),
        job_cluster(dask_block("dask.cluster.host=127.0.0.1")),
    ):
        pass


def small_build(encoder: Path, *settings: str) -> CorpusRecipe:
    gpu = "gpu: {jobs: 1, cores: 1}"
    jobs = f"{{kind: slurm, jobs: 1, cores: 2, host: 127.0.0.1, memory: 4GB, walltime: '1:00', {gpu}}}"
    return world_recipe(encoder, f"dask.cluster={jobs}", *settings)


def test_a_build_through_a_batch_system_from_submission_to_cancelling(
    slurm: Path, media_world: MediaWorld, tiny_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    status = build(small_build(tiny_clip), str(media_world.manifest), str(tmp_path / "corpus"), progress=False)
    stages = status.as_dict()["stages"]
    assert stages["embed"]["done"] == len(media_world.usable)
    assert status.as_dict()["packs"]["default"]["samples"] == len(media_world.usable)
    started = numbers(slurm / "started")
    assert len(started) == 2
    assert sorted(numbers(slurm / "cancelled")) == sorted(started)
    assert list(tmp_path.glob("vidaudio-budget-*/*.json")), "the driver's scheduler kept the budget"


def test_jobs_that_end_are_submitted_anew(slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("vidaudio.pipeline.dask.batch_jobs.RESUBMIT_SECONDS", 0.2)
    monkeypatch.setattr("vidaudio.pipeline.dask.batch_jobs.LOST_AFTER", "100ms")
    block = dask_block("dask.cluster={jobs: 1, cores: 2, host: 127.0.0.1, memory: 1GB, downloads: 2}")
    with connected(block) as client:
        client.wait_for_workers(1, timeout=60)
        assert max_in_flight(client, block) == 4
        (worker,) = client.scheduler_info()["workers"].values()
        assert (worker["nthreads"], worker["resources"]) == (5, {"net": 2, "cpu": 2, "gpu": 1})
        (first,) = numbers(slurm / "started")
        os.killpg(first, signal.SIGKILL)
        # The second job's worker takes this task; without one it would wait for ever.
        assert client.submit(os.getpgid, 0, resources={"cpu": 1}, retries=5, pure=False).result(timeout=60) != first
    assert len(numbers(slurm / "started")) == 2


def test_workers_without_the_resources_are_refused_by_name(tmp_path: Path):
    with dask_cluster(tmp_path / "dask", 1, resources="net=4,cpu=2") as cluster:
        block = load_corpus_recipe("folder", (f"dask.scheduler={cluster.address}",)).dask
        with (
            pytest.raises(ClusterError, match=r"offer no gpu; start them with `dask worker .*--resources"),
            connected(block),
        ):
            pass


def test_workers_that_come_after_the_client_are_waited_for(tmp_path: Path):
    with dask_cluster(tmp_path / "dask", 0) as cluster:
        block = load_corpus_recipe("folder", (f"dask.scheduler={cluster.address}",)).dask
        cluster.add_worker("late")
        with connected(block) as client:
            assert len(client.scheduler_info()["workers"]) == 1


def test_a_cluster_without_workers_is_called_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("vidaudio.pipeline.dask.cluster.WORKERS_SECONDS", 0.5)
    with dask_cluster(tmp_path / "dask", 0) as cluster:
        block = load_corpus_recipe("folder", (f"dask.scheduler={cluster.address}",)).dask
        with pytest.raises(ClusterError, match=r"no worker has come to .* in 0.5 s; start some with"), connected(block):
            pass


def test_a_corpus_is_not_begun_for_a_scheduler_that_does_not_answer(
    media_world: MediaWorld, tiny_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("vidaudio.pipeline.dask.cluster.CONNECT_SECONDS", 0.5)
    recipe = world_recipe(tiny_clip)
    recipe = recipe.model_copy(update={"dask": with_scheduler(recipe.dask, "tcp://127.0.0.1:9")})
    with pytest.raises(ClusterError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9"):
        build(recipe, str(media_world.manifest), str(tmp_path / "corpus"))
    assert not (tmp_path / "corpus").exists()


def test_what_listens_and_is_no_scheduler_is_not_waited_for(site: LoopbackSite, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("vidaudio.pipeline.dask.cluster.CONNECT_SECONDS", 0.5)
    monkeypatch.setattr("vidaudio.pipeline.dask.cluster.HEAR_SECONDS", 0.2)
    address = site.url("").replace("http", "tcp").rstrip("/")
    block = load_corpus_recipe("folder", (f"dask.scheduler={address}",)).dask
    with pytest.raises(ClusterError, match="what listens there is no scheduler; is it the dashboard's port"):
        check_scheduler(block)


def test_the_dashboard_stays_on_loopback_where_its_port_is_taken():
    with socket.socket() as taken, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        block = load_corpus_recipe("folder", (f"dask.dashboard='127.0.0.1:{port}'", "dask.workers=1")).dask
        with connected(block) as client:
            assert client.dashboard_link.startswith("http://127.0.0.1:")
            assert f":{port}/" not in client.dashboard_link


@pytest.mark.parametrize(
    ("main", "advice"),
    [
        ({"__spec__": ModuleSpec("vidaudio.__main__", None)}, "give the same command again"),
        ({"__spec__": None, "__file__": "/usr/bin/vidaudio"}, "give the same command again"),
        ({"__spec__": None, "__file__": "/home/somebody/mine.py"}, 'under `if __name__ == "__main__":`'),
    ],
    ids=["module", "command", "script"],
)
def test_a_worker_that_dies_as_it_starts_brings_the_advice_that_fits(main, advice, monkeypatch):
    def died(*arguments, **options):
        raise RuntimeError("Nanny failed to start.")

    module = ModuleType("__main__")
    vars(module).update(main)
    monkeypatch.setitem(sys.modules, "__main__", module)
    monkeypatch.setattr("distributed.SpecCluster", died)
    with pytest.raises(ClusterError, match="did not start") as caught, connected(load_corpus_recipe("folder").dask):
        pass
    assert advice in str(caught.value)


def test_a_worker_that_takes_long_to_come_back_is_waited_for():
    # Shorter than a spawned process takes to start, so that the restart is late as it is on a busy machine.
    late = {"distributed.deploy.lost-worker-timeout": "50ms", "distributed.worker.multiprocessing-method": "spawn"}
    with dask.config.set(late), connected(DaskBlock(workers=1)) as client:
        first = client.submit(os.getpid, pure=False).result(timeout=60)
        os.kill(first, signal.SIGKILL)
        time.sleep(1.0)  # until Dask has noticed, and the wait is over
        assert client.submit(os.getpid, pure=False).result(timeout=60) != first
