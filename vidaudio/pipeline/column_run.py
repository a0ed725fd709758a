"""Run of one stage over a whole corpus, for columns that a command of their own writes, outside a build."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping

from tqdm import tqdm

from vidaudio.config.corpus import DaskBlock, RunSettings, with_scheduler
from vidaudio.corpus.corpus import Corpus
from vidaudio.pipeline.build import raise_errors, sweep_late
from vidaudio.pipeline.dask.cluster import connected
from vidaudio.pipeline.run_log import RunLog
from vidaudio.pipeline.shard_tasks import missing_shards, run_shard_tasks
from vidaudio.pipeline.stages import Stage


def run_column(
    corpus: Corpus, stage: Stage, models: Mapping[str, str], *, scheduler: str | None, progress: bool
) -> None:
    """Run a stage in every shard that lacks its table, on Dask.

    Args:
        corpus: The corpus.
        stage: The stage.
        models: Name of the model by stage, of the stage itself and of those that it reads.
        scheduler: Address of a Dask scheduler, `tcp://host:port`; None for a local cluster.
        progress: Whether to show a progress bar.

    Raises:
        CorpusError: When a shard lacks what the stage reads.
        BuildError: When a task failed. Committed shards stay.
    """
    missing = missing_shards(corpus, [stage.column.stage], models)
    report, started = RunLog(), time.monotonic()
    run = RunSettings(dask=with_scheduler(DaskBlock(), scheduler)) if scheduler is not None else RunSettings()
    try:
        if missing:
            with connected(run.dask) as client:
                if progress:
                    tqdm.write(f"dashboard: {client.dashboard_link}", file=sys.stderr)
                run_shard_tasks(client, corpus, missing, models, run, report, progress=progress, stages=[stage])
    finally:
        report.seconds = time.monotonic() - started
        report.write(corpus.store)
    sweep_late(corpus)
    raise_errors(corpus, report)
