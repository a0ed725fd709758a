"""The chains of a build: what each shard still needs, made into tasks one shard after the other.

A task is a shard's number and little else; what comes back is a commit record and a few counts.
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
from vidaudio.pipeline.clip_progress import report_progress, watch_progress
from vidaudio.pipeline.dask.cluster import max_in_flight
from vidaudio.pipeline.preload import load_libraries
from vidaudio.pipeline.run_log import RunLog
from vidaudio.pipeline.stages import shard_stages
from vidaudio.pipeline.stages.circuit_breaker import RunCircuitBreaker, TrailingFailures
from vidaudio.pipeline.stages.equal_answers import SiteAnswers
from vidaudio.pipeline.task_loop import Progress, run_tasks
from vidaudio.shards.commit import committed_shards, read_record, table_name

if TYPE_CHECKING:
    from distributed import Client, Future

# A worker that dies takes its task with it; the task is tried elsewhere this often.
TASK_RETRIES = 2


class MissingShards:
    """Shards that are not finished and the stages each still needs: pairs of both, in order, made when asked for.

    Args:
        stages: Names, in the order of a chain.
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
        """The stages that a shard still needs, in order."""
        return [name for name, missing in zip(self._stages, self._missing[:, shard], strict=True) if missing]


def missing_shards(corpus: Corpus, stages: Sequence[str], encoder: str) -> MissingShards:
    """Shards that are not finished, and which of the wanted stages each still needs.

    Raises:
        CorpusError: A shard needs a stage whose input stands in no folder and is not wanted either.
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
    """Whether every wanted stage finds what it reads, or that is made on the way.

    Args:
        names: Of the stages, in the order of a chain.
        wanted: Which of them are to be done, bool `[stages]`.
        done: Which stage is committed in which shard, bool `[stages, shards]`.

    Raises:
        CorpusError: A shard needs a stage whose input stands in no folder and is not wanted either.
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
    """Every missing shard's chain, a bounded number at a time."""
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
                    # A download that gave up has tried often enough; asking again at once would burn the list.
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
        # Every stage of a chain counts the same.
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
    """What a shard's record says against going on; None for one of another stage, or one that was there before."""
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
    """Every training shard that is not packed yet, a bounded number at a time; made ready before, what pays."""
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
    """The clips of every source shard, written once so that pack tasks can read each by its range."""
    standing = corpus.store.list(tasks.sources)
    shards = [shard for shard in tasks.source_shards().tolist() if source_name(shard) not in standing]
    ref, run_id = corpus.ref, f"{time.time_ns():x}"

    def submit(shard: int) -> list[Future]:
        options = {
            "key": f"gather-{shard:06d}-{run_id}",
            "resources": {"cpu": 1},
            "retries": TASK_RETRIES,
            "pure": False,
        }
        return [client.submit(run_source_task, ref, encoder, tasks.sources, shard, **options)]

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
    """One task on a worker; returns a small record.

    Args:
        ref: The corpus.
        encoder: Name of its encoder.
        stage, shard: What to do.
        run: How this run reaches the sites (cookies, proxy, rates), its deadlines and numbers of threads.
        topic: Of the Dask events that carry progress inside the shard.
        after: The record of the stage before; only orders this one behind it.
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
    """One training shard on a worker."""
    load_libraries()
    from vidaudio.packs.write import pack_shard

    began = time.monotonic()
    record = pack_shard(cached_corpus(ref), task, encoder)
    return {**asdict(record), "seconds": time.monotonic() - began}


def run_source_task(ref: CorpusRef, encoder: str, folder: str, shard: int) -> dict[str, Any]:
    """The clips of one source shard, made ready to be packed, on a worker."""
    load_libraries()
    began = time.monotonic()
    clips = write_sources(cached_corpus(ref), shard, encoder, folder)
    return {"stage": "gather", "shard": shard, "rows": clips, "seconds": time.monotonic() - began}
