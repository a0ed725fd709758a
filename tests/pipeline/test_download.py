"""Downloading a shard: dead videos cost one extraction, passing failures are asked again, a block stops the run."""

from __future__ import annotations

import random
import string
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from yt_dlp.utils import ExtractorError

from tests.media.site.extractor import EXTRACTOR
from tests.media.site.server import LoopbackSite
from vidaudio.config.corpus import CorpusRecipe, RunSettings, load_corpus_recipe
from vidaudio.corpus.corpus import Corpus, create_or_open
from vidaudio.errors import RecipeError
from vidaudio.manifest import Clip, write_manifest
from vidaudio.manifest.store import read_manifest
from vidaudio.media.fetch.rate_limit import FileRateLimiter, MemoryRateLimiter, Rates, SiteRate
from vidaudio.media.fetch.reasons import failure
from vidaudio.media.fetch.source import ClipSpan, FetchOptions
from vidaudio.media.outcomes import Outcome, Reason, State
from vidaudio.pipeline.stages.circuit_breaker import (
    CircuitBreaker,
    FetchAborted,
    RunCircuitBreaker,
    TrailingFailures,
    trailing_failures,
)
from vidaudio.pipeline.stages.download import download_shard, fetch_options, shared_rate_limiter, site_rates
from vidaudio.pipeline.stages.equal_answers import EqualAnswers, answers_of, site_of_url
from vidaudio.pipeline.stages.retry_rounds import RetryPolicy, SourceJob, fetch_in_rounds
from vidaudio.shards.commit import read_table, table_name

OPTIONS = FetchOptions(
    extractors=(EXTRACTOR,), retries=0, socket_timeout_seconds=1.0, allow_private_addresses=True, keep_whole=True
)
RULES = RetryPolicy(tries=3, threads=2, wait_seconds=0.01)
QUICK = Rates(SiteRate(first_pause_seconds=0.02, longest_pause_seconds=0.1))


def jobs(urls: list[str]) -> list[SourceJob]:
    return [SourceJob(url, (ClipSpan(f"c{number}", 0.0, None),)) for number, url in enumerate(urls)]


def dead(site: LoopbackSite, number: int, error: str) -> str:
    return site.add_video(f"v{number}", error=error)


def recipe(tmp_path: Path, *settings: str) -> CorpusRecipe:
    download = {
        "allow_private_addresses": "true",
        "extractors": f"['{EXTRACTOR}']",
        "retry_wait_seconds": "0.01",
        "rate": f"{{folder: '{tmp_path}/budget', first_pause_seconds: 0.02}}",
    }
    base = "download={" + ", ".join(f"{key}: {value}" for key, value in download.items()) + "}"
    return load_corpus_recipe("folder", ("embed.encoder.precision=float32", base, *settings))


def corpus_of(urls: list[str], tmp_path: Path, *settings: str) -> Corpus:
    clips = [Clip(id=f"c{number:02d}", source=f"s:{number}", dataset="d", url=url) for number, url in enumerate(urls)]
    write_manifest(clips, tmp_path / "list.parquet")
    manifest = read_manifest(tmp_path / "list.parquet")
    chosen = recipe(tmp_path, *settings)
    return create_or_open(str(tmp_path / "corpus"), chosen, manifest)


def run_of(tmp_path: Path, *settings: str) -> RunSettings:
    return recipe(tmp_path, *settings).run_settings()


# --- rounds ----------------------------------------------------------------------------------------------------------


def test_a_dead_video_costs_one_extraction_and_what_may_pass_is_asked_again(site: LoopbackSite, tmp_path: Path):
    errors = ["Private video", "This video has been removed", "Sign in to confirm you're not a bot", "Who knows"]
    urls = [dead(site, number, error) for number, error in enumerate(errors)]
    report = fetch_in_rounds(jobs(urls), tmp_path / "out", OPTIONS, MemoryRateLimiter(), RULES)
    assert [site.requests[f"/watch/v{number}"] for number in range(4)] == [1, 1, 3, 3]
    reasons = [Reason.PRIVATE, Reason.REMOVED, Reason.BOT_CHECK, Reason.UNKNOWN]
    assert [report.fetched[f"c{number}"].outcome.reason for number in range(4)] == reasons
    assert "Who knows" in report.fetched["c3"].outcome.message
    assert (report.tries, report.traffic.requests) == (8, {"loopbacksite": 8})


def test_a_source_that_comes_back_is_done(site: LoopbackSite, tmp_path: Path):
    url = site.url("busy/429/a.mp4")
    report = fetch_in_rounds(jobs([url]), tmp_path / "out", OPTIONS, MemoryRateLimiter(QUICK), RULES)
    assert report.fetched["c0"].outcome.state is State.DONE
    assert (report.traffic.refused, report.tries) == (1, 2)


def test_a_dead_proxy_stops_the_run_before_the_list_is_burned(site: LoopbackSite, tmp_path: Path):
    options = replace(OPTIONS, ytdlp={"proxy": "http://127.0.0.1:9"})
    urls = [site.url(f"{number}/a.mp4") for number in range(100)]
    budget = MemoryRateLimiter()
    with pytest.raises(FetchAborted, match=r"network: .*proxy.*same command goes on.*stop_after_failures=0"):
        fetch_in_rounds(jobs(urls), tmp_path / "out", options, budget, replace(RULES, stop_after=10))
    spent = budget.state(site.url("").split("/")[2]).spent
    assert 30 <= spent <= 30 + 3 * RULES.threads, "ten sources in each of three rounds"


def test_a_site_that_shuts_us_out_stops_the_run_at_once(site: LoopbackSite, tmp_path: Path):
    urls = [site.url(f"status/429/{number}.mp4") for number in range(100)]
    began = time.monotonic()
    with pytest.raises(FetchAborted, match=r"rate_limited: .*requests_per_hour"):
        fetch_in_rounds(jobs(urls), tmp_path / "out", OPTIONS, MemoryRateLimiter(QUICK), RULES)
    assert site.requests.total() <= 5 + RULES.threads
    assert time.monotonic() - began < 20


def test_a_block_that_lifts_costs_no_source_anything(site: LoopbackSite, tmp_path: Path):
    urls = [site.add_video(f"v{number}", formats=[{"url": site.url("a.mp4"), "ext": "mp4"}]) for number in range(12)]
    good = dict(site.pages)
    site.pages |= {path: {**page, "error": "not a bot"} for path, page in good.items()}

    class Lifting(MemoryRateLimiter):
        """After 15 requests the site has seen reason."""

        def try_acquire(self, name: str) -> float:
            if self.state(name).spent >= 15:
                site.pages.update(good)
            return super().try_acquire(name)

    rules = replace(RULES, tries=2, stop_after=10)
    report = fetch_in_rounds(jobs(urls), tmp_path / "out", OPTIONS, Lifting(), rules)
    assert {fetched.outcome.state for fetched in report.fetched.values()} == {State.DONE}
    assert len(report.fetched) == 12


def test_failures_of_different_kinds_are_no_block(site: LoopbackSite, tmp_path: Path):
    errors = ["not a bot", "Private video", "Who knows"] * 10
    urls = [dead(site, number, error) for number, error in enumerate(errors)]
    report = fetch_in_rounds(jobs(urls), tmp_path / "out", OPTIONS, MemoryRateLimiter(), replace(RULES, stop_after=6))
    assert len(report.fetched) == 30


def test_when_a_streak_breaks():
    bot, net, full = (Outcome.failed(r, "m") for r in (Reason.BOT_CHECK, Reason.NETWORK, Reason.DISK))
    final = Outcome.failed(Reason.PRIVATE, "m")

    def broken(stop_after: int, sources: int, outcomes: list[Outcome]) -> bool:
        breaker = CircuitBreaker(stop_after, sources)
        for outcome in outcomes:
            breaker.note(outcome)
        return breaker.broken.is_set()

    assert broken(25, 100, [bot] * 25)
    assert not broken(25, 100, [bot] * 24)
    assert not broken(25, 100, ([bot] * 24 + [final]) * 3)
    assert not broken(25, 100, ([bot] * 24 + [net]) * 3)
    assert broken(25, 8, [net] * 8), "a whole small shard"
    assert not broken(25, 2, [net] * 4), "too few to be a sign"
    assert broken(25, 100, [full] * 3)
    assert not broken(0, 100, [full] * 99)


def test_equal_permanent_answers_stop_the_run_and_are_not_believed(site: LoopbackSite, tmp_path: Path):
    """What a site tells a blocked account of every video, in whatever words."""
    good = {"formats": [{"url": site.url("a.mp4"), "ext": "mp4"}]}
    urls = [site.add_video(f"v{n}", **(good if n % 3 else {"error": "Private video"})) for n in range(100)]
    for number in range(20, 100):  # in the order of their sources there is another after every ten
        dead(site, number, f"Video #{number} is unavailable")
    corpus, run = corpus_of(urls, tmp_path), run_of(tmp_path, "dask.downloads_per_worker=1")
    for _ in range(2):
        with pytest.raises(
            FetchAborted, match=r"127\.0\.0\.1 refused 4[5-9] of the last 50 .*removed: .*browser.*equal_answers=0"
        ):
            download_shard(corpus, 0, "clips", run)
        assert corpus.store.list("clips") == {}
    # The block is lifted: of what was said in it nothing is left, and what was truly gone is not asked for again.
    truly_gone = [site.requests[f"/watch/v{number}"] for number in (0, 3)]
    for number in range(20, 100):
        site.add_video(f"v{number}", **good)
    download_shard(corpus, 0, "clips", run)
    table, _ = read_table(corpus.store, table_name("clips", 0))
    assert table["state"].to_pylist() == ["failed" if n < 20 and n % 3 == 0 else "done" for n in range(100)]
    assert truly_gone == [1, 1] == [site.requests[f"/watch/v{number}"] for number in (0, 3)]


def test_dead_videos_that_are_equal_and_few_or_not_meant_to_stop_the_run_are_taken(site: LoopbackSite, tmp_path: Path):
    urls = [dead(site, number, "Video unavailable") for number in range(30)]
    rules = replace(RULES, stop_after_equal_answers=0)
    report = fetch_in_rounds(jobs(urls), tmp_path / "all", OPTIONS, MemoryRateLimiter(), rules)
    assert {fetched.outcome.reason for fetched in report.fetched.values()} == {Reason.REMOVED}
    report = fetch_in_rounds(jobs(urls[:24]), tmp_path / "few", OPTIONS, MemoryRateLimiter(), RULES)
    assert len(report.fetched) == 24


def equal_after(outcomes: list[Outcome], limit: int = 25, host: str = "h") -> int | None:
    answers = EqualAnswers(limit)
    return next((n for n, outcome in enumerate(outcomes, 1) if answers.note(f"https://{host}/{n}", outcome)), None)


def test_when_answers_are_too_equal():
    gone, private = Outcome.failed(Reason.REMOVED, "Video unavailable"), Outcome.failed(Reason.PRIVATE, "Private video")
    done, net, short = Outcome.done(), Outcome.failed(Reason.NETWORK, "m"), Outcome.dropped(Reason.TOO_SHORT, "m")
    ours = Outcome.failed(
        Reason.UNSUPPORTED, "the private address 10.0.0.1; download.allow_private_addresses lets such"
    )
    assert equal_after([gone] * 40) == 25
    assert equal_after([gone, net] * 40) == 49, "what may pass is no answer"
    assert equal_after(([gone] * 24 + [done]) * 9) == 51, "but for a few"
    assert equal_after(([gone] * 9 + [done]) * 9) == 51
    assert equal_after(([gone] * 8 + [done] * 2) * 99) is None
    assert equal_after([gone, private] * 99) is None, "not alike"
    assert equal_after([short] * 99) is equal_after([done] * 99) is equal_after([ours] * 99) is None
    assert equal_after([gone] * 99, limit=0) is None
    named = [Outcome.failed(Reason.REMOVED, f"[tube] id{n}xyz: Video {n} is unavailable") for n in range(40)]
    assert equal_after(named) == 25, "ids and numbers are no other words"
    ids = random.Random(0)
    letters = string.ascii_letters + string.digits
    named = [f"Video unavailable (Playback ID: {''.join(ids.choices(letters, k=11))})" for _ in range(40)]
    assert equal_after([Outcome.failed(Reason.REMOVED, text) for text in named]) == 25
    other = Outcome.failed(Reason.REMOVED, "This video is not available")
    assert equal_after([gone, other] * 40) == 50, "one reason in two wordings"
    warned = failure(
        ExtractorError("Video unavailable", expected=True), "No supported JavaScript runtime could be found"
    )
    assert warned.message == "Video unavailable; yt-dlp warned: No supported JavaScript runtime could be found"
    assert equal_after([gone, warned] * 20) == 25, "a warning is no part of the answer"


def test_hosts_of_one_domain_are_one_site():
    gone, answers = Outcome.failed(Reason.REMOVED, "Video unavailable"), EqualAnswers(25)
    assert [answers.note(f"https://v{n}.example.org/a", gone) for n in range(25)] == [False] * 24 + [True]
    sites = {"a.b.co.uk": "b.co.uk", "x.y.de": "y.de", "10.0.0.7": "10.0.0.7", "y": "y", "[::1]": "::1"}
    assert {host: site_of_url(f"https://user:pw@{host}:8080/x") for host in sites} == sites


def test_lists_of_which_four_in_ten_are_gone_do_not_stop():
    gone, done = Outcome.failed(Reason.REMOVED, "Video unavailable"), Outcome.done()
    rng = random.Random(0)
    assert equal_after([gone if rng.random() < 0.4 else done for _ in range(100_000)]) is None


def test_sites_answer_for_themselves():
    gone, answers = Outcome.failed(Reason.REMOVED, "Video unavailable"), EqualAnswers(25)
    stopped = [answers.note(f"https://{host}/{n}", gone) for n in range(24) for host in ("a", "b", "c")]
    assert not any(stopped)
    assert not answers.note("https://a/x", Outcome.done())
    assert answers.note("https://user:pw@www.b/x", gone)
    assert answers.is_suspect("https://b/7", gone)
    assert not answers.is_suspect("https://c/7", gone)


def test_answers_that_are_known_from_a_try_that_was_killed_count_and_stop_nothing_alone():
    gone, answers = Outcome.failed(Reason.REMOVED, "Video unavailable"), EqualAnswers(25)
    assert not any(answers.note(f"https://a/{n}", gone, is_news=False) for n in range(30))
    assert answers.note("https://a/x", gone)


def test_what_a_shard_ends_with():
    bot, net = (Outcome.failed(r, "m") for r in (Reason.BOT_CHECK, Reason.NETWORK))
    dead, done = Outcome.failed(Reason.PRIVATE, "m"), Outcome.done()
    assert trailing_failures([]) == TrailingFailures()
    assert trailing_failures([bot, bot]) == TrailingFailures(Reason.BOT_CHECK, "m", 2, whole=True)
    assert trailing_failures([dead, bot, bot]) == TrailingFailures(Reason.BOT_CHECK, "m", 2, whole=False)
    assert trailing_failures([net, bot]) == TrailingFailures(Reason.BOT_CHECK, "m", 1, whole=False)
    assert trailing_failures([bot, done]) == TrailingFailures(None, "", 0, whole=False)
    assert trailing_failures([bot, dead]) == trailing_failures([dead]) == TrailingFailures(None, "", 0, whole=False)


def test_a_run_stops_when_its_last_sources_failed_alike_however_small_its_shards_are():
    def stops_after(limit: int, tails: list[TrailingFailures], equal: int = 25) -> int | None:
        breaker = RunCircuitBreaker(limit, equal)
        return next((number for number, trailing in enumerate(tails, 1) if breaker.note(trailing)), None)

    def failed(reason: Reason, sources: int = 1, whole: bool = True) -> TrailingFailures:
        return TrailingFailures(reason, "m", sources, whole)

    bot, net, full = failed(Reason.BOT_CHECK), failed(Reason.NETWORK), failed(Reason.DISK)
    other = TrailingFailures(None, "", 0, whole=False)  # done, or dead
    assert stops_after(25, [bot] * 40) == 25
    assert stops_after(25, ([bot] * 24 + [other]) * 3) is None, "somebody came through"
    assert stops_after(25, ([bot] * 20 + [net]) * 3) is None, "not alike"
    assert stops_after(25, [other] * 500) is None, "dead videos"
    assert stops_after(25, [bot, TrailingFailures()] * 40) == 49, "shards of local files say nothing"
    assert stops_after(25, [failed(Reason.BOT_CHECK, 20, whole=False), *[bot] * 9]) == 6
    assert stops_after(25, [full] * 9) == 3
    assert stops_after(0, [full] * 500) is None


@pytest.mark.parametrize("shard", [1, 7, 20])
def test_a_run_stops_when_a_site_refuses_shard_after_shard(shard: int):
    def stops_after(outcomes: list[tuple[str, Outcome]], equal: int = 25) -> int | None:
        breaker = RunCircuitBreaker(25, equal)
        for first in range(0, len(outcomes), shard):
            part = outcomes[first : first + shard]
            if breaker.note(trailing_failures(outcome for _, outcome in part), answers_of(part, equal)) is not None:
                return first + len(part)
        return None

    def asked(site: str, answers: list[Outcome]) -> list[tuple[str, Outcome]]:
        return [(f"https://{site}/{number}", answer) for number, answer in enumerate(answers)]

    gone, private = Outcome.failed(Reason.REMOVED, "Video unavailable"), Outcome.failed(Reason.PRIVATE, "Private video")
    blocked, works = asked("blocked.org", [gone] * 80), asked("works.org", [Outcome.done()] * 80)
    up = shard * -(-25 // shard)
    assert stops_after(blocked) == up
    mixed = [one for pair in zip(works, blocked, strict=True) for one in pair]
    assert stops_after(mixed) in range(50, 50 + shard + 1), "another site's videos say nothing of this one's"
    assert stops_after(blocked, equal=0) is None
    assert stops_after(asked("a.org", [gone, private] * 40)) is None
    assert stops_after(asked("a.org", ([gone] * 20 + [Outcome.done()] * 3) * 9)) is None


# --- the stage -------------------------------------------------------------------------------------------------------


def test_requests_go_into_the_record_and_never_into_the_table(site: LoopbackSite, tmp_path: Path):
    urls = [site.add_video("v", formats=[{"url": site.url("a.mp4"), "ext": "mp4"}]), dead(site, 1, "Private video")]
    corpus, run = corpus_of(urls, tmp_path), run_of(tmp_path)
    record = download_shard(corpus, 0, "clips", run)
    assert record.requests == {"loopbacksite": 3} == {"loopbacksite": site.requests.total()}
    assert (record.source_tries, record.refused) == (2, 0)
    table, standing = read_table(corpus.store, table_name("clips", 0))
    assert asdict(standing).items() < asdict(record).items()
    assert not {"requests", "tries"} & set(table.column_names)
    assert shared_rate_limiter(run.download.rate).state("loopbacksite").spent == 3


def test_a_stopped_shard_is_not_committed_and_the_same_call_goes_on(site: LoopbackSite, tmp_path: Path):
    urls = [dead(site, number, "Sign in to confirm you're not a bot") for number in range(8)]
    corpus, run = corpus_of(urls, tmp_path), run_of(tmp_path, "download.stop_after_failures=6")
    with pytest.raises(FetchAborted, match="bot_check"):
        download_shard(corpus, 0, "clips", run)
    assert corpus.store.list("clips") == {}
    for number in range(8):
        dead(site, number, "Private video")
    download_shard(corpus, 0, "clips", run)
    table, _ = read_table(corpus.store, table_name("clips", 0))
    assert set(table["reason"].to_pylist()) == {"private"}


def test_settings_of_the_run_may_differ_from_those_of_the_corpus(site: LoopbackSite, tmp_path: Path):
    corpus = corpus_of([site.add_video("v", formats=[{"url": site.url("a.mp4"), "ext": "mp4"}])], tmp_path)
    run = run_of(tmp_path, "download.ytdlp.http_headers={User-Agent: Other/2}")
    budget = MemoryRateLimiter()
    download_shard(corpus, 0, "clips", run, rate_limiter=budget)
    assert {heard["User-Agent"] for heard in site.heard} == {"Other/2"}
    assert budget.state("loopbacksite").spent == 2


# --- the recipe ------------------------------------------------------------------------------------------------------


def test_a_site_differs_only_where_it_says_so(tmp_path: Path):
    rate = "download.rate={requests_per_hour: 100, jitter_seconds: 2, sites: {youtube: {requests_per_hour: 50}}}"
    block = load_corpus_recipe("folder", (rate, f"download.rate.folder={tmp_path}")).download
    again = type(block).model_validate(block.model_dump(mode="json"))
    rates = site_rates(again.rate)
    assert (rates.of("vimeo").requests_per_hour, rates.of("youtube").requests_per_hour) == (100, 50)
    assert rates.of("youtube").jitter_seconds == 2
    assert shared_rate_limiter(again.rate) == FileRateLimiter(tmp_path, rates)


def test_a_lists_file_urls_are_taken_only_where_the_recipe_says_so_and_are_no_setting_of_the_corpus():
    closed, open_ = (load_corpus_recipe("folder", s) for s in ((), ("download.allow_file_urls=true",)))
    blocks = [recipe.download for recipe in (closed, open_)]
    assert [fetch_options(block, block).allow_file_urls for block in blocks] == [False, True]
    assert closed.corpus_settings() == open_.corpus_settings()


def test_private_addresses_are_closed_unless_asked_for_and_open_in_the_demo():
    folder, demo = (load_corpus_recipe(name).download for name in ("folder", "demo"))
    assert not fetch_options(folder, folder).allow_private_addresses
    assert fetch_options(demo, demo).allow_private_addresses
    with pytest.raises(RecipeError, match=r"requests_per_hour"):
        load_corpus_recipe("folder", ("download.rate.requests_per_hour=0",))


@pytest.mark.parametrize("name", ["vggsound", "music", "audiocaps", "audioset"])
def test_lists_of_youtube_are_fetched_gently(name: str):
    assert load_corpus_recipe(name).download.rate.requests_per_hour == 1000


def test_nothing_more_is_asked_once_another_build_has_committed_the_shard(site: LoopbackSite, tmp_path: Path):
    corpus = corpus_of([site.url(f"{n}/a.mp4") for n in range(3)], tmp_path)
    run = run_of(tmp_path, "dask.downloads_per_worker=1")

    class Interrupted(MemoryRateLimiter):
        """Lets the first request through only when somebody else is done with all of the shard."""

        other = None

        def try_acquire(self, site_name: str) -> float:
            if self.other is None:
                self.other = download_shard(corpus, 0, "clips", run, rate_limiter=MemoryRateLimiter())
                site.requests.clear()
            return super().try_acquire(site_name)

    budget = Interrupted()
    late = download_shard(corpus, 0, "clips", run, rate_limiter=budget)
    assert late.tar_sha256 == budget.other.tar_sha256
    assert set(site.requests) == {"/0/a.mp4"}, "the source that was being asked for, and no other"
    assert sum(late.requests.values()) == site.requests.total()
    assert len(list(Path(corpus.url, "clips").iterdir())) == 2
