"""The driver: which tasks are missing, a bounded number of them in flight, and what came of it.

A task is a shard. Its chain download -> extract -> embed has no barrier between stages, so one shard downloads while
another is decoded. Futures carry commit records, never media; the store, not the scheduler, says what is done.
"""

from __future__ import annotations

import datetime
import io
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from vidaudio.errors import CorpusError, VidaudioError
from vidaudio.pipeline.cluster import connected
from vidaudio.pipeline.corpus import Corpus, cached_corpus, create_or_continue, open_corpus
from vidaudio.pipeline.pack_plan import (
    PackStands,
    PackTask,
    begin_pack,
    check_selection,
    missing_tasks,
    plan_pack,
)
from vidaudio.pipeline.recipe import CorpusRecipe, PackBlock, required_paths, wanted_stages
from vidaudio.pipeline.retry import parse_reasons, plan_retry
from vidaudio.pipeline.stages import shard_stages
from vidaudio.pipeline.stages.embed import check_encoder, prepare_encoder
from vidaudio.pipeline.stages.rounds import FetchingStopped
from vidaudio.pipeline.status import CorpusStatus, corpus_status
from vidaudio.shards.commit import committed_shards, read_record, table_name
from vidaudio.shards.scratch import sweep_scratch
from vidaudio.shards.sweep import sweep_orphans

if TYPE_CHECKING:
    from distributed import Client, Future

# A worker that dies takes its task with it; the task is tried elsewhere this often.
TASK_RETRIES = 2
# Unexpected errors in this many tasks with no success between them end the run: something is wrong with all of them.
MAX_FAILURES_IN_A_ROW = 5

# What a run happened to cost: one row a finished task.
JOURNAL = pa.schema(
    [
        ("stage", pa.string()),
        ("shard", pa.int32()),
        ("rows", pa.int64()),
        ("seconds", pa.float64()),
        ("requests", pa.int64()),
        ("refused", pa.int64()),
        ("waited_seconds", pa.float64()),
        ("source_tries", pa.int64()),
    ]
)


@dataclass(slots=True)
class RunReport:
    """What one run did.

    Attributes:
        tasks: A row a finished task: stage, shard, seconds, when.
        errors: First line of each unexpected error, by task.
        seconds: Wall time.
    """

    tasks: list[dict[str, Any]] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0


def build(
    recipe: CorpusRecipe,
    manifest: str | None = None,
    corpus: str | None = None,
    *,
    only: Sequence[str] | None = None,
    retry_failed: str | None = None,
    progress: bool = True,
) -> CorpusStatus:
    """Build a corpus, or go on with it: download, extract, embed and pack whatever is not committed yet.

    Rows that were added to the list become new shards. A pack that stands is left as it is when the corpus has grown
    since; `pack` makes another.

    Args:
        recipe: Settings.
        manifest: Path of the list; `recipe.manifest` by default.
        corpus: Folder or fsspec URL; `recipe.corpus` by default.
        only: Some of `download`, `extract`, `embed`, `pack`; all by default.
        retry_failed: Plan clips that failed once more, into new shards: `transient`, `all`, or reasons with commas.
        progress: Show a progress bar and where the dashboard is.

    Raises:
        ManifestError, CorpusError, EncoderError: With what to do about it; what was committed stays.
    """
    from vidaudio.manifest import read_manifest

    stages = wanted_stages(only)
    where, path = required_paths(recipe, manifest, corpus)
    reasons = parse_reasons(retry_failed) if retry_failed else None
    listed = read_manifest(path)
    recipe = _resolved(recipe, where)
    # What would stop the run later is found before anything is written.
    if "pack" in stages:
        check_selection(recipe.pack)
    if {"embed", "pack"} & set(stages):
        check_encoder(recipe)
    opened = create_or_continue(where, recipe, listed)
    if opened.store.warning:
        tqdm.write(opened.store.warning)
    _sweep(opened)
    if reasons is not None:
        opened = plan_retry(opened, reasons)
    opened = replace(opened, recipe=recipe)
    encoder = prepare_encoder(opened) if "embed" in stages or "pack" in stages else "unset"
    started = time.monotonic()
    report = RunReport()
    missing = missing_shards(opened, stages, encoder)
    try:
        if missing:
            with connected(recipe.dask) as client:
                if progress:
                    tqdm.write(f"dashboard: {client.dashboard_link}")
                _run_chains(client, opened, missing, encoder, report, progress)
                if "pack" in stages and not report.errors:
                    _pack_or_leave(opened, recipe.pack, encoder, client, report, progress)
        elif "pack" in stages:
            _pack_or_leave(opened, recipe.pack, encoder, None, report, progress)
    finally:
        report.seconds = time.monotonic() - started
        _write_journal(opened, report)
    _raise_errors(opened, report)
    return corpus_status(opened.url)


def pack(corpus: str, settings: PackBlock | None = None, *, progress: bool = True) -> CorpusStatus:
    """Pack a finished corpus once more, under another name or with other settings."""
    opened = open_corpus(corpus)
    settings = settings or opened.recipe.pack
    encoder = prepare_encoder(opened)
    report = RunReport()
    _pack(opened, settings, encoder, None, report, progress)
    _write_journal(opened, report)
    _raise_errors(opened, report)
    return corpus_status(opened.url)


def missing_shards(corpus: Corpus, stages: Sequence[str], encoder: str) -> dict[int, list[str]]:
    """Shards that are not finished, and which of the wanted stages each still needs.

    Raises:
        CorpusError: A shard needs a stage whose input stands in no folder and is not wanted either.
    """
    standing = {stage.name: committed_shards(corpus.store, stage.folder) for stage in shard_stages(encoder)}
    missing: dict[int, list[str]] = {}
    for shard in range(corpus.shards):
        before = None
        for name, done in standing.items():
            if name in stages and shard not in done:
                if before is not None and before not in stages and shard not in standing[before]:
                    raise CorpusError(
                        f"{name} reads what {before} writes, and that is not there yet; do {before} first"
                    )
                missing.setdefault(shard, []).append(name)
            before = name
    return missing


def run_task(
    url: str,
    plan_hash: str,
    parts: int,
    encoder: str,
    stage: str,
    shard: int,
    recipe: CorpusRecipe,
    after: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """One task on a worker; returns a small record.

    Args:
        url, plan_hash, parts: The corpus, and how far it had grown.
        encoder: Name of its encoder.
        stage, shard: What to do.
        recipe: Of this run. It agrees with the corpus's on all that decides bytes; the way to the sites (cookies,
            proxy, rates), deadlines and numbers of threads are its own.
        after: The record of the stage before; only orders this one behind it.
    """
    corpus = replace(cached_corpus(url, plan_hash, parts), recipe=recipe)
    described = next(s for s in shard_stages(encoder) if s.name == stage)
    began = time.monotonic()
    name = table_name(described.folder, shard)
    if corpus.store.exists(name):
        record = read_record(corpus.store, name)
    else:
        record = described.run(corpus, shard, described.folder)
    return {**asdict(record), "seconds": time.monotonic() - began}


def run_pack_task(url: str, plan_hash: str, parts: int, encoder: str, task: PackTask) -> dict[str, Any]:
    """One training shard on a worker."""
    from vidaudio.pipeline.stages.pack import pack_shard

    began = time.monotonic()
    record = pack_shard(cached_corpus(url, plan_hash, parts), task, encoder)
    return {**asdict(record), "seconds": time.monotonic() - began}


def _resolved(recipe: CorpusRecipe, where: str) -> CorpusRecipe:
    """The recipe with its dtype decided.

    Decided once: a corpus must not change its vectors because a later run has another processor.
    """
    precision = recipe.embed.encoder.precision
    if precision == "auto":
        precision = _standing_precision(where) or _best_precision()
    encoder = recipe.embed.encoder.model_copy(update={"precision": precision})
    return recipe.model_copy(update={"embed": recipe.embed.model_copy(update={"encoder": encoder})})


def _best_precision() -> str:
    # Here and not at the top: a run that only fetches need not load PyTorch.
    from vidaudio.encoders.clip import best_precision

    return best_precision()


def _standing_precision(where: str) -> str | None:
    try:
        return open_corpus(where).recipe.embed.encoder.precision
    except CorpusError:
        return None


def _run_chains(
    client: Client,
    corpus: Corpus,
    missing: Mapping[int, Sequence[str]],
    encoder: str,
    report: RunReport,
    progress: bool,
) -> None:
    """Every missing shard's chain, a bounded number at a time."""
    resources = {stage.name: stage.resource for stage in shard_stages(encoder)}
    clips = corpus.clips_by_shard()
    total = sum(clips[shard] for shard in missing)
    bar = tqdm(total=total, desc="building", unit="clip", disable=not progress, dynamic_ncols=True)

    def submit(shard: int) -> list[Future]:
        chain: list[Future] = []
        for stage in missing[shard]:
            chain.append(
                client.submit(
                    run_task,
                    corpus.url,
                    corpus.plan_hash,
                    len(corpus.parts),
                    encoder,
                    stage,
                    shard,
                    corpus.recipe,
                    chain[-1] if chain else None,
                    key=f"{stage}-{shard:06d}-{report_key}",
                    resources={resources[stage]: 1},
                    # A download that gave up has tried often enough; asking again at once would burn the list.
                    retries=0 if stage == "download" else TASK_RETRIES,
                    pure=False,
                )
            )
        return chain

    report_key = f"{time.time_ns():x}"
    _drive(
        iter(missing),
        submit,
        _in_flight(client, corpus.recipe),
        report,
        _Progress(bar, len(missing), clips.__getitem__),
    )
    bar.close()


def _in_flight(client: Client, recipe: CorpusRecipe) -> int:
    """Chains submitted and not finished: enough that no worker waits, few enough that memory stays flat."""
    return recipe.dask.shards_in_flight or 2 * max(1, len(client.scheduler_info(n_workers=-1)["workers"]))


class _Progress:
    """A bar that moves by what is in a shard and says how many shards are through and how many failed."""

    def __init__(self, bar: tqdm, shards: int, size: Callable[[Any], int]) -> None:
        self._bar, self._shards, self._size = bar, shards, size
        self._finished = 0
        self._show(0)

    def finished(self, shard: Any, failed: int) -> None:
        """One more shard is through; `failed` of all so far have failed."""
        self._finished += 1
        self._show(failed)
        self._bar.update(self._size(shard))

    def _show(self, failed: int) -> None:
        text = f"{self._finished}/{self._shards} shards"
        self._bar.set_postfix_str(f"{text}, {failed} failed" if failed else text, refresh=False)


def _drive(shards: Iterator[Any], submit, limit: int, report: RunReport, progress: _Progress) -> None:
    """Keep `limit` chains in flight until none is left, or until everything fails."""
    from distributed import as_completed

    waiting = as_completed()
    last: dict[str, list[Future]] = {}
    shard_of: dict[str, Any] = {}
    failures_in_a_row = 0
    stopped = False

    def feed() -> None:
        while len(last) < limit and (shard := next(shards, None)) is not None:
            chain = submit(shard)
            last[chain[-1].key] = chain
            shard_of[chain[-1].key] = shard
            waiting.add(chain[-1])

    feed()
    for future in waiting:
        chain = last.pop(future.key)
        if future.status == "finished":
            failures_in_a_row = 0
            report.tasks += [{**link.result(), "finished": time.time()} for link in chain]
        else:
            failures_in_a_row += 1
            culprit = next((link for link in chain if link.status == "error"), future)
            report.errors[culprit.key.rsplit("-", 1)[0]] = _describe(culprit)
            stopped = stopped or isinstance(culprit.exception(), FetchingStopped)
        progress.finished(shard_of.pop(future.key), len(report.errors))
        if failures_in_a_row < MAX_FAILURES_IN_A_ROW and not stopped:
            feed()


def _describe(future: Future) -> str:
    error = future.exception()
    text = str(error).strip() or type(error).__name__
    return text if isinstance(error, VidaudioError) else f"{type(error).__name__}: {text.splitlines()[0]}"


def _pack_or_leave(
    corpus: Corpus,
    settings: PackBlock,
    encoder: str,
    client: Client | None,
    report: RunReport,
    progress: bool,
) -> None:
    """Pack as part of a build: a pack made before the corpus grew is left as it is, and that is said."""
    try:
        _pack(corpus, settings, encoder, client, report, progress)
    except PackStands as standing:
        if not standing.only_grown:
            raise
        tqdm.write(
            f"training/{settings.name} was packed before the corpus grew and stays as it is; for all clips: "
            f"vidaudio pack {corpus.url} --name NAME"
        )


def _sweep(corpus: Corpus) -> None:
    """Remove what dead processes left behind: scratch of this machine, and tars that lost the race of a commit."""
    root = corpus.store.local_path("")
    if root is not None:
        sweep_scratch(root)
    for folder in ("clips", "av"):
        sweep_orphans(corpus.store, folder)


def _pack(
    corpus: Corpus,
    settings: PackBlock,
    encoder: str,
    client: Client | None,
    report: RunReport,
    progress: bool,
) -> None:
    from vidaudio.pipeline.stages.pack import finish_pack

    plan = plan_pack(corpus, settings, encoder)
    begin_pack(corpus, plan, encoder)
    tasks = missing_tasks(corpus.store, plan)
    if tasks and client is None:
        with connected(corpus.recipe.dask) as own:
            _pack_tasks(own, corpus, tasks, encoder, report, progress)
    elif tasks:
        _pack_tasks(client, corpus, tasks, encoder, report, progress)
    if not report.errors:
        finish_pack(corpus, plan, encoder)


def _pack_tasks(
    client: Client,
    corpus: Corpus,
    tasks: Sequence[PackTask],
    encoder: str,
    report: RunReport,
    progress: bool,
) -> None:
    total = sum(len(task.samples) for task in tasks)
    bar = tqdm(total=total, desc="packing", unit="sample", disable=not progress, dynamic_ncols=True)
    report_key = f"{time.time_ns():x}"

    def submit(task: PackTask) -> list[Future]:
        key = f"pack-{task.name}-{report_key}"
        options = {"key": key, "resources": {"cpu": 1}, "retries": TASK_RETRIES, "pure": False}
        return [client.submit(run_pack_task, corpus.url, corpus.plan_hash, len(corpus.parts), encoder, task, **options)]

    progressing = _Progress(bar, len(tasks), lambda task: len(task.samples))
    _drive(iter(tasks), submit, _in_flight(client, corpus.recipe), report, progressing)
    bar.close()


def _raise_errors(corpus: Corpus, report: RunReport) -> None:
    if report.errors:
        shown = "; ".join(f"{key}: {text}" for key, text in list(report.errors.items())[:3])
        raise CorpusError(
            f"{len(report.errors)} tasks failed ({shown}). What was committed in {corpus.url} stays; "
            "the same command goes on from there."
        )


def _write_journal(corpus: Corpus, report: RunReport) -> None:
    """What this run happened to be: timings, and which tasks failed. No identity check reads it."""
    if not report.tasks and not report.errors:
        return
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S.%f")
    rows = [
        {name: task.get(name, 0) for name in JOURNAL.names} | {"requests": sum(task.get("requests", {}).values())}
        for task in report.tasks
    ]
    sink = io.BytesIO()
    metadata = {b"vidaudio": json.dumps({"seconds": report.seconds, "errors": report.errors}).encode()}
    pq.write_table(pa.Table.from_pylist(rows, schema=JOURNAL).replace_schema_metadata(metadata), sink)
    corpus.store.create(f"runs/{stamp}/tasks.parquet", sink.getvalue())
