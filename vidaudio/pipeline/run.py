"""A build: what is missing is found, done by Dask, and reported; and a pack, which is the last part of one.

A task is a shard. Its chain download -> extract -> embed has no barrier between stages, so one shard downloads while
another is decoded. Futures carry commit records, never media; the store, not the scheduler, says what is done.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from vidaudio.errors import CorpusError
from vidaudio.pipeline.chains import missing_shards, run_chains, run_pack_tasks
from vidaudio.pipeline.checks import check_run
from vidaudio.pipeline.cluster import connected
from vidaudio.pipeline.corpus import Corpus, create_or_continue, open_corpus
from vidaudio.pipeline.finished import finished_before, note_finished, request_hash
from vidaudio.pipeline.journal import RunReport
from vidaudio.pipeline.keep import check_keep, finish_interrupted
from vidaudio.pipeline.listing import list_stages
from vidaudio.pipeline.pack_plan import PackStands, begin_pack, check_selection, missing_tasks, plan_pack
from vidaudio.pipeline.recipe import CorpusRecipe, PackBlock, required_paths, wanted_stages
from vidaudio.pipeline.remove import enforce_removals
from vidaudio.pipeline.retry import parse_reasons, plan_retry
from vidaudio.pipeline.stages.embed import check_encoder, prepare_encoder
from vidaudio.pipeline.status import CorpusStatus, corpus_status, status_of
from vidaudio.pipeline.tombstones import read_tombstones
from vidaudio.shards.scratch import sweep_scratch
from vidaudio.shards.sweep import sweep_orphans
from vidaudio.shards.upkeep import UpkeepBusy, upkeep

if TYPE_CHECKING:
    from distributed import Client


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
    from vidaudio.manifest.source import open_manifest

    stages = wanted_stages(only)
    where, path = required_paths(recipe, manifest, corpus)
    reasons = parse_reasons(retry_failed) if retry_failed else None
    recipe = _resolved(recipe, where)
    request = request_hash(recipe, path, stages) if Path(path).is_file() else None
    if reasons is None and request is not None and (before := finished_before(where, request)) is not None:
        return status_of(*before)
    listed = open_manifest(path)
    # What would stop the run later is found before anything is written.
    check_run(recipe, stages)
    if "pack" in stages:
        check_selection(recipe.pack)
    if {"embed", "pack"} & set(stages):
        check_encoder(recipe)
    check_keep(recipe.download.keep, stages)
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
    packed = True
    try:
        if missing:
            with connected(recipe.dask) as client:
                if progress:
                    tqdm.write(f"dashboard: {client.dashboard_link}")
                run_chains(client, opened, missing, encoder, report, progress=progress)
                if "pack" in stages and not report.failed:
                    packed = _pack_or_leave(opened, recipe.pack, encoder, client, report, progress)
        elif "pack" in stages:
            packed = _pack_or_leave(opened, recipe.pack, encoder, None, report, progress)
    finally:
        report.seconds = time.monotonic() - started
        report.write(opened.store)
    _sweep_late(opened)
    _raise_errors(opened, report)
    listings = list_stages(opened)
    if packed and request is not None:
        note_finished(opened, listings, request)
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
    if scheduler is not None:
        dask = opened.recipe.dask.model_copy(update={"scheduler": scheduler})
        opened = replace(opened, recipe=opened.recipe.model_copy(update={"dask": dask}))
    settings = settings or opened.recipe.pack
    check_selection(settings)
    encoder = prepare_encoder(opened)
    report = RunReport()
    _pack(opened, settings, encoder, None, report, progress)
    report.write(opened.store)
    _sweep_late(opened)
    _raise_errors(opened, report)
    return corpus_status(opened.url)


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


def _pack_or_leave(
    corpus: Corpus,
    settings: PackBlock,
    encoder: str,
    client: Client | None,
    report: RunReport,
    progress: bool,
) -> bool:
    """Pack as part of a build: a pack made before the corpus grew is left as it is, and that is said (False)."""
    try:
        _pack(corpus, settings, encoder, client, report, progress)
    except PackStands as standing:
        if not standing.only_grown:
            raise
        tqdm.write(
            f"training/{settings.name} was packed before the corpus grew or lost clips, and stays as it is; for all: "
            f"vidaudio pack {corpus.url} --name NAME"
        )
        return False
    return True


def _sweep(corpus: Corpus) -> None:
    """Finish or undo what dead processes left: their scratch, tars that lost a race, removals, media to be let go."""
    try:
        with upkeep(corpus.store):
            root = corpus.store.local_path("")
            if root is not None:
                sweep_scratch(root)
            finish_interrupted(corpus)
            enforce_removals(corpus)
            for folder in ("clips", "av"):
                sweep_orphans(corpus.store, folder)
    except UpkeepBusy as busy:
        tqdm.write(f"nothing is swept this time: {busy}")


def _sweep_late(corpus: Corpus) -> None:
    """Clips that were removed while this run was at work may have been committed by it afterwards."""
    if read_tombstones(corpus.store):
        with contextlib.suppress(UpkeepBusy), upkeep(corpus.store):
            enforce_removals(corpus)


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
            run_pack_tasks(own, corpus, tasks, encoder, report, progress=progress)
    elif tasks:
        run_pack_tasks(client, corpus, tasks, encoder, report, progress=progress)
    if not report.failed:
        finish_pack(corpus, plan, encoder)


def _raise_errors(corpus: Corpus, report: RunReport) -> None:
    if report.failed:
        shown = "; ".join(f"{key}: {text}" for key, text in list(report.errors.items())[:3])
        raise CorpusError(
            f"{report.failed:,} tasks failed ({shown}). What was committed in {corpus.url} stays; "
            "the same command goes on from there."
        )
