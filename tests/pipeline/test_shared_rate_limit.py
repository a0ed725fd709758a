"""A budget for many machines: kept by the scheduler, spent by all workers, written down by the driver."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.media.site.extractor import EXTRACTOR
from tests.media.site.server import LoopbackSite
from tests.pipeline.dask_cluster import DaskCluster, dask_cluster
from vidaudio.config.corpus import CorpusRecipe, load_corpus_recipe
from vidaudio.errors import BuildError
from vidaudio.manifest import Clip, write_manifest
from vidaudio.media.fetch.rate_limit import FileRateLimiter, RateLimiterUnreachable, Rates, SiteRate
from vidaudio.media.fetch.source import ClipSpan, FetchOptions, fetch_source
from vidaudio.pipeline.build import build
from vidaudio.pipeline.dask.shared_rate_limit import ClusterRateLimiter

WORKERS = 3


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskCluster]:
    """Each worker fetches two shards at a time."""
    with dask_cluster(tmp_path_factory.mktemp("dask") / "cluster", WORKERS, resources="net=2,cpu=1,gpu=1") as cluster:
        yield cluster


def recipe(cluster: DaskCluster, rate: str, *settings: str) -> CorpusRecipe:
    """One clip a shard, so that every worker has something to fetch; the site is known by its host."""
    download = f"allow_private_addresses: true, keep_whole: true, retry_wait_seconds: 0.05, rate: {{{rate}}}"
    base = (f"dask.scheduler={cluster.address}", "shard_clips=1", "embed.encoder.precision=float32")
    return load_corpus_recipe("folder", (*base, f"download={{{download}}}", *settings))


def listed(urls: list[str], path: Path) -> str:
    write_manifest(
        [Clip(id=f"c{number:02d}", source=f"s:{number}", dataset="d", url=url) for number, url in enumerate(urls)], path
    )
    return str(path)


def journal(corpus: Path) -> list[dict]:
    return [row for path in sorted(corpus.glob("runs/*/tasks.parquet")) for row in pq.read_table(path).to_pylist()]


def spent(cluster: DaskCluster, site: LoopbackSite) -> int:
    return FileRateLimiter(cluster.budget_folder).state(site.url("").split("/")[2]).spent


def test_three_machines_spend_one_budget_and_the_next_driver_goes_on_with_it(cluster, site, tmp_path):
    chosen = recipe(cluster, "minimum_interval_seconds: 0.1")
    began = time.time()
    for run in range(2):
        manifest = listed([site.url(f"a.mp4?{run}-{number}") for number in range(6)], tmp_path / f"{run}.parquet")
        status = build(chosen, manifest, str(tmp_path / f"corpus{run}"), only=["download"], progress=False)
        assert status.as_dict()["stages"]["download"]["done"] == 6
    assert all(heard >= began + 0.1 * number for number, heard in enumerate(sorted(site.times)))
    counted = sum(row["requests"] for run in range(2) for row in journal(tmp_path / f"corpus{run}"))
    assert counted == spent(cluster, site) == site.requests.total() == 24
    folders = [path.parent.name for path in cluster.folder.glob("*/vidaudio-budget-*")]
    assert folders == ["scheduler"], "no worker keeps a budget of its own"


def test_a_pause_that_one_machine_hears_of_holds_for_all(cluster, site, tmp_path):
    site.retry_after = "1"
    urls = [site.url("busy/429/a.mp4"), *(site.url(f"a.mp4?{number}") for number in range(8))]
    manifest = listed(urls, tmp_path / "list.parquet")
    build(recipe(cluster, "minimum_interval_seconds: 0.05"), manifest, str(tmp_path / "c"), only=["download"],
          progress=False)  # fmt: skip
    gaps = [later - before for before, later in pairwise(site.times)]
    assert sum(gap > 0.8 for gap in gaps) == 1, "everybody waited once"
    assert sum(row["refused"] for row in journal(tmp_path / "c")) == 1
    assert sum(row["requests"] for row in journal(tmp_path / "c")) == spent(cluster, site) == site.requests.total()


def test_a_block_stops_a_run_of_single_clips_and_dead_videos_do_not(cluster, site, tmp_path):
    settings = (f"download.extractors=['{EXTRACTOR}']", "download.stop_after_failures=6", "download.tries=1")
    chosen = recipe(cluster, "first_pause_seconds: 0.01", *settings)
    said = ("Private video", "This video has been removed", "Join this channel to get access to members-only content")
    dead = [site.add_video(f"dead{number}", error=said[number % 3]) for number in range(30)]
    status = build(chosen, listed(dead, tmp_path / "dead"), str(tmp_path / "old"), only=["download"], progress=False)
    assert sum(other["clips"] for other in status.as_dict()["stages"]["download"]["others"]) == 30

    before = FileRateLimiter(cluster.budget_folder).state("loopbacksite").spent
    site.requests.clear()
    blocked = [site.add_video(f"v{number}", error="Sign in to confirm you're not a bot") for number in range(60)]
    with pytest.raises(BuildError, match=r"the last 6 sources all failed alike \(bot_check.*--retry-failed=bot_check"):
        build(chosen, listed(blocked, tmp_path / "list"), str(tmp_path / "c"), only=["download"], progress=False)
    assert 6 <= site.requests.total() < 30
    after = FileRateLimiter(cluster.budget_folder).state("loopbacksite").spent
    assert sum(row["requests"] for row in journal(tmp_path / "c")) == after - before == site.requests.total()


def test_what_a_stopped_shard_had_spent_is_written_down(cluster, site, tmp_path):
    settings = (f"download.extractors=['{EXTRACTOR}']", "download.stop_after_failures=6", "shard_clips=20")
    urls = [site.add_video(f"s{number}", error="Sign in to confirm you're not a bot") for number in range(20)]
    before = FileRateLimiter(cluster.budget_folder).state("loopbacksite").spent
    with pytest.raises(BuildError, match="nothing comes through"):
        build(recipe(cluster, "", *settings), listed(urls, tmp_path / "l"), str(tmp_path / "c"), only=["download"],
              progress=False)  # fmt: skip
    (row,) = journal(tmp_path / "c")
    after = FileRateLimiter(cluster.budget_folder).state("loopbacksite").spent
    assert (row["stage"], row["shard"], row["rows"]) == ("download", 0, 0)
    assert row["requests"] == after - before == site.requests.total() > 0


class Gone:
    """A worker whose scheduler has closed the connection."""

    id = "gone"
    loop = None

    class scheduler:
        vidaudio_rate_limiter = None


def test_a_source_is_not_blamed_for_a_budget_that_cannot_be_reached(site, tmp_path):
    class Lost(ClusterRateLimiter):
        def _ask(self, *_: object) -> float:
            raise RateLimiterUnreachable("the Dask scheduler no longer answers")

    rate_limiter = Lost(Gone(), Rates())  # type: ignore[arg-type]
    with pytest.raises(RateLimiterUnreachable, match="no longer answers"):
        fetch_source(
            site.url("a.mp4"), [ClipSpan("c", 0.0, None)], tmp_path, FetchOptions(allow_private_addresses=True),
            rate_limiter=rate_limiter,
        )  # fmt: skip
    assert not site.requests


def test_a_worker_asks_again_only_when_it_may_be_served():
    asked = []

    class Counting(ClusterRateLimiter):
        def _ask(self, call: str, site: str, told: float | None = None) -> float:
            asked.append(call)
            return 0.2 if call == "try_acquire" else 60.0

    rate_limiter = Counting(Gone(), Rates(SiteRate()))  # type: ignore[arg-type]
    assert [rate_limiter.try_acquire("s") > 0 for _ in range(50)] == [True] * 50
    assert asked == ["try_acquire"]
    time.sleep(0.21)
    rate_limiter.try_acquire("s")
    rate_limiter.report_throttled("s", None)
    assert asked == ["try_acquire", "try_acquire", "report_throttled"]
    assert rate_limiter.try_acquire("s") > 50
    assert len(asked) == 3
