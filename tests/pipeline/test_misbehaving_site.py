"""A whole download, by Dask, from servers that misbehave in every way they can: each clip has its reason, the run ends,
and the requests the servers heard are those that were paid for and written down."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from tests.media.site.extractor import EXTRACTOR
from tests.media.site.server import LoopbackSite
from tests.media.site.small_video import small_video
from vidaudio.config.corpus import load_corpus_recipe
from vidaudio.corpus.corpus import open_corpus
from vidaudio.manifest import Clip, write_manifest
from vidaudio.media.fetch.rate_limit import FileRateLimiter
from vidaudio.pipeline.build import build
from vidaudio.shards.commit import read_table, table_name

# What is asked for, and why it does not come; None where it does after all.
MISHAPS = {
    "a.mp4": None,
    "moved/a.mp4": None,
    "busy/429/a.mp4": None,
    "busy/503/a.mp4": None,
    "busy/500/a.mp4": None,
    "longer/a.mp4": "corrupt",  # it announces half of what it has, every time
    "status/429/a.mp4": "rate_limited",
    "status/403/a.mp4": "private",
    "watch/refused": "bot_check",
    "status/404/a.mp4": "not_found",
    "status/410/a.mp4": "not_found",
    "status/451/a.mp4": "geo_blocked",
    "status/500/a.mp4": "server_error",
    "status/503/a.mp4": "server_error",
    "reset/a.mp4": "network",
    "hangup/a.mp4": "network",
    "truncated/a.mp4": "network",
    "loop": "server_error",
    "page.html": "unsupported",
    "nowhere.mp4": "not_found",
}
# These cost a whole deadline each time, so one of the servers does: long enough that a busy machine meets no other.
SLOW = {"stalled/a.mp4": "timeout", "drip/a.mp4": "timeout"}


def test_every_mishap_of_a_server_has_its_reason_and_every_request_is_paid_for_and_written_down(tmp_path: Path):
    media = tmp_path / "media"
    media.mkdir()
    (media / "a.mp4").write_bytes(small_video())
    (media / "page.html").write_text("<html><title>News</title>" + "no video here " * 50 + "</html>")
    rate = f"{{folder: '{tmp_path}/budget', first_pause_seconds: 0.05, longest_pause_seconds: 0.2}}"
    recipe = load_corpus_recipe(
        "folder",
        (
            f"download={{allow_private_addresses: true, deadline_seconds: 8, tries: 2, rate: {rate}}}",
            "download.retry_wait_seconds=0.05",
            f"download.extractors=['{EXTRACTOR}']",
            "embed.encoder.precision=float32",
            "shard_clips=21",
            "dask={workers: 2, downloads_per_worker: 4}",
        ),
    )
    # One says for how long it is busy, the other does not.
    with LoopbackSite(media) as silent, LoopbackSite(media) as telling:
        telling.retry_after = "1"
        for site in (silent, telling):  # a page that is there, and media that it offers and that are refused
            site.add_video("refused", formats=[{"url": site.url("status/403/a.mp4"), "ext": "mp4"}])
        asked = [("s", silent, MISHAPS), ("t", telling, MISHAPS | SLOW)]
        wanted = {
            f"{name}-{number}": (site, path, reason)
            for name, site, paths in asked
            for number, (path, reason) in enumerate(paths.items())
        }
        clips = [Clip(id=i, source=f"x:{i}", dataset="d", url=site.url(path)) for i, (site, path, _) in wanted.items()]
        write_manifest(clips, tmp_path / "list.parquet")
        build(recipe, str(tmp_path / "list.parquet"), str(tmp_path / "corpus"), only=["download"], progress=False)

        budget = FileRateLimiter(tmp_path / "budget")
        sites = ["loopbacksite", *(site.url("").split("/")[2] for site in (silent, telling))]
        heard = silent.requests.total() + telling.requests.total()
        assert sum(budget.state(site).spent for site in sites) == heard
    corpus = open_corpus(str(tmp_path / "corpus"))
    rows = [
        row for n in range(corpus.shards) for row in read_table(corpus.store, table_name("clips", n))[0].to_pylist()
    ]
    assert {row["id"]: row["reason"] for row in rows} == {i: reason for i, (_, _, reason) in wanted.items()}
    assert all(row["message"] for row in rows if row["state"] == "failed")
    (journal,) = (tmp_path / "corpus").glob("runs/*/tasks.parquet")
    written = pq.read_table(journal).to_pylist()
    assert sum(row["requests"] for row in written) == heard
    paths = ["/status/429/a.mp4", "/status/503/a.mp4"]
    refused = sum(site.requests[path] for site in (silent, telling) for path in paths) + 4  # those busy once
    assert sum(row["refused"] for row in written) == refused
