"""A build's bar moves by the clips inside a shard, from the first, and ends at their number."""

from __future__ import annotations

import io
import shutil
import time
from pathlib import Path

import pytest
from distributed import Client, Future, LocalCluster

from tests.media_world import world_run
from vidaudio.corpus.corpus import Corpus, open_corpus
from vidaudio.pipeline import clip_progress
from vidaudio.pipeline.clip_progress import report_progress, watch_progress
from vidaudio.pipeline.run_log import RunLog
from vidaudio.pipeline.stages.embed import embed_shard
from vidaudio.pipeline.stages.extract import extract_shard
from vidaudio.pipeline.task_loop import Progress, run_tasks
from vidaudio.shards.commit import read_table, table_name


@pytest.fixture
def bar(monkeypatch: pytest.MonkeyPatch) -> Progress:
    progress = Progress("building", unit="clip", total=30, shards=3, shown=True)
    progress._bar.fp = io.StringIO()
    return progress


def test_a_bar_moves_inside_a_shard_and_never_back(bar: Progress):
    bar.begun(0)
    bar.begun(1)
    shown = []
    for shard, units in ((0, 3), (1, 2), (0, 2), (0, 7), (5, 9)):
        bar.inside(shard, units)
        shown.append(bar._bar.n)
    assert shown == [3, 5, 5, 9, 9], "reports that come late or of no shard in flight change nothing"
    bar.finished(10, (), 0, shard=0)
    assert bar._bar.n == 12
    bar.inside(0, 8)
    assert bar._bar.n == 12, "a report that comes behind the end of its shard"
    bar.finished(10, (), 0, shard=1)
    bar.finished(10, (), 0, shard=None)
    assert bar._bar.n == 30
    bar.close()


def test_reports_travel_from_workers_to_the_driver_s_bar(bar: Progress, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(clip_progress, "SECONDS_BETWEEN_REPORTS", 0.0)
    heard: list[tuple[int, str, int]] = []
    seen = []

    def work(shard: int) -> dict:
        advance = report_progress("topic", shard, "extract")
        for _ in range(10):
            advance(1)
            time.sleep(0.02)
        return {"stage": "extract", "shard": shard}

    def note(shard: int, stage: str, clips: int) -> None:
        heard.append((shard, stage, clips))
        bar.inside(shard, clips)
        seen.append(bar._bar.n)

    with (
        LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None) as cluster,
        Client(cluster) as client,
        watch_progress(client, "topic", note),
    ):

        def submit(shard: int) -> list[Future]:
            return [client.submit(work, shard, key=f"extract-{shard:06d}-run")]

        run_tasks(
            iter(range(3)),
            submit,
            limit=2,
            units=lambda _: 10,
            report=RunLog(),
            progress=bar,
            shard_of=lambda shard: shard,
        )
    assert {shard for shard, _, _ in heard} == {0, 1, 2}
    assert {stage for _, stage, _ in heard} == {"extract"}
    assert max(clips for _, _, clips in heard) == 10
    assert any(0 < n < 10 for n in seen), "it moved before the first shard was through"
    assert bar._bar.n == 30
    bar.close()


def test_stages_tell_every_clip_of_their_shard(built_corpus: Corpus, tmp_path: Path):
    copied = shutil.copytree(built_corpus.url, tmp_path / "copy")
    corpus = open_corpus(str(copied))
    rows = len(corpus.rows(0))
    done = {"av": 0}
    folder = next(f"embeddings/{name}" for name in corpus.store.folders("embeddings"))
    for name, stage in (("av", extract_shard), (folder, embed_shard)):
        told: list[int] = []
        (copied / name / "000000.parquet").unlink()
        record = stage(corpus, 0, name, world_run(), told.append)
        done[name] = sum(told)
        assert record.rows
    assert done["av"] == rows
    table, _ = read_table(corpus.store, table_name("av", 0))
    assert done[folder] == table["state"].to_pylist().count("done")


def test_outside_of_a_worker_nobody_is_told():
    report_progress("topic", 0, "embed")(3)
