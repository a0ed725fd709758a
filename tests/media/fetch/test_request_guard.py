"""The door: every request is counted, paid for and checked, whatever the server does; options arrive."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.media.site.extractor import EXTRACTOR
from tests.media.site.server import LoopbackSite
from tests.media.site.small_video import small_video
from vidaudio.media.fetch import addresses, session
from vidaudio.media.fetch.addresses import is_public
from vidaudio.media.fetch.rate_limit import MemoryRateLimiter, Rates, SiteRate
from vidaudio.media.fetch.source import ClipSpan, Fetched, FetchOptions, Traffic, fetch_source
from vidaudio.media.fetch.ytdlp import site_of
from vidaudio.media.outcomes import Reason, State

OPTIONS = FetchOptions(
    extractors=(EXTRACTOR,),
    retries=1,
    socket_timeout_seconds=0.5,
    deadline_seconds=10.0,
    allow_private_addresses=True,
    keep_whole=True,
)
PATIENT = Rates(SiteRate(first_pause_seconds=0.05))
WHOLE = [ClipSpan("c", 0.0, None)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One video is enough here: nothing is cut or decoded."""
    folder = tmp_path_factory.mktemp("door")
    (folder / "a.mp4").write_bytes(small_video())
    (folder / "page.html").write_text("<html><title>News</title>" + "no video here " * 50 + "</html>")
    for name, key in (("plain", "NONE"), ("strange", "SAMPLE-AES")):
        segments = "".join(f"#EXTINF:2,\na.mp4?{number}\n" for number in range(4))
        head = f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-KEY:METHOD={key}\n"
        (folder / f"{name}.m3u8").write_text(head + segments + "#EXT-X-ENDLIST\n")
    return folder


@pytest.fixture
def site(folder: Path) -> Iterator[LoopbackSite]:
    with LoopbackSite(folder) as site:
        yield site


@pytest.fixture
def public(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackSite]:
    """A site whose address, 127.0.0.2, passes for public."""
    judged = lambda address: address == "127.0.0.2" or is_public(address)  # noqa: E731
    monkeypatch.setattr(addresses, "is_public", judged)
    monkeypatch.setattr(session, "is_public", judged)
    with LoopbackSite(folder, "127.0.0.2") as site:
        yield site


def fetch(url: str, folder: Path, options: FetchOptions = OPTIONS, **told: object) -> Fetched:
    (fetched,) = fetch_source(url, WHOLE, folder, options, **told)
    return fetched


# --- a server that misbehaves ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "retry_after", "reason"),
    [
        ("a.mp4", None, None),
        ("moved/a.mp4", None, None),
        ("status/429/a.mp4", None, Reason.RATE_LIMITED),
        ("status/429/a.mp4", "1", Reason.RATE_LIMITED),
        ("status/403/a.mp4", None, Reason.PRIVATE),
        ("refused/a.mp4", None, Reason.BOT_CHECK),
        ("status/404/a.mp4", None, Reason.NOT_FOUND),
        ("status/500/a.mp4", None, Reason.SERVER_ERROR),
        ("status/503/a.mp4", None, Reason.SERVER_ERROR),
        ("status/503/a.mp4", "1", Reason.SERVER_ERROR),
        ("reset/a.mp4", None, Reason.NETWORK),
        ("hangup/a.mp4", None, Reason.NETWORK),
        ("stalled/a.mp4", None, Reason.TIMEOUT),
        ("truncated/a.mp4", None, Reason.NETWORK),
        ("drip/a.mp4", None, Reason.TIMEOUT),
        ("drip/page.html", None, Reason.TIMEOUT),
        ("loop", None, Reason.SERVER_ERROR),
        ("longer/a.mp4", None, Reason.CORRUPT_FETCHED),  # it announced half of what it has
    ],
)
def test_every_mishap_has_its_reason_and_every_request_is_paid_for(
    site: LoopbackSite, tmp_path: Path, path: str, retry_after: str | None, reason: Reason | None
):
    site.retry_after = retry_after
    rate_limiter, traffic = MemoryRateLimiter(PATIENT), Traffic()
    clip = fetch(site.url(path), tmp_path, rate_limiter=rate_limiter, traffic=traffic)
    assert clip.outcome.reason is reason, clip.outcome
    assert clip.outcome.state is (State.DONE if reason is None else State.FAILED)
    host = site.url("").split("/")[2]
    assert traffic.requests == {host: site.requests.total()}
    assert rate_limiter.state(host).spent == site.requests.total() > 0
    assert sum(f.is_file() for f in tmp_path.rglob("*")) == (reason is None)


@pytest.mark.parametrize("manifest", ["plain.m3u8", "page"])
def test_pages_manifests_and_segments_are_counted_alike(site: LoopbackSite, tmp_path: Path, manifest: str):
    url = site.url(manifest) if manifest != "page" else site.add_video("v", hls=site.url("plain.m3u8"))
    for options in (OPTIONS, replace(OPTIONS, ytdlp={"concurrent_fragment_downloads": 3})):
        site.requests.clear()
        traffic = Traffic()
        assert fetch(url, tmp_path, options, traffic=traffic).outcome.state is State.DONE
        assert site.requests["/a.mp4"] == 4
        assert sum(traffic.requests.values()) == site.requests.total()
    assert set(traffic.requests) == ({"loopbacksite"} if manifest == "page" else {site.url("").split("/")[2]})


def test_downloads_that_would_go_past_the_door_are_refused(site: LoopbackSite, tmp_path: Path):
    streams = {
        "rtmp": {"url": "rtmp://127.0.0.1/x", "protocol": "rtmp"},
        "mms": {"url": "mms://127.0.0.1/x", "protocol": "mms"},
        "hls": {"url": site.url("strange.m3u8"), "protocol": "m3u8_native"},
        "ftp": {"url": "ftp://127.0.0.1/x.mp4", "protocol": "ftp"},
    }
    for name, stream in streams.items():
        url = site.add_video(name, formats=[{"format_id": name, "ext": "mp4", "width": 320, "height": 240} | stream])
        assert fetch(url, tmp_path).outcome.reason is Reason.UNSUPPORTED, name


# --- the budget ------------------------------------------------------------------------------------------------------


def test_a_pause_holds_for_all_sources_of_the_site(site: LoopbackSite, tmp_path: Path):
    site.retry_after = "1"
    rate_limiter = MemoryRateLimiter(PATIENT)
    assert fetch(site.url("busy/429/a.mp4"), tmp_path, rate_limiter=rate_limiter).outcome.reason is Reason.RATE_LIMITED
    traffic = Traffic()
    threads = [threading.Thread(target=fetch, args=(site.url(f"a.mp4?{n}"), tmp_path / str(n)),
                                kwargs={"rate_limiter": rate_limiter, "traffic": traffic})
               for n in range(3)]  # fmt: skip
    for thread in threads:
        thread.start()
    assert site.requests.total() == 1
    for thread in threads:
        thread.join()
    assert site.times[1] - site.times[0] >= 1, "nobody was served while the site was paused"
    assert sum(traffic.requests.values()) == site.requests.total() - 1
    assert traffic.waited_seconds > 0


def test_a_site_that_is_busy_once_costs_the_source_a_pause_and_nothing_else(site: LoopbackSite, tmp_path: Path):
    url = site.add_video("v", formats=[{"url": site.url("busy/503/a.mp4"), "ext": "mp4"}])
    traffic = Traffic()
    assert fetch(url, tmp_path, rate_limiter=MemoryRateLimiter(PATIENT), traffic=traffic).outcome.state is State.DONE
    assert (traffic.refused, site.requests["/watch/v"], site.requests["/busy/503/a.mp4"]) == (1, 1, 2)


def test_waiting_for_the_budget_is_not_the_sources_time(site: LoopbackSite, tmp_path: Path):
    url = site.add_video("v", formats=[{"url": site.url("a.mp4"), "ext": "mp4"}])
    slow = MemoryRateLimiter(Rates(SiteRate(minimum_interval_seconds=4.0)))
    options = replace(OPTIONS, deadline_seconds=2.5)
    for _ in range(2):
        clip = fetch(url, tmp_path, options, rate_limiter=slow)
        assert clip.outcome.state is State.DONE, clip.outcome


def test_a_fetch_can_be_stopped_while_it_waits(site: LoopbackSite, tmp_path: Path):
    rate_limiter, stop = MemoryRateLimiter(Rates(SiteRate(minimum_interval_seconds=600))), threading.Event()
    rate_limiter.try_acquire(site.url("").split("/")[2])
    threading.Timer(0.2, stop.set).start()
    began = time.monotonic()
    assert fetch(site.url("a.mp4"), tmp_path, rate_limiter=rate_limiter, stop=stop).outcome.reason is Reason.UNKNOWN
    assert time.monotonic() - began < 5
    assert not site.requests


def test_the_site_is_the_extractors_name_or_the_host():
    assert site_of("youtube:tab", "https://www.youtube.com/x") == "youtube"
    assert site_of("BiliBili", "https://b23.tv/x") == "bilibili"
    assert site_of("generic", "https://u:p@www.Example.org:8080/a.mp4?x") == "example.org:8080"


# --- what is passed on -----------------------------------------------------------------------------------------------


def test_cookies_user_agent_and_source_address_arrive(site: LoopbackSite, tmp_path: Path):
    jar = tmp_path / "cookies.txt"
    cookies = "# Netscape HTTP Cookie File\n127.0.0.1\tFALSE\t/\tFALSE\t0\tsession\tabc123\n"
    jar.write_text(cookies)
    ytdlp = {"cookiefile": str(jar), "source_address": "127.0.0.5", "http_headers": {"User-Agent": "Mine/1"}}
    url = site.add_video("v", formats=[{"url": site.url("a.mp4"), "ext": "mp4"}])
    assert fetch(url, tmp_path, replace(OPTIONS, ytdlp=ytdlp)).outcome.state is State.DONE
    assert len(site.heard) == 2
    fetch(url, tmp_path, OPTIONS)  # the thread's downloader with the cookies is closed
    site.heard = site.heard[:2]
    assert jar.read_text() == cookies, "many share the user's file: it is never written"
    for heard in site.heard:
        assert heard["User-Agent"] == "Mine/1"
        assert "session=abc123" in heard["Cookie"]
        assert heard["peer"] == "127.0.0.5"


def test_a_proxy_gets_every_request_and_resolves_the_names(site: LoopbackSite, tmp_path: Path):
    options = replace(OPTIONS, ytdlp={"proxy": site.url("")}, allow_private_addresses=False)
    traffic = Traffic()
    assert fetch("http://videos.invalid/a.mp4", tmp_path, options, traffic=traffic).outcome.state is State.DONE
    assert traffic.requests == {"videos.invalid": site.requests.total()}
    assert {heard["Host"] for heard in site.heard} == {"videos.invalid"}
    private = ("127.0.0.1", "localhost", "0x7f.1", "[::1]", "169.254.169.254", "metadata", "localhost.localdomain")
    for host in private:
        assert fetch(f"http://{host}/a.mp4", tmp_path, options).outcome.reason is Reason.UNSUPPORTED
    assert {heard["Host"] for heard in site.heard} == {"videos.invalid"}


# --- private addresses -----------------------------------------------------------------------------------------------

CLOSED = replace(OPTIONS, allow_private_addresses=False)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        *(("8.8.8.8", True), ("2606:4700::1111", True), ("127.0.0.1", False), ("10.1.2.3", False)),
        *(("172.16.0.1", False), ("192.168.1.1", False), ("169.254.169.254", False), ("100.64.0.1", False)),
        *(("0.0.0.0", False), ("224.0.0.1", False), ("255.255.255.255", False), ("::1", False), ("::", False)),
        *(("fe80::1%eth0", False), ("fc00::1", False), ("ff02::1", False), ("::ffff:127.0.0.1", False)),
        *(("64:ff9b::7f00:1", False), ("2002:7f00:1::", False), ("::ffff:8.8.8.8", True)),
    ],
)
def test_which_addresses_are_public(address: str, public: bool):
    assert is_public(address) is public


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "0177.0.0.1", "127.1", "[::ffff:127.0.0.1]", "0.0.0.0"]
)
def test_private_addresses_are_not_asked_however_they_are_written(site: LoopbackSite, tmp_path: Path, host: str):
    traffic = Traffic()
    port = site.url("").split(":")[2]
    clip = fetch(f"http://{host}:{port}a.mp4", tmp_path, CLOSED, traffic=traffic)
    assert clip.outcome.reason is Reason.UNSUPPORTED
    assert "download.allow_private_addresses" in clip.outcome.message
    assert not site.requests
    assert not traffic.requests


@pytest.mark.parametrize("address", ["http://2001:db8::1/a.mp4", "http://[::1/a.mp4", "http://host:port/a.mp4"])
def test_what_is_no_address_is_not_supported(tmp_path: Path, address: str):
    for options in (OPTIONS, CLOSED):
        assert fetch(address, tmp_path, options).outcome.reason is Reason.UNSUPPORTED


def test_redirects_and_manifests_do_not_lead_to_private_addresses(
    site: LoopbackSite, public: LoopbackSite, tmp_path: Path
):
    public.moved |= {"/go.mp4": site.url("a.mp4"), "/file.mp4": "file:///etc/passwd", "/ftp.mp4": "ftp://127.0.0.1/a"}
    for path in ("file.mp4", "ftp.mp4"):
        assert fetch(public.url(path), tmp_path, OPTIONS).outcome.reason is Reason.UNSUPPORTED
    manifest = public.folder / "inside.m3u8"
    head = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n"
    manifest.write_text(f"{head}#EXTINF:2,\n{site.url('a.mp4')}\n#EXT-X-ENDLIST\n")
    key = f'#EXT-X-KEY:METHOD=AES-128,URI="{site.url("a.mp4")}"\n'
    (public.folder / "key.m3u8").write_text(f"{head}{key}#EXTINF:2,\na.mp4\n#EXT-X-ENDLIST\n")
    (public.folder / "map.m3u8").write_text(
        f'{head}#EXT-X-MAP:URI="{site.url("a.mp4")}"\n#EXTINF:2,\na.mp4\n#EXT-X-ENDLIST\n'
    )
    (public.folder / "base.mpd").write_text(
        '<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT4S"><Period>'
        f'<BaseURL>{site.url("")}</BaseURL><AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="9">'
        '<SegmentList duration="2"><SegmentURL media="a.mp4"/></SegmentList>'
        "</Representation></AdaptationSet></Period></MPD>"
    )
    for path in ("go.mp4", "inside.m3u8", "key.m3u8", "map.m3u8", "base.mpd"):
        clip = fetch(public.url(path), tmp_path, CLOSED)
        assert clip.outcome.reason is Reason.UNSUPPORTED, clip.outcome
        assert "private address" in clip.outcome.message
    assert not site.requests
    assert fetch(public.url("a.mp4"), tmp_path, CLOSED).outcome.state is State.DONE
    assert fetch(public.url("go.mp4"), tmp_path, OPTIONS).outcome.state is State.DONE


def test_a_name_that_resolves_otherwise_the_second_time_gets_no_request(
    site: LoopbackSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    original, asked = socket.getaddrinfo, []

    def rebinding(host: str, port: int, *args: object, **named: object):
        if host != "rebinding.example":
            return original(host, port, *args, **named)
        asked.append(host)
        return original("8.8.8.8" if len(asked) == 1 else "127.0.0.1", port, *args, **named)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    port = site.url("").split(":")[2]
    clip = fetch(f"http://rebinding.example:{port}a.mp4", tmp_path, CLOSED)
    assert (clip.outcome.reason, len(asked)) == (Reason.UNSUPPORTED, 2)
    assert not site.requests


def test_one_private_address_among_public_ones_is_one_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    both = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80)) for address in ("8.8.8.8", "10.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: both)
    assert fetch("http://both.example/a.mp4", tmp_path, CLOSED).outcome.reason is Reason.UNSUPPORTED
