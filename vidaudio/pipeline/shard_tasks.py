"""Tasks of a build: finds the stages that each shard still needs, and submits them to Dask, one shard after the other.

A task's arguments are a shard number and little else. It returns a commit record and a few counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from vidaudio.config.corpus import RunSettings
from vidaudio.corpus.columns import EMBED, columns_in_order
from vidaudio.corpus.corpus import Corpus, CorpusRef, cached_corpus
from vidaudio.errors import CorpusError
from vidaudio.packs.input_cache import is_worthwhile, source_name, sources_folder, write_sources
from vidaudio.packs.tasks import PackTask, PackTasks
from vidaudio.packs.vectors import packed_columns
from vidaudio.pipeline.clip_progress import report_progress, watch_progress
from vidaudio.pipeline.dask.cluster import max_in_flight
from vidaudio.pipeline.preload import load_libraries
from vidaudio.pipeline.run_log import RunLog
from vidaudio.pipeline.stages import PACK, Stage, StageFunction, shard_stages
from vidaudio.pipeline.stages.circuit_breaker import RunCircuitBreaker, TrailingFailures
from vidaudio.pipeline.stages.equal_answers import SiteAnswers
from vidaudio.pipeline.task_id import TaskId
from vidaudio.pipeline.task_loop import Progress, run_tasks
from vidaudio.shards.commit import committed_shards, read_record, table_name
from vidaudio.stream.vector_columns import VectorColumn

if TYPE_CHECKING:
    from distributed import Client, Future

Work = TypeVar("Work")
# How often Dask repeats a task that raised an error.
TASK_RETRIES = 2


class MissingShards:
    """Unfinished shards with the stages that each still needs, in order; the pairs are made on iteration.

    Args:
        stages: Names of the stages, in the order in which they run.
        missing: Which stage is missing in which shard, bool `[stages, shards]`.
    """

    def __init__(self, stages: Sequence[str], missing: np.ndarray) -> None:
        self._stages, self._missing = tuple(stages), missing
        self.shards = np.flatnonzero(missing.any(axis=0))

    def __len__(self) -> int:
        return len(self.shards)

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        for shard in self.shards.tolist():
            yield shard, self.stages_of(shard)

    def stages_of(self, shard: int) -> list[str]:
        """Return the stages that a shard still needs, in order."""
        return [name for name, missing in zip(self._stages, self._missing[:, shard], strict=True) if missing]


def missing_shards(corpus: Corpus, stages: Sequence[str], models: Mapping[str, str]) -> MissingShards:
    """Return the unfinished shards, and which of the wanted stages each still needs.

    Args:
        corpus: The corpus.
        stages: Wanted stages of a build.
        models: Name of the model by stage, for the columns that have one folder per model. Without its model's name,
            such a column counts as not committed.

    Raises:
        CorpusError: When a shard needs a stage whose input is neither committed nor wanted.
    """
    done = {column.stage: np.zeros(corpus.shards, bool) for column in columns_in_order()}
    for column in columns_in_order():
        if not column.per_model or column.stage in models:
            standing = np.fromiter(committed_shards(corpus.store, column.folder_for(models)), np.int64)
            done[column.stage][standing[standing < corpus.shards]] = True
    check_order(stages, done)
    wanted = [stage for stage in done if stage in stages]
    return MissingShards(wanted, ~np.array([done[stage] for stage in wanted], bool).reshape(len(wanted), corpus.shards))


def check_order(stages: Collection[str], done: Mapping[str, np.ndarray]) -> None:
    """Check that the inputs of every wanted stage are committed, or are wanted themselves.

    Args:
        stages: Wanted stages of a build.
        done: In which shards each column is committed, bool `[shards]` by stage.

    Raises:
        CorpusError: When a shard needs a stage whose input is neither committed nor wanted.
    """
    for column in columns_in_order():
        for need in column.needs if column.stage in stages else ():
            if need not in stages and (~done[column.stage] & ~done[need]).any():
                raise CorpusError(
                    f"{column.stage} reads what {need} writes, and that is not there yet; do {need} first"
                )


@dataclass(frozen=True)
class _Run:
    """What all tasks of a run share, and how they are submitted and driven.

    Attributes:
        client: Client of the Dask cluster.
        ref: Reference to the corpus.
        settings: Settings of the run, with its id.
        report: Log of the run.
    """

    client: Client
    ref: CorpusRef
    settings: RunSettings
    report: RunLog

    def submit(
        self,
        task: Callable[..., dict[str, Any]],
        *arguments: Any,
        stage: str,
        part: str,
        resource: str = "cpu",
        retries: int = TASK_RETRIES,
    ) -> Future:
        """Submit `task(ref, *arguments)` under the name of a `TaskId`; it takes one unit of a resource."""
        options = {
            "key": TaskId(stage, part, self.settings.id).key,
            "resources": {resource: 1},
            "retries": retries,
            "pure": False,
        }
        return self.client.submit(task, self.ref, *arguments, **options)

    def drive(
        self,
        work: Iterable[Work],
        submit: Callable[[Work], list[Future]],
        bar: Progress,
        units: Callable[[Work], int],
        **options: Any,
    ) -> None:
        """Run the tasks of all work items with a bounded number in flight, and close the bar; see `run_tasks`."""
        limit = max_in_flight(self.client, self.settings.dask)
        run_tasks(iter(work), submit, limit=limit, units=units, report=self.report, progress=bar, **options)
        bar.close()


def _with_id(run: RunSettings) -> RunSettings:
    return run.model_copy(update={"id": f"{time.time_ns():x}"})


def run_shard_tasks(
    client: Client,
    corpus: Corpus,
    missing: MissingShards,
    models: Mapping[str, str],
    run: RunSettings,
    report: RunLog,
    *,
    progress: bool,
    stages: Sequence[Stage] = (),
) -> None:
    """Run the missing stages of every unfinished shard, with a bounded number of shards in flight.

    Args:
        client: Client of the Dask cluster.
        corpus: The corpus.
        missing: The unfinished shards.
        models: Name of the model by stage, for the columns that have one folder per model.
        run: Settings of the run.
        report: Log of the run.
        progress: Whether to show a progress bar.
        stages: The stage of `vidaudio score`, which is none of a build; empty for a build.
    """
    by_name = {stage.column.stage: stage for stage in (*shard_stages(run.download.keep), *stages)}
    clips = corpus.clips_by_shard()
    run = _with_id(run)
    tasks = _Run(client, corpus.ref, run, report)
    topic = f"vidaudio-{run.id}"

    def submit(work: tuple[int, list[str]]) -> list[Future]:
        shard, names = work
        futures: dict[str, Future] = {}
        for name in names:
            column = by_name[name].column
            needs = [futures[need] for need in column.needs if need in futures]
            # A stage that fetches has its own retries; repeating it at once would waste requests on the whole list.
            retries = 0 if column.resource == "net" else TASK_RETRIES
            arguments = name, column.folder_for(models), by_name[name].run, shard, run, topic, *needs
            named = {"stage": name, "part": f"{shard:06d}", "resource": column.resource}
            futures[name] = tasks.submit(run_task, *arguments, **named, retries=retries)
        return list(futures.values())

    total = int(clips[missing.shards].sum())
    title = stages[0].column.stage if stages else "building"
    bar = Progress(title, unit="clip", total=total, shards=len(missing), shown=progress)
    breaker = RunCircuitBreaker(run.download.stop_after_failures, run.download.stop_after_equal_answers)

    def inside(shard: int, stage: str, done: int) -> None:
        stages = missing.stages_of(shard)
        # Every stage of a shard counts the same.
        bar.inside(shard, (stages.index(stage) * int(clips[shard]) + min(done, int(clips[shard]))) // len(stages))

    options = {"verdict": lambda record: _noted(breaker, record), "shard_of": lambda work: work[0]}
    with watch_progress(client, topic, inside):
        tasks.drive(missing, submit, bar, lambda work: int(clips[work[0]]), **options)


def _noted(breaker: RunCircuitBreaker, record: Mapping[str, Any]) -> str | None:
    """Pass a record to the circuit breaker; return the sentence that ends the run, or None.

    Records of other stages, and of shards that were committed before, are ignored.
    """
    if "trailing" not in record:
        return None
    return breaker.note(TrailingFailures(**record["trailing"]), [SiteAnswers(**row) for row in record["answers"]])


def run_pack_tasks(
    client: Client,
    corpus: Corpus,
    tasks: PackTasks,
    models: Mapping[str, str],
    run: RunSettings,
    report: RunLog,
    *,
    progress: bool,
) -> None:
    """Write every training shard that is not packed yet, with a bounded number in flight.

    Where it is worthwhile, the clips of every source shard are first written once, so that pack tasks can read ranges.
    """
    shared = _Run(client, corpus.ref, _with_id(run), report)
    if is_worthwhile(tasks):
        tasks = tasks.reading(sources_folder(tasks.plan_hash))
        _run_source_tasks(shared, corpus, tasks, models, progress=progress)
        if report.failed:
            return

    def submit(task: PackTask) -> list[Future]:
        return [shared.submit(run_pack_task, models, task, stage=PACK, part=task.name)]

    bar = Progress("packing", unit="sample", total=tasks.samples, shards=len(tasks), shown=progress)
    shared.drive(tasks, submit, bar, lambda task: len(task.samples))


def _run_source_tasks(
    shared: _Run, corpus: Corpus, tasks: PackTasks, models: Mapping[str, str], *, progress: bool
) -> None:
    """Write the clips of every source shard once, so that pack tasks can read each clip by its byte range."""
    assert tasks.sources is not None, "see `PackTasks.reading`"
    standing = corpus.store.list(tasks.sources)
    shards = [shard for shard in tasks.source_shards().tolist() if source_name(shard) not in standing]
    columns = packed_columns(corpus.store, tasks.settings, models[EMBED.stage])

    def submit(shard: int) -> list[Future]:
        return [shared.submit(run_source_task, columns, tasks.sources, shard, stage="gather", part=f"{shard:06d}")]

    bar = Progress("reading", unit="shard", total=len(shards), shards=len(shards), shown=progress)
    shared.drive(shards, submit, bar, lambda shard: 1)


def run_task(
    ref: CorpusRef,
    stage: str,
    folder: str,
    work: StageFunction,
    shard: int,
    run: RunSettings,
    topic: str,
    *needs: dict[str, Any],
) -> dict[str, Any]:
    """Run one stage of one shard on a worker, unless it is committed already; return a small record.

    Args:
        ref: Reference to the corpus.
        stage: Name of the stage. What it does and where is decided by the driver alone.
        folder: Folder that it commits to.
        work: Function of the stage.
        shard: Shard number.
        run: Settings of this run: how it reaches the sites (cookies, proxy, rates), deadlines, numbers of threads.
        topic: Topic of the Dask events that report progress inside the shard.
        *needs: Records of the stages that this one needs; unused, they only make Dask run those first.
    """
    load_libraries()
    corpus = cached_corpus(ref)
    began = time.monotonic()
    name = table_name(folder, shard)
    if corpus.store.exists(name):
        record = read_record(corpus.store, name)
    else:
        record = work(corpus, shard, folder, run, report_progress(topic, shard, stage))
    return {**asdict(record), "seconds": time.monotonic() - began}


def run_pack_task(ref: CorpusRef, models: Mapping[str, str], task: PackTask) -> dict[str, Any]:
    """Write one training shard on a worker."""
    load_libraries()
    from vidaudio.packs.write import pack_shard

    began = time.monotonic()
    record = pack_shard(cached_corpus(ref), task, models)
    return {**asdict(record), "seconds": time.monotonic() - began}


def run_source_task(ref: CorpusRef, columns: Sequence[VectorColumn], folder: str, shard: int) -> dict[str, Any]:
    """Write the clips of one source shard on a worker, ready to be packed."""
    load_libraries()
    began = time.monotonic()
    clips = write_sources(cached_corpus(ref), shard, columns, folder)
    return {"stage": "gather", "shard": shard, "rows": clips, "seconds": time.monotonic() - began}
