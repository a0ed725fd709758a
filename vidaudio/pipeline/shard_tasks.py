"""Tasks of a build: finds the stages that each shard still needs, and submits them to Dask, one shard after the other.

A task's arguments are a shard number and little else. It returns a commit record and a few counts.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from vidaudio.config.corpus import RunSettings
from vidaudio.corpus.corpus import Corpus, CorpusRef, cached_corpus
from vidaudio.errors import CorpusError
from vidaudio.packs.input_cache import is_worthwhile, source_name, sources_folder, write_sources
from vidaudio.packs.tasks import PackTask, PackTasks
from vidaudio.packs.vectors import packed_columns
from vidaudio.pipeline.clip_progress import report_progress, watch_progress
from vidaudio.pipeline.dask.cluster import max_in_flight
from vidaudio.pipeline.preload import load_libraries
from vidaudio.pipeline.run_log import RunLog
from vidaudio.pipeline.stages import shard_stages
from vidaudio.pipeline.stages.circuit_breaker import RunCircuitBreaker, TrailingFailures
from vidaudio.pipeline.stages.equal_answers import SiteAnswers
from vidaudio.pipeline.task_loop import Progress, run_tasks
from vidaudio.shards.commit import committed_shards, read_record, table_name
from vidaudio.stream.vector_columns import VectorColumn

if TYPE_CHECKING:
    from distributed import Client, Future

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
        for shard in self.shards:
            yield int(shard), self.stages_of(shard)

    def stages_of(self, shard: int) -> list[str]:
        """Return the stages that a shard still needs, in order."""
        return [name for name, missing in zip(self._stages, self._missing[:, shard], strict=True) if missing]


def missing_shards(corpus: Corpus, stages: Sequence[str], encoder: str) -> MissingShards:
    """Return the unfinished shards, and which of the wanted stages each still needs.

    Raises:
        CorpusError: When a shard needs a stage whose input is neither committed nor wanted.
    """
    chain = shard_stages(encoder)
    done = np.zeros((len(chain), corpus.shards), bool)
    for number, stage in enumerate(chain):
        standing = np.fromiter(committed_shards(corpus.store, stage.folder), np.int64)
        done[number, standing[standing < corpus.shards]] = True
    wanted = np.array([stage.name in stages for stage in chain])
    missing = ~done & wanted[:, None]
    check_order([stage.name for stage in chain], wanted, done)
    return MissingShards([stage.name for stage in chain], missing)


def check_order(names: Sequence[str], wanted: np.ndarray, done: np.ndarray) -> None:
    """Check that the input of every wanted stage is committed, or is wanted itself.

    Args:
        names: Names of the stages, in the order in which they run.
        wanted: Which stages are to be done, bool `[stages]`.
        done: Which stage is committed in which shard, bool `[stages, shards]`.

    Raises:
        CorpusError: When a shard needs a stage whose input is neither committed nor wanted.
    """
    missing = ~done & wanted[:, None]
    for before, (name, name_before) in enumerate(zip(names[1:], names, strict=False)):
        if not wanted[before] and (missing[before + 1] & ~done[before]).any():
            raise CorpusError(
                f"{name} reads what {name_before} writes, and that is not there yet; do {name_before} first"
            )


def run_shard_tasks(
    client: Client,
    corpus: Corpus,
    missing: MissingShards,
    encoder: str,
    run: RunSettings,
    report: RunLog,
    *,
    progress: bool,
) -> None:
    """Run the missing stages of every unfinished shard, with a bounded number of shards in flight."""
    resources = {stage.name: stage.resource for stage in shard_stages(encoder)}
    clips, ref = corpus.clips_by_shard(), corpus.ref
    run_id = f"{time.time_ns():x}"

    def submit(work: tuple[int, list[str]]) -> list[Future]:
        shard, stages = work
        chain: list[Future] = []
        for stage in stages:
            chain.append(
                client.submit(
                    run_task,
                    ref,
                    encoder,
                    stage,
                    shard,
                    run,
                    f"vidaudio-{run_id}",
                    chain[-1] if chain else None,
                    key=f"{stage}-{shard:06d}-{run_id}",
                    resources={resources[stage]: 1},
                    # A download has its own retries; repeating it at once would waste requests on the whole list.
                    retries=0 if stage == "download" else TASK_RETRIES,
                    pure=False,
                )
            )
        return chain

    total = int(clips[missing.shards].sum())
    bar = Progress("building", unit="clip", total=total, shards=len(missing), shown=progress)
    limit = max_in_flight(client, run.dask)
    breaker = RunCircuitBreaker(run.download.stop_after_failures, run.download.stop_after_equal_answers)

    def inside(shard: int, stage: str, done: int) -> None:
        stages = missing.stages_of(shard)
        # Every stage of a shard counts the same.
        bar.inside(shard, (stages.index(stage) * int(clips[shard]) + min(done, int(clips[shard]))) // len(stages))

    with watch_progress(client, f"vidaudio-{run_id}", inside):
        run_tasks(
            iter(missing),
            submit,
            limit=limit,
            units=lambda work: int(clips[work[0]]),
            report=report,
            progress=bar,
            verdict=lambda record: _noted(breaker, record),
            shard_of=lambda work: work[0],
        )
    bar.close()


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
    encoder: str,
    run: RunSettings,
    report: RunLog,
    *,
    progress: bool,
) -> None:
    """Write every training shard that is not packed yet, with a bounded number in flight.

    Where it is worthwhile, the clips of every source shard are first written once, so that pack tasks can read ranges.
    """
    if is_worthwhile(tasks):
        tasks = tasks.reading(sources_folder(tasks.plan_hash))
        _run_source_tasks(client, corpus, tasks, encoder, run, report, progress=progress)
        if report.failed:
            return
    ref, run_id = corpus.ref, f"{time.time_ns():x}"

    def submit(task: PackTask) -> list[Future]:
        options = {"key": f"pack-{task.name}-{run_id}", "resources": {"cpu": 1}, "retries": TASK_RETRIES, "pure": False}
        return [client.submit(run_pack_task, ref, encoder, task, **options)]

    bar = Progress("packing", unit="sample", total=tasks.samples, shards=len(tasks), shown=progress)
    limit = max_in_flight(client, run.dask)
    run_tasks(iter(tasks), submit, limit=limit, units=lambda task: len(task.samples), report=report, progress=bar)
    bar.close()


def _run_source_tasks(
    client: Client,
    corpus: Corpus,
    tasks: PackTasks,
    encoder: str,
    run: RunSettings,
    report: RunLog,
    *,
    progress: bool,
) -> None:
    """Write the clips of every source shard once, so that pack tasks can read each clip by its byte range."""
    standing = corpus.store.list(tasks.sources)
    shards = [shard for shard in tasks.source_shards().tolist() if source_name(shard) not in standing]
    ref, run_id = corpus.ref, f"{time.time_ns():x}"
    columns = packed_columns(corpus.store, tasks.settings, encoder)

    def submit(shard: int) -> list[Future]:
        options = {
            "key": f"gather-{shard:06d}-{run_id}",
            "resources": {"cpu": 1},
            "retries": TASK_RETRIES,
            "pure": False,
        }
        return [client.submit(run_source_task, ref, columns, tasks.sources, shard, **options)]

    bar = Progress("reading", unit="shard", total=len(shards), shards=len(shards), shown=progress)
    limit = max_in_flight(client, run.dask)
    run_tasks(iter(shards), submit, limit=limit, units=lambda shard: 1, report=report, progress=bar)
    bar.close()


def run_task(
    ref: CorpusRef,
    encoder: str,
    stage: str,
    shard: int,
    run: RunSettings,
    topic: str,
    after: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Run one stage of one shard on a worker, unless it is committed already; return a small record.

    Args:
        ref: Reference to the corpus.
        encoder: Name of the corpus's encoder.
        stage: Name of the stage.
        shard: Shard number.
        run: Settings of this run: how it reaches the sites (cookies, proxy, rates), deadlines, numbers of threads.
        topic: Topic of the Dask events that report progress inside the shard.
        after: Record of the stage before; unused, it only makes Dask run that stage first.
    """
    load_libraries()
    corpus = cached_corpus(ref)
    described = next(s for s in shard_stages(encoder, run.download.keep) if s.name == stage)
    began = time.monotonic()
    name = table_name(described.folder, shard)
    if corpus.store.exists(name):
        record = read_record(corpus.store, name)
    else:
        record = described.run(corpus, shard, described.folder, run, report_progress(topic, shard, stage))
    return {**asdict(record), "seconds": time.monotonic() - began}


def run_pack_task(ref: CorpusRef, encoder: str, task: PackTask) -> dict[str, Any]:
    """Write one training shard on a worker."""
    load_libraries()
    from vidaudio.packs.write import pack_shard

    began = time.monotonic()
    record = pack_shard(cached_corpus(ref), task, encoder)
    return {**asdict(record), "seconds": time.monotonic() - began}


def run_source_task(ref: CorpusRef, columns: Sequence[VectorColumn], folder: str, shard: int) -> dict[str, Any]:
    """Write the clips of one source shard on a worker, ready to be packed."""
    load_libraries()
    began = time.monotonic()
    clips = write_sources(cached_corpus(ref), shard, columns, folder)
    return {"stage": "gather", "shard": shard, "rows": clips, "seconds": time.monotonic() - began}
