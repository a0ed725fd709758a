"""A dead video costs one extraction, ever: also where the shard that it is in is killed before it is committed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.media.site.extractor import EXTRACTOR
from tests.media.site.server import LoopbackSite
from tests.pipeline.test_build import contents
from tests.s3_server import BUCKET, S3Server
from vidaudio.config.corpus import CorpusRecipe, load_corpus_recipe
from vidaudio.corpus.corpus import Corpus, create_or_open
from vidaudio.manifest import Clip, table_from_clips
from vidaudio.media.fetch.source import Fetched, FetchOptions
from vidaudio.media.outcomes import Outcome, Reason
from vidaudio.pipeline.stages.circuit_breaker import FetchAborted
from vidaudio.pipeline.stages.download import download_shard
from vidaudio.pipeline.stages.fused import fetch_and_extract, finish_interrupted
from vidaudio.pipeline.stages.negative_cache import FOLDER, NegativeCache, request_fingerprint, sweep_negative_caches
from vidaudio.shards.commit import read_table, table_name
from vidaudio.shards.open import open_store
from vidaudio.shards.store import LocalStore

DEAD = ("Private video", "This video has been removed", "Join this channel to get access to members-only content")
DOWNLOAD = """
import sys
from vidaudio.corpus.corpus import open_corpus
from vidaudio.config.corpus import RunSettings
from vidaudio.pipeline.stages.download import download_shard

download_shard(open_corpus(sys.argv[1]), 0, "clips", RunSettings.model_validate_json(sys.argv[2]))
"""


def recipe(tmp_path: Path, *settings: str) -> CorpusRecipe:
    rate = f"{{folder: '{tmp_path}/budget', first_pause_seconds: 0.02}}"
    download = f"allow_private_addresses: true, extractors: ['{EXTRACTOR}'], retry_wait_seconds: 0.01, rate: {rate}"
    return load_corpus_recipe(
        "folder",
        (
            "embed.encoder.precision=float32",
            f"download={{{download}}}",
            "dask.downloads_per_worker=1",
            *settings,
        ),
    )


def corpus_of(urls: list[str], folder: Path, chosen: CorpusRecipe) -> Corpus:
    clips = [
        Clip(id=f"c{number}{half}", source=f"s:{number}", dataset="d", url=url)
        for number, url in enumerate(urls)
        for half in "ab"
    ]
    return create_or_open(str(folder), chosen, table_from_clips(clips))


def dead_videos(site: LoopbackSite) -> list[str]:
    return [site.add_video(f"dead{number}", error=error) for number, error in enumerate(DEAD)]


def asked(site: LoopbackSite) -> list[int]:
    """How often each of the dead videos was asked for."""
    return [site.requests[f"/watch/dead{number}"] for number in range(len(DEAD))]


class DeadlyPages(dict):
    """Whoever asks for the page of the last video is killed over it, as long as there is a victim."""

    victim: subprocess.Popen | None = None

    def __getitem__(self, path: str) -> dict:
        if path == "/watch/last" and self.victim is not None:
            os.kill(self.victim.pid, signal.SIGKILL)
            self.victim.wait()
            self.victim = None
        return super().__getitem__(path)


def test_a_shard_that_is_killed_asks_for_no_dead_video_again_and_ends_in_the_same_bytes(site, tmp_path: Path):
    chosen = recipe(tmp_path)
    formats = [{"url": site.url("a.mp4"), "ext": "mp4"}]
    urls = [site.add_video("first", formats=formats), *dead_videos(site), site.url("status/404/gone.mp4")]
    urls.append(site.add_video("last", formats=formats))
    corpus = corpus_of(urls, tmp_path / "corpus", chosen)
    site.pages = DeadlyPages(site.pages)
    run = chosen.run_settings()
    task = [sys.executable, "-c", DOWNLOAD, corpus.url, run.model_dump_json()]
    site.pages.victim = process = subprocess.Popen(task, cwd=Path(__file__).parents[2])
    assert process.wait(timeout=60) == -signal.SIGKILL
    assert corpus.store.list("clips") == {}
    assert list(corpus.store.list(FOLDER)) == ["000000.jsonl"]

    record = download_shard(corpus, 0, "clips", run)
    assert asked(site) == [1, 1, 1]
    assert site.requests["/status/404/gone.mp4"] == 1
    assert site.requests["/watch/first"] == site.requests["/watch/last"] == 2
    assert record.source_tries == 2
    assert corpus.store.list(FOLDER) == {}
    undisturbed = corpus_of(urls, tmp_path / "undisturbed", chosen)
    download_shard(undisturbed, 0, "clips", run)
    ours, theirs = contents(corpus.url), contents(undisturbed.url)
    assert {n: d for n, d in ours.items() if not n.startswith(".tmp-")} == theirs


def test_a_shard_that_was_stopped_asks_for_no_dead_video_again(site, tmp_path: Path):
    blocked = [site.add_video(f"bot{number}", error="Sign in to confirm you're not a bot") for number in range(6)]
    chosen = recipe(tmp_path, "download.stop_after_failures=6")
    corpus, run = corpus_of([*dead_videos(site), *blocked], tmp_path / "corpus", chosen), chosen.run_settings()
    for _ in range(2):
        with pytest.raises(FetchAborted, match="bot_check"):
            download_shard(corpus, 0, "clips", run)
    assert asked(site) == [1, 1, 1]
    for number in range(6):
        site.add_video(f"bot{number}", error="Private video")
    download_shard(corpus, 0, "clips", run)
    table, _ = read_table(corpus.store, table_name("clips", 0))
    assert table["reason"].to_pylist() == ["private"] * 2 + ["removed"] * 2 + ["members_only"] * 2 + ["private"] * 12
    assert asked(site) == [1, 1, 1]


def test_media_that_are_kept_nowhere_leave_their_verdicts_no_longer(site, tmp_path: Path):
    corpus = corpus_of(dead_videos(site), tmp_path / "corpus", recipe(tmp_path, "download.keep=none"))
    noted_by_a_try_that_died(corpus, site, recipe(tmp_path))
    fetch_and_extract(corpus, 0, "clips", recipe(tmp_path, "download.keep=none").run_settings())
    assert asked(site) == [0, 1, 1]
    assert corpus.store.list(FOLDER) == {}


def options_of(chosen: CorpusRecipe) -> FetchOptions:
    from vidaudio.pipeline.stages.download import fetch_options

    return fetch_options(chosen.download, chosen.download)


def noted_by_a_try_that_died(corpus: Corpus, site: LoopbackSite, chosen: CorpusRecipe) -> None:
    """A verdict on the first of the dead videos."""
    verdict = Outcome.failed(Reason.PRIVATE, "gone")
    clips = [Fetched("c0a", verdict), Fetched("c0b", verdict)]
    NegativeCache(corpus.store, corpus.plan_hash, 0, options_of(chosen)).note(site.url("watch/dead0"), clips)


@pytest.mark.parametrize(
    ("change", "asks"),
    [
        ([], 0),
        (["download.deadline_seconds=7"], 0),
        (["download.ytdlp.http_headers={User-Agent: Other/2}"], 1),
        (["download.ytdlp.cookiefile={folder}/other.txt"], 1),
        (["download.ytdlp.cookiefile={folder}/equal.txt"], 1),
        (["download.ytdlp.usenetrc=true"], 1),
    ],
    ids=["nothing", "patience", "header", "other cookies", "another path", "untold"],
)
def test_a_verdict_counts_only_under_what_it_was_given_under(site, tmp_path: Path, change: list[str], asks: int):
    for name in ("cookies", "equal", "other"):
        (tmp_path / f"{name}.txt").write_text(f"# Netscape HTTP Cookie File\n# {name.replace('equal', 'cookies')}\n")
    before = f"download.ytdlp.cookiefile={tmp_path}/cookies.txt"
    corpus = corpus_of(dead_videos(site), tmp_path / "corpus", recipe(tmp_path, before))
    noted_by_a_try_that_died(corpus, site, recipe(tmp_path, before))
    now = recipe(tmp_path, before, *(setting.replace("{folder}", str(tmp_path)) for setting in change))
    download_shard(corpus, 0, "clips", now.run_settings())
    assert asked(site) == [asks, 1, 1]


def test_cookies_that_were_renewed_in_their_place_are_others(tmp_path: Path):
    options = FetchOptions(ytdlp={"cookiefile": str(tmp_path / "cookies.txt"), "password": "short"})
    told = []
    for text in ("a", "a", "b"):
        (tmp_path / "cookies.txt").write_text(text)
        told.append(request_fingerprint(options, "plan"))
    assert told[0] == told[1] != told[2]
    assert request_fingerprint(options, "another plan") != told[2]
    assert request_fingerprint(FetchOptions(ytdlp={"cookiesfrombrowser": ("firefox",)}), "plan") is None


def test_a_line_that_was_cut_off_costs_itself_alone(tmp_path: Path):
    store, gone = LocalStore(tmp_path), Outcome.failed(Reason.REMOVED, 'said "so"\nin two lines')
    for number in range(3):
        NegativeCache(store, "plan", 4, FetchOptions()).note(f"u{number}", [Fetched(f"c{number}", gone)])
        with (tmp_path / FOLDER / "000004.jsonl").open("ab") as file:
            file.write(b'\n{"asked": "half a li')
    found = NegativeCache(store, "plan", 4, FetchOptions())
    for number in range(3):
        assert found.known(f"u{number}", [f"c{number}"]) == {f"c{number}": Fetched(f"c{number}", gone)}
    assert found.known("u0", ["c0", "c9"]) == found.known("u9", ["c0"]) == {}
    assert NegativeCache(store, "plan", 5, FetchOptions()).known("u0", ["c0"]) == {}


def test_only_what_is_final_and_without_a_file_is_noted(tmp_path: Path):
    store = LocalStore(tmp_path)
    verdicts = NegativeCache(store, "plan", 0, FetchOptions())
    late = Fetched("b", Outcome.dropped(Reason.TOO_SHORT, "behind the end"), info={"duration": 1.5, "title": "T"})
    for clips in (
        [Fetched("a", Outcome.failed(Reason.NETWORK))],
        [Fetched("a", Outcome.done(), tmp_path / "a.mp4"), late],
        [Fetched("a", Outcome.failed(Reason.PRIVATE)), Fetched("b", Outcome.failed(Reason.UNKNOWN))],
    ):
        verdicts.note("u", clips)
    assert store.list(FOLDER) == {}
    verdicts.note("u", [late])
    assert NegativeCache(store, "plan", 0, FetchOptions()).known("u", ["b"]) == {"b": late}


def test_files_of_the_users_own_are_looked_at_anew(tmp_path: Path):
    corpus = corpus_of([str(tmp_path / "gone.mp4")], tmp_path / "corpus", recipe(tmp_path))
    download_shard(corpus, 0, "clips", recipe(tmp_path).run_settings())
    assert not (tmp_path / "corpus" / FOLDER).exists()


def test_verdicts_of_committed_shards_are_swept_and_others_stay(site, tmp_path: Path):
    corpus = corpus_of(dead_videos(site), tmp_path / "corpus", recipe(tmp_path))
    download_shard(corpus, 0, "clips", recipe(tmp_path).run_settings())
    noted_by_a_try_that_died(corpus, site, recipe(tmp_path))
    for shard in (1, 12):
        NegativeCache(corpus.store, "p", shard, FetchOptions()).note("u", [Fetched("a", Outcome.failed(Reason.LIVE))])
    sweep_negative_caches(corpus.store, {12})
    assert sorted(corpus.store.list(FOLDER)) == ["000000.jsonl", "000001.jsonl"]
    finish_interrupted(corpus, "all")
    assert sorted(corpus.store.list(FOLDER)) == ["000001.jsonl"]


def test_on_an_object_store(s3_server: S3Server):
    store = open_store(f"s3://{BUCKET}/verdicts/corpus")
    gone = Outcome.failed(Reason.COPYRIGHT, "gone")
    first = NegativeCache(store, "plan", 0, FetchOptions())
    for name in ("a", "b"):
        first.note(f"u{name}", [Fetched(name, gone)])
    again = NegativeCache(store, "plan", 0, FetchOptions())
    assert again.known("ua", ["a"]) | again.known("ub", ["b"]) == {n: Fetched(n, gone) for n in ("a", "b")}
    again.note("uc", [Fetched("c", gone)])
    assert len([line for line in store.read(f"{FOLDER}/000000.jsonl").splitlines() if json.loads(line or "{}")]) == 3
    again.discard()
    assert store.list(FOLDER) == {}
