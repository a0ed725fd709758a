"""A build: what is missing is found, done by Dask, and reported; and a pack, which is the last part of one.

A task is a shard. Its chain download -> extract -> embed has no barrier between stages, so one shard downloads while
another is decoded. Futures carry commit records, never media; the store, not the scheduler, says what is done.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from vidaudio.config.corpus import CorpusRecipe, DaskBlock, PackBlock, RunSettings, with_scheduler
from vidaudio.corpus.corpus import Corpus, create_or_open, open_corpus
from vidaudio.corpus.listing import list_stages
from vidaudio.corpus.tombstones import read_tombstones
from vidaudio.errors import CorpusError
from vidaudio.maintenance.remove import enforce_removals
from vidaudio.maintenance.status import CorpusStatus, corpus_status, status_of
from vidaudio.media.outcomes import Reason
from vidaudio.packs.plan import PackExistsError, begin_pack, check_selection, missing_tasks, plan_pack
from vidaudio.pipeline.dask.cluster import check_scheduler, connected
from vidaudio.pipeline.preflight import check_request, read_request, with_precision
from vidaudio.pipeline.retry import nothing_retried, plan_retry
from vidaudio.pipeline.run_log import RunLog
from vidaudio.pipeline.shard_tasks import missing_shards, run_pack_tasks, run_shard_tasks
from vidaudio.pipeline.stages.embed import check_encoder, prepare_encoder, recorded_encoder
from vidaudio.pipeline.stages.fused import finish_interrupted
from vidaudio.pipeline.up_to_date import is_up_to_date, record_up_to_date, request_hash
from vidaudio.shards.maintenance_lock import LockHeld, maintenance_lock
from vidaudio.shards.orphans import sweep_orphans
from vidaudio.shards.scratch import sweep_scratch
from vidaudio.text import number_of

if TYPE_CHECKING:
    from distributed import Client

MOST_CAUSES_SHOWN = 3


def build(
    recipe: CorpusRecipe,
    manifest: str | None = None,
    corpus: str | None = None,
    *,
    only: str | Sequence[str] | None = None,
    retry_failed: str | Collection[str] | None = None,
    progress: bool = True,
) -> CorpusStatus:
    """Build a corpus, or go on with it: download, extract, embed and pack whatever is not committed yet.

    Rows that were added to the list become new shards. A pack that stands is left as it is when the corpus has grown
    since; `pack` makes another.

    Args:
        recipe: Settings.
        manifest: Path of the list; `recipe.manifest` by default.
        corpus: Folder or fsspec URL; `recipe.corpus` by default.
        only: Some of `download`, `extract`, `embed`, `pack`, as a list or with commas between; all by default.
        retry_failed: Plan clips that failed once more, into new shards: `transient`, `all`, or reasons, as a list or
            with commas between.
        progress: Show a progress bar and where the dashboard is.

    Raises:
        ManifestError, CorpusError, EncoderError: With what to do about it; what was committed stays. Where the request
            itself is refused, nothing is written.
    """
    from vidaudio.manifest.source import open_manifest

    request = read_request(recipe, manifest, corpus, only=only, retry_failed=retry_failed)
    recipe, stages, reasons = _resolved(request.recipe), request.stages, request.reasons
    where, path = request.where, request.list_path
    asked = request_hash(recipe, path, stages) if Path(path).is_file() else None
    standing = request.standing
    if standing is not None and reasons is None and asked is not None:
        listings = is_up_to_date(standing, asked)
        if listings is not None:
            return status_of(standing, listings)
    listed = open_manifest(path)
    # What would stop the run later is found before anything is written.
    check_request(request)
    if {"embed", "pack"} & set(stages):
        check_encoder(recipe.corpus_settings())
    if standing is None:
        check_scheduler(recipe.dask)
    opened, run = create_or_open(where, recipe, listed), recipe.run_settings()
    if opened.store.warning:
        tqdm.write(opened.store.warning, file=sys.stderr)
    _sweep(opened, run)
    if reasons is not None:
        opened = _plan_retry(opened, reasons)
    encoder = prepare_encoder(opened) if "embed" in stages or "pack" in stages else "unset"
    started = time.monotonic()
    report = RunLog()
    missing = missing_shards(opened, stages, encoder)
    packed = True
    try:
        if missing:
            with connected(recipe.dask) as client:
                if progress:
                    tqdm.write(f"dashboard: {client.dashboard_link}", file=sys.stderr)
                run_shard_tasks(client, opened, missing, encoder, run, report, progress=progress)
                if "pack" in stages and not report.failed:
                    packed = _pack_or_leave(opened, recipe.pack, encoder, client, run, report, progress)
        elif "pack" in stages:
            packed = _pack_or_leave(opened, recipe.pack, encoder, None, run, report, progress)
    finally:
        report.seconds = time.monotonic() - started
        report.write(opened.store)
    _sweep_late(opened)
    _raise_errors(opened, report)
    listings = list_stages(opened)
    if packed and asked is not None:
        record_up_to_date(opened, listings, asked)
    return status_of(opened, listings)


def pack(
    corpus: str, settings: PackBlock | None = None, *, scheduler: str | None = None, progress: bool = True
) -> CorpusStatus:
    """Pack a finished corpus once more, under another name or with other settings.

    Args:
        corpus: Folder or fsspec URL.
        settings: Those of the corpus's recipe by default.
        scheduler: `tcp://host:port` of a Dask scheduler; a local cluster by default.
        progress: Show a progress bar.

    Raises:
        CorpusError, RecipeError, EncoderError: With what to do about it.
    """
    opened = open_corpus(corpus)
    run = RunSettings(dask=with_scheduler(DaskBlock(), scheduler)) if scheduler is not None else RunSettings()
    settings = settings or opened.pack
    check_selection(settings)
    encoder = recorded_encoder(opened)
    report = RunLog()
    _pack(opened, settings, encoder, None, run, report, progress)
    report.write(opened.store)
    _sweep_late(opened)
    _raise_errors(opened, report)
    return corpus_status(opened.url)


def _resolved(recipe: CorpusRecipe) -> CorpusRecipe:
    """The recipe with its dtype decided, by this machine where no corpus has decided it yet."""
    if recipe.embed.encoder.precision != "auto":
        return recipe
    # Here and not at the top: a run that only fetches need not load PyTorch.
    from vidaudio.encoders.clip import best_precision

    return with_precision(recipe, best_precision())


def _plan_retry(corpus: Corpus, reasons: frozenset[Reason]) -> Corpus:
    """Plan failed clips once more; where there are none, that is said, and why."""
    grown = plan_retry(corpus, reasons)
    if len(grown.parts) == len(corpus.parts):
        tqdm.write(nothing_retried(corpus, reasons), file=sys.stderr)
    return grown


def _pack_or_leave(
    corpus: Corpus,
    settings: PackBlock,
    encoder: str,
    client: Client | None,
    run: RunSettings,
    report: RunLog,
    progress: bool,
) -> bool:
    """Pack as part of a build: a pack made before the corpus grew is left as it is, and that is said (False)."""
    try:
        _pack(corpus, settings, encoder, client, run, report, progress)
    except PackExistsError as standing:
        if not standing.only_grown:
            raise
        tqdm.write(
            f"training/{settings.name} was packed before the corpus grew or lost clips, and stays as it is; for all: "
            f"vidaudio pack {corpus.url} --name NAME",
            file=sys.stderr,
        )
        return False
    return True


def _sweep(corpus: Corpus, run: RunSettings) -> None:
    """Finish or undo what dead processes left: their scratch, tars that lost a race, removals, media to be let go."""
    try:
        with maintenance_lock(corpus.store):
            root = corpus.store.local_path("")
            if root is not None:
                sweep_scratch(root)
            finish_interrupted(corpus, run.download.keep)
            enforce_removals(corpus)
            for folder in ("clips", "av"):
                sweep_orphans(corpus.store, folder)
    except LockHeld as busy:
        tqdm.write(f"nothing is swept this time: {busy}", file=sys.stderr)


def _sweep_late(corpus: Corpus) -> None:
    """Clips that were removed while this run was at work may have been committed by it afterwards."""
    if read_tombstones(corpus.store):
        with contextlib.suppress(LockHeld), maintenance_lock(corpus.store):
            enforce_removals(corpus)


def _pack(
    corpus: Corpus,
    settings: PackBlock,
    encoder: str,
    client: Client | None,
    run: RunSettings,
    report: RunLog,
    progress: bool,
) -> None:
    from vidaudio.packs.write import finish_pack

    plan = plan_pack(corpus, settings, encoder)
    begin_pack(corpus, plan, encoder)
    tasks = missing_tasks(corpus.store, plan)
    for warning in plan.warnings if tasks else ():
        tqdm.write(f"warning: {warning}", file=sys.stderr)
    if tasks and client is None:
        with connected(run.dask) as own:
            run_pack_tasks(own, corpus, tasks, encoder, run, report, progress=progress)
    elif tasks:
        run_pack_tasks(client, corpus, tasks, encoder, run, report, progress=progress)
    if not report.failed:
        finish_pack(corpus, plan, encoder)


def _raise_errors(corpus: Corpus, report: RunLog) -> None:
    """One sentence for all that failed, every cause once, however many tasks met it."""
    if not report.failed:
        return
    tasks_by_cause: dict[str, list[str]] = {}
    for task, text in report.errors.items():
        tasks_by_cause.setdefault(text.rstrip("."), []).append(task)
    shown = "; ".join(f"{_named(tasks)}: {text}" for text, tasks in list(tasks_by_cause.items())[:MOST_CAUSES_SHOWN])
    raise CorpusError(
        f"{number_of(report.failed, 'task')} failed ({shown}). What was committed in {corpus.url} stays; "
        "once the cause is mended, the same command goes on from there."
    )


def _named(tasks: Sequence[str]) -> str:
    others = len(tasks) - 1
    return tasks[0] if not others else f"{tasks[0]} and {others:,} more"
