"""A passing fault of a server is never final, and bytes that come twice are no passing fault."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.media.site.extractor import EXTRACTOR
from tests.media.site.server import LoopbackSite
from tests.media.site.small_video import small_video
from vidaudio.config.corpus import CorpusRecipe, load_corpus_recipe
from vidaudio.corpus.corpus import Corpus, create_or_open, open_corpus
from vidaudio.manifest import Clip, table_from_clips
from vidaudio.media.fetch.rate_limit import MemoryRateLimiter
from vidaudio.media.fetch.source import ClipSpan, Fetched, FetchOptions
from vidaudio.media.outcomes import TRANSIENT, Reason, State
from vidaudio.pipeline.retry import plan_retry
from vidaudio.pipeline.stages.download import download_shard
from vidaudio.pipeline.stages.extract import extract_shard
from vidaudio.pipeline.stages.retry_rounds import RetryPolicy, SourceJob, fetch_in_rounds
from vidaudio.shards.commit import read_table, table_name

OPTIONS = FetchOptions(
    extractors=(EXTRACTOR,), retries=0, socket_timeout_seconds=5.0, allow_private_addresses=True, keep_whole=True
)
RULES = RetryPolicy(tries=3, threads=1, wait_seconds=0.01)
BODY, HALF = small_video(), small_video()[: len(small_video()) // 2]
FAULTS: dict[str, dict[str, Any]] = {
    "json": {"body": b'{"error": "quota exceeded"}', "type": "application/json"},
    "json as a video": {"body": b'{"error": "quota exceeded"}'},
    "page": {"body": b"<html><title>Busy</title><body>Come back later</body></html>", "type": "text/html"},
    "page as a video": {"body": b"<html><title>Busy</title><body>Come back later</body></html>"},
    "half as a part": {"body": HALF, "status": 206, "headers": {"Content-Range": f"bytes 0-9/{len(BODY)}"}},
    "a part without its place": {"body": HALF, "status": 206},
    "half without a length": {"body": HALF, "length": 0},
    "half as a whole": {"body": HALF},
    "garbage": {"body": bytes(2000)},
    "nothing": {"body": b""},
}  # fmt: skip


def fetched(site: LoopbackSite, folder: Path, path: str = "a.mp4", **rules: object) -> Fetched:
    jobs = [SourceJob(site.url(path), (ClipSpan("c", 0.0, None),))]
    return fetch_in_rounds(jobs, folder / "out", OPTIONS, MemoryRateLimiter(), replace(RULES, **rules)).fetched["c"]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_passes_costs_a_try_and_no_clip(site: LoopbackSite, tmp_path: Path, fault: str):
    # Two answers: to the question what there is, and to the download.
    site.faults["/a.mp4"] = [FAULTS[fault]] * 2
    clip = fetched(site, tmp_path)
    assert clip.outcome.state is State.DONE, clip.outcome
    assert clip.path.read_bytes() == BODY
    site.faults["/a.mp4"] = [FAULTS[fault]] * 2
    alone = fetched(site, tmp_path / "once", tries=1)
    assert (alone.outcome.state, alone.outcome.reason) == (State.FAILED, Reason.CORRUPT_FETCHED)
    assert alone.outcome.transient


@pytest.mark.parametrize(
    "fault", ["json", "json as a video", "page as a video", "half as a whole", "garbage", "nothing"]
)
def test_the_same_bytes_twice_are_final_and_asked_for_no_more(site: LoopbackSite, tmp_path: Path, fault: str):
    site.faults["/a.mp4"] = [FAULTS[fault]] * 20
    clip = fetched(site, tmp_path)
    assert (clip.outcome.state, clip.outcome.reason) == (State.FAILED, Reason.CORRUPT), clip.outcome
    assert clip.outcome.message.endswith("the same bytes came twice")
    assert site.requests["/a.mp4"] == 4
    assert len(clip.sha256) == 64


def test_a_page_where_a_file_is_named_is_final_only_in_another_run(site: LoopbackSite, tmp_path: Path):
    site.faults["/a.mp4"] = [FAULTS["page"]] * 20
    clip = fetched(site, tmp_path)
    assert (clip.outcome.reason, site.requests["/a.mp4"]) == (Reason.CORRUPT_FETCHED, 3)
    later = SourceJob(site.url("a.mp4"), (ClipSpan("c", 0.0, None, corrupt_sha256=(clip.sha256,)),))
    again = fetch_in_rounds([later], tmp_path / "later", OPTIONS, MemoryRateLimiter(), RULES).fetched["c"]
    assert (again.outcome.reason, site.requests["/a.mp4"]) == (Reason.UNSUPPORTED, 4)


def test_bodies_that_change_from_try_to_try_may_pass(site: LoopbackSite, tmp_path: Path):
    site.faults["/a.mp4"] = [{"body": b'{"error": %d}' % number} for number in range(20)]
    clip = fetched(site, tmp_path)
    assert clip.outcome.reason is Reason.CORRUPT_FETCHED
    assert site.requests["/a.mp4"] == 6


def test_an_error_page_that_comes_for_several_sources_is_none_of_theirs(site: LoopbackSite, tmp_path: Path):
    for name in "abc":
        site.faults[f"/x/{name}.mp4"] = [FAULTS["json"]] * 20
    jobs = [SourceJob(site.url(f"x/{name}.mp4"), (ClipSpan(name, 0.0, None),)) for name in "abc"]
    report = fetch_in_rounds(jobs, tmp_path / "out", OPTIONS, MemoryRateLimiter(), RULES)
    assert {clip.outcome.reason for clip in report.fetched.values()} == {Reason.CORRUPT_FETCHED}


def test_of_a_file_that_is_cut_short_at_the_site_the_clips_that_are_there_are_taken(site: LoopbackSite, tmp_path: Path):
    whole = small_video(faststart=True)
    site.faults["/a.mp4"] = [{"body": whole[: len(whole) // 2], "length": 0}] * 20
    spans = (ClipSpan("early", 0.0, 0.8), ClipSpan("late", 2.5, 3.5), ClipSpan("all", 0.0, None))
    report = fetch_in_rounds(
        [SourceJob(site.url("a.mp4"), spans)], tmp_path / "out", OPTIONS, MemoryRateLimiter(), RULES
    ).fetched
    assert report["early"].outcome.state is State.DONE
    assert "the same bytes came twice" in report["early"].outcome.message
    for name in ("late", "all"):
        assert (report[name].outcome.state, report[name].outcome.reason) == (State.FAILED, Reason.CORRUPT)


@pytest.mark.parametrize("tag", ['"v1"', None])
def test_a_file_that_changes_while_it_is_fetched_is_never_mixed(site: LoopbackSite, tmp_path: Path, tag: str | None):
    other = small_video(seed=1)
    other += bytes(max(0, len(BODY) - len(other)))
    (site.folder / "a.mp4").write_bytes(other)
    broken_off = {"body": HALF, "length": len(BODY), "headers": {"ETag": tag} if tag else {}}
    site.faults["/a.mp4"] = [{"body": BODY}, broken_off]
    jobs = [SourceJob(site.url("a.mp4"), (ClipSpan("c", 0.0, None),))]
    options = replace(OPTIONS, retries=2)
    clip = fetch_in_rounds(jobs, tmp_path / "out", options, MemoryRateLimiter(), RULES).fetched["c"]
    assert clip.outcome.state is State.DONE
    assert clip.path.read_bytes() == other


def test_a_page_in_place_of_a_segment_is_no_hole(site: LoopbackSite, tmp_path: Path):
    for number in range(3):
        (site.folder / f"{number}.ts").write_bytes(small_video(number, kind="mpegts", seconds=2))
    listed = "".join(f"#EXTINF:2,\n{number}.ts\n" for number in range(3))
    (site.folder / "h.m3u8").write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n{listed}#EXT-X-ENDLIST\n")
    site.faults["/1.ts"] = [FAULTS["page as a video"]]
    clip = fetched(site, tmp_path, "h.m3u8")
    assert clip.outcome.state is State.DONE, clip.outcome
    assert clip.path.read_bytes() == b"".join((site.folder / f"{number}.ts").read_bytes() for number in range(3))
    site.faults["/1.ts"] = [FAULTS["page as a video"]] * 20
    assert fetched(site, tmp_path / "ever", "h.m3u8").outcome.reason is Reason.CORRUPT


# --- across runs -----------------------------------------------------------------------------------------------------


def corpus_of(site: LoopbackSite, tmp_path: Path, paths: list[str]) -> Corpus:
    clips = [Clip(id=f"c{n}", source=f"s:{n}", dataset="d", url=site.url(path)) for n, path in enumerate(paths)]
    return create_or_open(str(tmp_path / "corpus"), recipe(tmp_path), table_from_clips(clips))


def recipe(tmp_path: Path) -> CorpusRecipe:
    rate = f"{{folder: '{tmp_path}/budget'}}"
    settings = f"allow_private_addresses: true, tries: 1, retry_wait_seconds: 0.01, rate: {rate}"
    return load_corpus_recipe("folder", ("embed.encoder.precision=float32", f"download={{{settings}}}"))


def rows(corpus: Corpus, folder: str, shard: int) -> dict[str, dict]:
    table, _ = read_table(corpus.store, table_name(folder, shard))
    return {row["id"]: row for row in table.to_pylist()}


def retried(corpus: Corpus, tmp_path: Path, stages: Callable[[Corpus, int], None]) -> Corpus:
    """The corpus with its passing failures tried once more; the same where there are none."""
    grown = plan_retry(corpus, TRANSIENT)
    if grown.shards > corpus.shards:
        stages(grown, grown.shards - 1)
    return grown


def test_what_came_in_one_run_is_known_in_the_next(site: LoopbackSite, tmp_path: Path):
    def download(corpus: Corpus, shard: int) -> None:
        download_shard(corpus, shard, "clips", recipe(tmp_path).run_settings())

    site.faults["/x/ever.mp4"] = [{"body": b'{"error": "of this video alone"}'}] * 20
    site.faults["/a.mp4"] = [FAULTS["half as a whole"]] * 2
    first = corpus_of(site, tmp_path, ["x/ever.mp4", "a.mp4"])
    download(first, 0)
    assert {row["reason"] for row in rows(first, "clips", 0).values()} == {"corrupt_fetched"}
    second = retried(first, tmp_path, download)
    again = rows(second, "clips", 1)
    assert (again["c0"]["state"], again["c0"]["reason"]) == ("failed", "corrupt")
    assert again["c1"]["state"] == "done"
    assert site.requests["/x/ever.mp4"] == 4
    assert retried(second, tmp_path, download).shards == 2, "nothing is left that may pass"


def test_what_only_the_decoder_finds_corrupt_is_fetched_once_more(site: LoopbackSite, tmp_path: Path):
    whole = small_video(faststart=True)
    start = whole.index(b"mdat") + 4
    undecodable = whole[:start] + bytes(len(whole) - start)

    def both(corpus: Corpus, shard: int) -> None:
        download_shard(corpus, shard, "clips", recipe(tmp_path).run_settings())
        extract_shard(corpus, shard, "av", recipe(tmp_path).run_settings())

    site.faults["/a.mp4"] = [{"body": undecodable}] * 2
    (site.folder / "ever.mp4").write_bytes(undecodable)
    first = corpus_of(site, tmp_path, ["a.mp4", "ever.mp4"])
    both(first, 0)
    assert {row["state"] for row in rows(first, "clips", 0).values()} == {"done"}, "its header is as it should be"
    assert {(row["state"], row["reason"]) for row in rows(first, "av", 0).values()} == {("failed", "corrupt_fetched")}
    second = retried(first, tmp_path, both)
    assert rows(second, "av", 1)["c0"]["state"] == "done"
    again = rows(second, "clips", 1)["c1"]
    assert (again["state"], again["reason"]) == ("failed", "corrupt")
    assert retried(second, tmp_path, both).shards == 2
    assert open_corpus(second.url).shards == 2
