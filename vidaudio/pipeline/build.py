"""Builds and packs: finds the missing work, runs it on Dask, and reports the result.

Each task processes one shard. The tasks of a shard, download -> extract -> embed, each wait only for those whose
columns they read, so one shard downloads while another is decoded. Futures carry commit records, never media. The
store, not the scheduler, decides what is done.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from vidaudio.config.corpus import CorpusRecipe, DaskBlock, PackBlock, RunSettings, with_scheduler
from vidaudio.corpus.columns import EMBED, SCORE, tar_folders
from vidaudio.corpus.corpus import Corpus, create_or_open, open_corpus
from vidaudio.corpus.listing import list_stages
from vidaudio.corpus.tombstones import read_tombstones
from vidaudio.correspondence.calibration import AT_CHANCE
from vidaudio.errors import BuildError
from vidaudio.maintenance.remove import enforce_removals
from vidaudio.maintenance.status import CorpusStatus, corpus_status, status_of
from vidaudio.media.outcomes import Reason
from vidaudio.packs.plan import PackExistsError, begin_pack, check_selection, missing_tasks, plan_pack
from vidaudio.packs.selection import reads_scores
from vidaudio.pipeline.dask.cluster import check_scheduler, connected
from vidaudio.pipeline.preflight import check_request, read_request, with_precision
from vidaudio.pipeline.retry import nothing_retried, plan_retry
from vidaudio.pipeline.run_log import RunLog
from vidaudio.pipeline.shard_tasks import missing_shards, run_pack_tasks, run_shard_tasks
from vidaudio.pipeline.stages import PACK, use_vectors
from vidaudio.pipeline.stages.embed import check_encoder, prepare_encoder, recorded_encoder
from vidaudio.pipeline.stages.fused import finish_interrupted
from vidaudio.pipeline.stages.scorer_files import scorer_of_pack, scores_above_chance
from vidaudio.pipeline.up_to_date import is_up_to_date, record_up_to_date, request_hash
from vidaudio.shards.maintenance_lock import LockHeld, maintenance_lock
from vidaudio.shards.orphans import sweep_orphans
from vidaudio.shards.scratch import sweep_scratch
from vidaudio.text import number_of

if TYPE_CHECKING:
    from distributed import Client

_log = logging.getLogger(__name__)

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
    """Build or continue a corpus: download, extract, measure, embed and pack whatever is not committed yet.

    Rows that were added to the manifest become new shards. An existing pack stays as it is when the corpus has grown
    since; `pack` makes another.

    Args:
        recipe: Settings of the corpus and of this run.
        manifest: Path of the manifest; `recipe.manifest` by default.
        corpus: Folder or fsspec URL of the corpus; `recipe.corpus` by default.
        only: Some of `download`, `extract`, `facts`, `embed`, `pack`, as a list or separated by commas; all by default.
        retry_failed: Failed clips to plan once more, into new shards: `transient`, `all`, or reasons, as a list or
            separated by commas; None for no retry.
        progress: Whether to show a progress bar and the address of the dashboard.

    Raises:
        VidaudioError: When the build is refused or fails; the message says what to do.
            Committed work stays. A refused request writes nothing.
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
    # Find everything that would stop the run later before anything is written.
    check_request(request)
    if use_vectors(stages):
        check_encoder(recipe.corpus_settings())
    if standing is None:
        check_scheduler(recipe.dask)
    opened, run = create_or_open(where, recipe, listed), recipe.run_settings()
    if opened.store.warning:
        _log.warning(opened.store.warning)
    _sweep(opened, run)
    if reasons is not None:
        opened = _plan_retry(opened, reasons)
    models = {EMBED.stage: prepare_encoder(opened)} if use_vectors(stages) else {}
    started = time.monotonic()
    report = RunLog()
    missing = missing_shards(opened, stages, models)
    packed = True
    try:
        if missing:
            with connected(recipe.dask) as client:
                if progress:
                    tqdm.write(f"dashboard: {client.dashboard_link}", file=sys.stderr)
                run_shard_tasks(client, opened, missing, models, run, report, progress=progress)
                if PACK in stages and not report.failed:
                    packed = _pack_or_leave(opened, recipe.pack, models, client, run, report, progress)
        elif PACK in stages:
            packed = _pack_or_leave(opened, recipe.pack, models, None, run, report, progress)
    finally:
        report.seconds = time.monotonic() - started
        report.write(opened.store)
    sweep_late(opened)
    raise_errors(opened, report)
    listings = list_stages(opened)
    if packed and asked is not None:
        record_up_to_date(opened, listings, asked)
    return status_of(opened, listings)


def pack(
    corpus: str, settings: PackBlock | None = None, *, scheduler: str | None = None, progress: bool = True
) -> CorpusStatus:
    """Pack a finished corpus once more, under another name or with other settings.

    Args:
        corpus: Folder or fsspec URL of the corpus.
        settings: Settings of the pack; those of the corpus's recipe by default.
        scheduler: Address of a Dask scheduler, `tcp://host:port`; a local cluster by default.
        progress: Whether to show a progress bar.

    Raises:
        VidaudioError: When packing is refused or fails; the message says what to do.
    """
    opened = open_corpus(corpus)
    run = RunSettings(dask=with_scheduler(DaskBlock(), scheduler)) if scheduler is not None else RunSettings()
    settings = settings or opened.pack
    check_selection(settings)
    models = {EMBED.stage: recorded_encoder(opened)}
    report = RunLog()
    if not _pack(opened, settings, models, None, run, report, progress):
        folder = f"{opened.url}/training/{settings.name}"
        _log.warning(f"{folder} is there already, with these settings and clips: no shard was written")
    report.write(opened.store)
    sweep_late(opened)
    raise_errors(opened, report)
    return corpus_status(opened.url)


def _resolved(recipe: CorpusRecipe) -> CorpusRecipe:
    """Return the recipe with its dtype decided; this machine decides where the recipe says `auto`."""
    if recipe.embed.encoder.precision != "auto":
        return recipe
    # Imported here: a run that only fetches need not load PyTorch.
    from vidaudio.encoders.spec import best_precision

    return with_precision(recipe, best_precision())


def _plan_retry(corpus: Corpus, reasons: frozenset[Reason]) -> Corpus:
    """Plan failed clips once more. If no clip is planned, print why."""
    grown = plan_retry(corpus, reasons)
    if len(grown.parts) == len(corpus.parts):
        _log.warning(nothing_retried(corpus, reasons))
    return grown


def _pack_or_leave(
    corpus: Corpus,
    settings: PackBlock,
    models: Mapping[str, str],
    client: Client | None,
    run: RunSettings,
    report: RunLog,
    progress: bool,
) -> bool:
    """Pack as part of a build. If a pack predates the corpus's growth, leave it, print that, and return False."""
    try:
        _pack(corpus, settings, models, client, run, report, progress)
    except PackExistsError as standing:
        if not standing.only_grown:
            raise
        _log.warning(
            f"training/{settings.name} was packed before the corpus grew or lost clips, and stays as it is; for all: "
            f"vidaudio pack {corpus.url} --name NAME"
        )
        return False
    return True


def _sweep(corpus: Corpus, run: RunSettings) -> None:
    """Clean up after dead processes: scratch files, tars that lost a race, removals, and media to be released."""
    try:
        with maintenance_lock(corpus.store):
            root = corpus.store.local_path("")
            if root is not None:
                sweep_scratch(root)
            finish_interrupted(corpus, run.download.keep)
            enforce_removals(corpus)
            for folder in tar_folders(corpus.store):
                sweep_orphans(corpus.store, folder)
    except LockHeld as busy:
        _log.warning(f"nothing is swept this time: {busy}")


def sweep_late(corpus: Corpus) -> None:
    """Enforce removals again: this run may have committed clips that were removed while it worked."""
    if read_tombstones(corpus.store):
        with contextlib.suppress(LockHeld), maintenance_lock(corpus.store):
            enforce_removals(corpus)


def _pack(
    corpus: Corpus,
    settings: PackBlock,
    models: Mapping[str, str],
    client: Client | None,
    run: RunSettings,
    report: RunLog,
    progress: bool,
) -> bool:
    """Plan a pack, run the missing tasks, and finish the pack if none failed; return whether any were missing."""
    from vidaudio.packs.write import finish_pack

    scorer = scorer_of_pack(corpus, settings)
    if scorer is not None:
        settings, models = settings.model_copy(update={"scorer": scorer}), {**models, SCORE.stage: scorer}
    plan = plan_pack(corpus, settings, models)
    begin_pack(corpus, plan, models)
    tasks = missing_tasks(corpus.store, plan)
    for warning in plan.warnings if tasks else ():
        _log.warning(f"warning: {warning}")
    if tasks and scorer is not None and reads_scores(settings) and not scores_above_chance(corpus, scorer):
        _log.warning(f"warning: scores {scorer}: {AT_CHANCE}")
    if tasks:
        with connected(run.dask) if client is None else contextlib.nullcontext(client) as used:
            run_pack_tasks(used, corpus, tasks, models, run, report, progress=progress)
    if not report.failed:
        finish_pack(corpus, plan)
    return bool(tasks)


def raise_errors(corpus: Corpus, report: RunLog) -> None:
    """Raise one error for all failed tasks; each cause is named once, with the tasks that met it."""
    if not report.failed:
        return
    tasks_by_cause: dict[str, list[str]] = {}
    for task, text in report.errors.items():
        tasks_by_cause.setdefault(text.rstrip("."), []).append(task)
    shown = "; ".join(f"{_named(tasks)}: {text}" for text, tasks in list(tasks_by_cause.items())[:MOST_CAUSES_SHOWN])
    raise BuildError(
        f"{number_of(report.failed, 'task')} failed ({shown}). What was committed in {corpus.url} stays; "
        "once the cause is mended, the same command goes on from there."
    )


def _named(tasks: Sequence[str]) -> str:
    others = len(tasks) - 1
    return tasks[0] if not others else f"{tasks[0]} and {others:,} more"
