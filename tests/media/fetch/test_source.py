"""One source to one file a clip, over real HTTP: plain files, a site with formats and manifests, mishaps; paths."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import av
import ffmpeg
import pytest

from tests.media.site.clock import FPS, picture_times, render, sound_offset
from tests.media.site.extractor import EXTRACTOR
from tests.media.site.server import LoopbackSite
from vidaudio.errors import RecipeError
from vidaudio.media.fetch import ytdlp
from vidaudio.media.fetch.source import ClipSpan, Fetched, FetchOptions, fetch_source
from vidaudio.media.ffmpeg import run_ffmpeg
from vidaudio.media.outcomes import Reason, State

SECONDS = 16.0
X264 = {"vcodec": "libx264", "preset": "ultrafast", "bf": 2, "g": 2 * FPS}
OPTIONS = FetchOptions(extractors=(EXTRACTOR,), retries=1, socket_timeout_seconds=1.0, allow_private_addresses=True)
SIZES = {"144": (256, 144), "240": (426, 240), "360": (640, 360), "p144": (144, 256), "p240": (240, 426)}


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site's files: pictures in three heights and two portrait sizes, sound in two, manifests, plain files."""
    folder = tmp_path_factory.mktemp("site")
    for name, (width, height) in SIZES.items():
        size = (width // 2 * 2, height // 2 * 2)
        render(folder / f"v{name}.mp4", seconds=SECONDS, size=size, an=None, crf=35, **X264)
    render(folder / "a48.m4a", seconds=SECONDS, vn=None, acodec="aac", audio_bitrate="48k")
    render(folder / "a96.webm", seconds=SECONDS, vn=None, acodec="libopus", audio_bitrate="96k")
    plain = render(folder / "plain.mp4", seconds=SECONDS, **X264, acodec="aac")
    (folder / "noextension").write_bytes(plain.read_bytes())
    (folder / "empty.mp4").write_bytes(b"")
    render(folder / "planes.mp4", seconds=SECONDS, size=(64, 48), pix_fmt="yuv444p", **X264, acodec="aac")
    (folder / "page.html").write_text("<!DOCTYPE html><html><title>News</title><body>No video here.</body></html>")
    pictures = [ffmpeg.input(str(folder / f"v{n}.mp4")) for n in ("144", "240")]
    sound = ffmpeg.input(str(plain))["a"]
    dash = {"f": "dash", "seg_duration": 2, "adaptation_sets": "id=0,streams=0 id=1,streams=1 id=2,streams=2"}
    run_ffmpeg(ffmpeg.output(pictures[0]["v"], pictures[1]["v"], sound, str(folder / "d.mpd"), c="copy", **dash))
    segments = {"f": "hls", "hls_time": 2, "hls_list_size": 0, "c": "copy"}
    run_ffmpeg(ffmpeg.output(ffmpeg.input(str(plain)), str(folder / "h.m3u8"), **segments))
    groups = {"master_pl_name": "groups.m3u8", "var_stream_map": "v:0,agroup:s a:0,agroup:s,default:yes"}
    run_ffmpeg(ffmpeg.output(pictures[1]["v"], sound, str(folder / "g%v.m3u8"), **segments, **groups))
    return folder


@pytest.fixture
def site(media: Path) -> Iterator[LoopbackSite]:
    with LoopbackSite(media) as site:
        yield site


def formats_of(site: LoopbackSite, names: list[str]) -> list[dict]:
    """Entries of a format table: `v240`, `a96` are files of the site."""
    entries = []
    for name in names:
        file = next(site.folder.glob(f"{name}.*"))
        told = {"format_id": name, "url": site.url(file.name), "ext": file.suffix[1:], "filesize": file.stat().st_size}
        if name.startswith("v"):
            width, height = SIZES[name[1:]]
            told |= {"width": width, "height": height, "vcodec": "avc1", "acodec": "none"}
        else:
            told |= {"abr": int(name[1:]), "vcodec": "none", "acodec": "opus" if file.suffix == ".webm" else "mp4a"}
        entries.append(told)
    return entries


def size_of(path: Path) -> tuple[int, int]:
    with av.open(str(path)) as container:
        assert container.streams.audio, "there is no sound in it"
        return container.streams.video[0].width, container.streams.video[0].height


def assert_in_its_place(clip: Fetched, start: float) -> None:
    """Picture and sound of a clip tell the time that the record says, on the source's timeline."""
    assert clip.outcome.state is State.DONE, clip.outcome
    for number, seconds in picture_times(clip.path).items():
        assert abs(seconds + clip.media_start_seconds - number / FPS) < 0.5 / FPS
    at = start + 0.5 - clip.media_start_seconds
    assert abs(sound_offset(clip.path, SECONDS, at_seconds=at) + clip.media_start_seconds) < 0.5 / FPS
    assert clip.size_bytes == clip.path.stat().st_size
    assert clip.sha256 == hashlib.sha256(clip.path.read_bytes()).hexdigest()


def only(fetched: list[Fetched]) -> Fetched:
    assert len(fetched) == 1
    return fetched[0]


# --- plain files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    ["plain.mp4", "plain.mp4?token=a%2Fb&x=.webm", "noextension", "typed/text/plain/plain.mp4",
     "typed/text/html/noextension", "typed/application/octet-stream/plain.mp4", "moved/plain.mp4"],
)  # fmt: skip
def test_a_plain_file_over_http_however_it_is_named(site: LoopbackSite, tmp_path: Path, path: str):
    clip = only(fetch_source(site.url(path), [ClipSpan("c", 0.0, None)], tmp_path, OPTIONS))
    assert clip.outcome.state is State.DONE
    assert clip.path == tmp_path / "c.mp4"
    assert clip.path.read_bytes() == (site.folder / "plain.mp4").read_bytes()
    assert os.listdir(tmp_path) == ["c.mp4"]
    assert "token" not in json.dumps(clip.info)


def test_a_clip_of_a_plain_file_is_cut_out_of_it(site: LoopbackSite, tmp_path: Path):
    clip = only(fetch_source(site.url("plain.mp4"), [ClipSpan("c", 7.0, 9.0)], tmp_path, OPTIONS))
    assert_in_its_place(clip, 7.0)
    assert clip.media_start_seconds > 5.0
    assert clip.size_bytes < (site.folder / "plain.mp4").stat().st_size / 2


# --- the site --------------------------------------------------------------------------------------------------------


def test_smallest_covering_picture_and_sound_are_fetched_and_put_together(site: LoopbackSite, tmp_path: Path):
    told = {"title": "../Cats & dogs", "uploader": "U", "channel": "C", "license": "CC-BY", "duration": SECONDS}
    names = ["v144", "v240", "v360", "a48", "a96"]
    url = site.add_video("abc", formats=formats_of(site, names), **told)
    clip = only(fetch_source(url, [ClipSpan("abc_000000", 0.0, None)], tmp_path, OPTIONS))
    assert size_of(clip.path) == (426, 240)
    assert_in_its_place(clip, 0.0)
    assert clip.info == {
        "id": "abc", "title": "../Cats & dogs", "uploader": "U", "channel": "C", "licence": "CC-BY",
        "duration": SECONDS, "format": "v240 - 426x240 + a96 - audio only",
    }  # fmt: skip
    assert site.requests == {"/watch/abc": 1, "/v240.mp4": 1, "/a96.webm": 1}
    assert os.listdir(tmp_path) == ["abc_000000.mp4"]


def test_a_portrait_video_is_measured_by_its_width(site: LoopbackSite, tmp_path: Path):
    url = site.add_video("tall", formats=formats_of(site, ["vp144", "vp240", "a96"]))
    clip = only(fetch_source(url, [ClipSpan("c", 0.0, None)], tmp_path, OPTIONS))
    assert size_of(clip.path) == (240, 426)


def test_many_clips_of_one_video_cost_one_page_and_one_download(site: LoopbackSite, tmp_path: Path):
    url = site.add_video("many", formats=formats_of(site, ["v144", "v240", "a96"]), duration=SECONDS)
    starts = [0.0, 2.5, 5.0, 9.99, 12.0]
    spans = [ClipSpan(f"many_{number:06d}", start, start + 2.0) for number, start in enumerate(starts)]
    fetched = fetch_source(url, spans, tmp_path, OPTIONS)
    assert site.requests == {"/watch/many": 1, "/v240.mp4": 1, "/a96.webm": 1}
    assert [clip.id for clip in fetched] == [span.id for span in spans]
    for clip, start in zip(fetched, starts, strict=True):
        assert_in_its_place(clip, start)
    assert sorted(os.listdir(tmp_path)) == [f"{span.id}.mp4" for span in spans]


def test_dash(site: LoopbackSite, tmp_path: Path):
    url = site.add_video("dash", dash=site.url("d.mpd"), duration=SECONDS)
    fetched = fetch_source(url, [ClipSpan("a", 0.0, None), ClipSpan("b", 7.0, 9.0)], tmp_path, OPTIONS)
    assert {size_of(clip.path) for clip in fetched} == {(426, 240)}
    assert_in_its_place(fetched[0], 3.0)
    assert_in_its_place(fetched[1], 7.0)
    assert site.requests["/watch/dash"] == site.requests["/d.mpd"] == site.requests["/init-stream1.m4s"] == 1
    assert site.requests["/init-stream0.m4s"] == 0


@pytest.mark.parametrize("manifest", ["h.m3u8", "groups.m3u8"])
def test_hls_with_sound_inside_and_in_a_group_of_its_own(site: LoopbackSite, tmp_path: Path, manifest: str):
    url = site.add_video("hls", hls=site.url(manifest))
    fetched = fetch_source(url, [ClipSpan("a", 0.0, None), ClipSpan("b", 7.0, 9.0)], tmp_path, OPTIONS)
    for clip, start in zip(fetched, (3.0, 7.0), strict=True):
        assert clip.outcome.state is State.DONE, clip.outcome
        shown, at = picture_times(clip.path), start + 0.5 - clip.media_start_seconds
        late = sum(t - n / FPS for n, t in shown.items()) / len(shown)
        # MPEG-TS counts from the sound's first packet, a codec's run-in before the first picture.
        assert abs(late + clip.media_start_seconds) < 0.15
        assert abs(sound_offset(clip.path, SECONDS, at_seconds=at) - late) < 0.005
    assert max(site.requests.values()) <= 2, "yt-dlp reads a lone media play list twice, a segment once"


def test_manifests_behind_plain_urls(site: LoopbackSite, tmp_path: Path):
    for number, manifest in enumerate(["h.m3u8", "d.mpd"]):
        clip = only(fetch_source(site.url(manifest), [ClipSpan(f"c{number}", 5.0, 7.0)], tmp_path, OPTIONS))
        assert clip.outcome.state is State.DONE, clip.outcome
        assert clip.media_start_seconds > 1.5


def test_a_list_of_one_video_is_that_video_and_longer_ones_are_refused(site: LoopbackSite, tmp_path: Path):
    video = site.add_video("v", formats=formats_of(site, ["v240", "a96"]))
    for count, state in ((1, State.DONE), (2, State.FAILED)):
        url = site.add_video(f"list{count}", entries=[video] * count)
        clip = only(fetch_source(url, [ClipSpan("c", 0.0, None)], tmp_path, OPTIONS))
        assert clip.outcome.state is state
    assert clip.outcome.reason is Reason.UNSUPPORTED


# --- what is kept of a file ------------------------------------------------------------------------------------------


def test_whole_files_are_kept_once_and_linked(site: LoopbackSite, tmp_path: Path):
    spans = [ClipSpan("a", 0.0, 4.0), ClipSpan("b", 6.0, None), ClipSpan("c", 0.0, 12.0)]
    options = replace(OPTIONS, keep_whole=True)
    fetched = fetch_source(site.url("plain.mp4"), spans, tmp_path, options)
    assert len({clip.path.stat().st_ino for clip in fetched}) == 1
    assert {clip.media_start_seconds for clip in fetched} == {0.0}
    cut, *whole = fetch_source(site.url("plain.mp4"), spans, tmp_path, OPTIONS)
    assert cut.size_bytes < whole[0].size_bytes == whole[1].size_bytes


def test_a_file_that_is_a_cut_already_keeps_its_place_on_the_timeline(site: LoopbackSite, tmp_path: Path):
    spans = [ClipSpan("a", 107.0, 109.0, media_start_seconds=100.0), ClipSpan("b", 0.0, None, media_start_seconds=3.0)]
    cut, whole = fetch_source(site.url("plain.mp4"), spans, tmp_path, OPTIONS)
    assert 105.0 < cut.media_start_seconds <= 106.0
    assert whole.media_start_seconds == 3.0


def test_a_clip_behind_the_end_is_dropped_and_the_others_are_not(site: LoopbackSite, tmp_path: Path):
    spans = [ClipSpan("in", 2.0, 4.0), ClipSpan("out", 60.0, 62.0)]
    inside, outside = fetch_source(site.url("plain.mp4"), spans, tmp_path, OPTIONS)
    assert inside.outcome.state is State.DONE
    assert (outside.outcome.state, outside.outcome.reason) == (State.DROPPED, Reason.TOO_SHORT)
    assert os.listdir(tmp_path) == ["in.mp4"]


def test_what_cannot_be_cut_is_kept_whole_and_says_so(site: LoopbackSite, tmp_path: Path):
    clip = only(fetch_source(site.url("planes.mp4"), [ClipSpan("c", 1.0, 2.0)], tmp_path, OPTIONS))
    assert clip.outcome.state is State.DONE
    assert clip.outcome.message.startswith("kept whole: H.264 in 4:4:4")
    assert clip.path.read_bytes() == (site.folder / "planes.mp4").read_bytes()


def test_fetching_twice_gives_the_same_bytes(site: LoopbackSite, tmp_path: Path):
    url = site.add_video("twice", formats=formats_of(site, ["v240", "a96"]))
    spans = [ClipSpan("a", 7.0, 9.0), ClipSpan("b", 0.0, None)]
    first, second = (fetch_source(url, spans, tmp_path / name, OPTIONS) for name in "xy")
    assert [clip.sha256 for clip in first] == [clip.sha256 for clip in second]


# --- local files -----------------------------------------------------------------------------------------------------


def test_a_local_file_is_referred_to(media: Path, tmp_path: Path):
    spans = [ClipSpan("a", 2.0, 4.0), ClipSpan("b", 32.0, 34.0, media_start_seconds=30.0)]
    fetched = fetch_source(str(media / "plain.mp4"), spans, tmp_path, OPTIONS)
    assert [(c.path, c.is_reference, c.media_start_seconds) for c in fetched] == [
        (media / "plain.mp4", True, 0.0),
        (media / "plain.mp4", True, 30.0),
    ]
    assert fetched[0].sha256 == hashlib.sha256((media / "plain.mp4").read_bytes()).hexdigest()
    assert os.listdir(tmp_path) == []


def test_a_local_file_is_copied_when_asked(media: Path, tmp_path: Path):
    options = FetchOptions(copy_local=True)
    fetched = fetch_source(str(media / "plain.mp4"), [ClipSpan("a", 2, 4), ClipSpan("b", 5, 6)], tmp_path, options)
    assert sorted(os.listdir(tmp_path)) == ["a.mp4", "b.mp4"]
    assert not any(clip.is_reference for clip in fetched)
    assert fetched[0].path.stat().st_ino != (media / "plain.mp4").stat().st_ino


def test_a_file_that_no_tar_holds_is_referred_to_and_not_copied(tmp_path: Path):
    large = tmp_path / "large.mp4"
    with large.open("wb") as file:
        file.truncate(1 << 33)  # a hole, no bytes
    copied = only(fetch_source(str(large), [ClipSpan("c", 0.0, None)], tmp_path / "out", FetchOptions(copy_local=True)))
    assert copied.outcome.reason is Reason.TOO_LARGE
    assert "download.copy_local" in copied.outcome.message


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("/no/such/file.mp4", Reason.NOT_FOUND),
        ("/", Reason.UNSUPPORTED),
        ("/dev/null", Reason.UNSUPPORTED),
        ("file:///etc/hostname", Reason.UNSUPPORTED),
        ("ytsearch:cats", Reason.NOT_FOUND),
    ],
)
def test_local_paths_that_are_no_files(tmp_path: Path, url: str, reason: Reason):
    clip = only(fetch_source(url, [ClipSpan("c", 0.0, None)], tmp_path, OPTIONS))
    assert (clip.outcome.state, clip.outcome.reason, clip.path) == (State.FAILED, reason, None)


def test_a_file_url_is_followed_only_where_the_options_say_so(tmp_path: Path, media: Path):
    url = (media / "plain.mp4").as_uri()
    refused = only(fetch_source(url, [ClipSpan("c", 0.0, None)], tmp_path, OPTIONS))
    assert (refused.outcome.state, refused.outcome.reason) == (State.FAILED, Reason.UNSUPPORTED)
    assert "download.allow_file_urls" in refused.outcome.message
    options = FetchOptions(allow_file_urls=True)
    for named in (url, url.replace("file://", "file://localhost"), url.replace("file://", "FILE:")):
        taken = only(fetch_source(named, [ClipSpan("c", 0.0, None)], tmp_path, options))
        assert (taken.outcome.state, taken.path, taken.is_reference) == (State.DONE, media / "plain.mp4", True)
    for named in ("file://elsewhere/plain.mp4", "file:plain.mp4", "file:///a%00b", "file://[x/a"):
        clip = only(fetch_source(named, [ClipSpan("c", 0.0, None)], tmp_path, options))
        assert (clip.outcome.reason, clip.path) == (Reason.UNSUPPORTED, None)


# --- mishaps ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("nosuch.mp4", Reason.NOT_FOUND),
        ("status/410/x.mp4", Reason.NOT_FOUND),
        ("status/401/x.mp4", Reason.PRIVATE),
        ("status/403/x.mp4", Reason.PRIVATE),
        ("status/429/x.mp4", Reason.RATE_LIMITED),
        ("status/500/x.mp4", Reason.SERVER_ERROR),
        ("status/503/x.mp4", Reason.SERVER_ERROR),
        ("status/418/x.mp4", Reason.UNKNOWN),
        ("loop", Reason.SERVER_ERROR),
        ("refused/plain.mp4", Reason.BOT_CHECK),
        ("truncated/plain.mp4", Reason.NETWORK),
        ("stalled/plain.mp4", Reason.TIMEOUT),
        ("empty.mp4", Reason.CORRUPT_FETCHED),
        ("page.html", Reason.UNSUPPORTED),
    ],
)
def test_every_mishap_of_a_server_has_its_reason(site: LoopbackSite, tmp_path: Path, path: str, reason: Reason):
    spans = [ClipSpan("a", 0.0, None), ClipSpan("b", 1.0, 2.0)]
    fetched = fetch_source(site.url(path) + "?key=my%20SECRET%20key", spans, tmp_path, OPTIONS)
    assert [(clip.outcome.state, clip.outcome.reason) for clip in fetched] == [(State.FAILED, reason)] * 2
    assert len(fetched[0].outcome.message) > 8
    assert "SECRET" not in fetched[0].outcome.message
    assert "\n" not in fetched[0].outcome.message
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        ({"error": "Private video. Sign in if you've been granted access to this video"}, Reason.PRIVATE),
        ({"error": "Sign in to confirm you’re not a bot"}, Reason.BOT_CHECK),
        ({"geo_blocked": True}, Reason.GEO_BLOCKED),
        ({"is_live": True}, Reason.LIVE),
        ({"crash": True}, Reason.UNKNOWN),
        ({"formats": []}, Reason.UNKNOWN),
    ],
)
def test_a_dead_video_costs_one_extraction(site: LoopbackSite, tmp_path: Path, page: dict, reason: Reason):
    url = site.add_video("dead", **({"formats": formats_of(site, ["v240", "a96"])} | page))
    spans = [ClipSpan("a", 0.0, None), ClipSpan("b", 1.0, 2.0)]
    fetched = fetch_source(url, spans, tmp_path, OPTIONS)
    assert [clip.outcome.reason for clip in fetched] == [reason] * 2
    assert site.requests == {"/watch/dead": 1}
    assert os.listdir(tmp_path) == []


def test_what_ytdlp_warned_of_is_told_with_each_failure(site: LoopbackSite, tmp_path: Path):
    sabr = "Some web client https formats have been skipped as they are missing a URL"
    stills = [{"url": site.url("plain.mp4"), "ext": "mhtml", "vcodec": "none", "acodec": "none", "protocol": "mhtml"}]
    for number, said in enumerate(({"warnings": [sabr]}, {"warnings": [sabr]}, {"debug": [sabr]}, {})):
        url = site.add_video(f"w{number}", formats=stills, **said)
        clip = only(fetch_source(url, [ClipSpan("c", 0.0, None)], tmp_path, OPTIONS))
        assert clip.outcome.reason is Reason.UNKNOWN
        assert (f"; yt-dlp warned: {sabr}" in clip.outcome.message) == bool(said), clip.outcome.message


def test_nobody_there_is_a_network_failure(tmp_path: Path):
    for url in ("http://127.0.0.1:9/x.mp4", "http://no-such-host.invalid/x.mp4"):
        clip = only(fetch_source(url, [ClipSpan("c", 0.0, None)], tmp_path, OPTIONS))
        assert clip.outcome.reason is Reason.NETWORK
        assert clip.outcome.transient


def test_a_missing_segment_is_a_failure_and_not_a_hole(site: LoopbackSite, tmp_path: Path):
    manifest = (site.folder / "h.m3u8").read_text().replace("h3.ts", "gone.ts")
    (site.folder / "hole.m3u8").write_text(manifest)
    url = site.add_video("hole", hls=site.url("hole.m3u8"))
    clip = only(fetch_source(url, [ClipSpan("c", 0.0, None)], tmp_path, OPTIONS))
    assert clip.outcome.reason is Reason.NOT_FOUND
    assert os.listdir(tmp_path) == []


def test_a_manifest_cannot_reach_local_files(site: LoopbackSite, tmp_path: Path):
    secret = tmp_path / "secret.ts"
    secret.write_bytes((site.folder / "h0.ts").read_bytes())
    (site.folder / "inside.m3u8").write_text(
        f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nfile://{secret}\n#EXT-X-ENDLIST\n"
    )
    clip = only(fetch_source(site.url("inside.m3u8"), [ClipSpan("c", 0.0, None)], tmp_path / "out", OPTIONS))
    assert clip.outcome.reason is Reason.UNSUPPORTED
    assert os.listdir(tmp_path / "out") == []


def test_a_full_disk_is_a_disk_failure(site: LoopbackSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "link", full)
    clip = only(fetch_source(site.url("plain.mp4"), [ClipSpan("c", 0.0, None)], tmp_path, OPTIONS))
    assert clip.outcome.reason is Reason.DISK
    assert os.listdir(tmp_path) == []


# --- the door itself -------------------------------------------------------------------------------------------------


def test_bad_requests_are_errors_and_not_outcomes(tmp_path: Path):
    with pytest.raises(ValueError, match="same id"):
        fetch_source("/x", [ClipSpan("c", 0, 1), ClipSpan("c", 1, 2)], tmp_path)
    for bad in ("", "a.b", "../x", "a/b", "é", "x" * 129):
        with pytest.raises(ValueError, match="clip id"):
            ClipSpan(bad, 0.0, None)
    with pytest.raises(ValueError, match="spans"):
        ClipSpan("c", 2.0, 1.0)
    with pytest.raises(RecipeError, match="outtmpl"):
        FetchOptions(ytdlp={"outtmpl": "%(title)s"})
    with pytest.raises(RecipeError, match="module:Class"):
        FetchOptions(extractors=("os.system('x')",))
    with pytest.raises(ImportError):
        fetch_source("http://127.0.0.1:9/", [], tmp_path, FetchOptions(extractors=("no.such:Thing",)))


def test_options_and_records_travel_between_processes(media: Path, tmp_path: Path):
    assert pickle.loads(pickle.dumps(OPTIONS)) == OPTIONS
    fetched = fetch_source(str(media / "plain.mp4"), [ClipSpan("a", 2.0, 4.0)], tmp_path)
    assert pickle.loads(pickle.dumps(fetched)) == fetched


def test_ytdlp_options_are_passed_on(site: LoopbackSite, tmp_path: Path):
    options = replace(OPTIONS, ytdlp={"proxy": "http://127.0.0.1:9"}, retries=0)
    clip = only(fetch_source(site.url("plain.mp4"), [ClipSpan("c", 0.0, None)], tmp_path, options))
    assert clip.outcome.reason is Reason.NETWORK
    assert not site.requests


def test_one_downloader_a_thread_serves_many_sources(site: LoopbackSite, tmp_path: Path, monkeypatch):
    made = []
    original = ytdlp.make_downloader
    monkeypatch.setattr(ytdlp, "make_downloader", lambda options: made.append(1) or original(options))
    options = replace(OPTIONS, ytdlp={"http_headers": {"X-Test": "1"}})
    fetch_source(site.url("plain.mp4"), [ClipSpan("c0", 0.0, None)], tmp_path, options)
    for number in range(10):
        fetch_source(site.url("plain.mp4"), [ClipSpan(f"c{number}", 0.0, None)], tmp_path, options)
    assert len(made) == 1


def test_threads_fetch_side_by_side(site: LoopbackSite, tmp_path: Path):
    url = site.add_video("side", formats=formats_of(site, ["v240", "a96"]))

    def fetch(number: int) -> Fetched:
        return only(fetch_source(url, [ClipSpan(f"c{number}", 7.0, 9.0)], tmp_path, OPTIONS))

    with ThreadPoolExecutor(4) as pool:
        fetched = list(pool.map(fetch, range(8)))
    assert len({(clip.sha256, clip.media_start_seconds) for clip in fetched}) == 1
    assert sorted(os.listdir(tmp_path)) == [f"c{number}.mp4" for number in range(8)]


def test_nothing_is_printed(site: LoopbackSite, tmp_path: Path):
    url, missing = site.url("plain.mp4"), site.url("nosuch.mp4")
    code = (
        # As open_clip does, by its first word to the root logger.
        "import logging\nlogging.basicConfig()\n"
        "from pathlib import Path\nfrom vidaudio.media.fetch.source import ClipSpan, FetchOptions, fetch_source\n"
        "options = FetchOptions(allow_private_addresses=True)\n"
        f"for n, url in enumerate([{url!r}, {missing!r}]):\n"
        f"    fetch_source(url, [ClipSpan(f'c{{n}}', 0.0, None)], Path({str(tmp_path)!r}), options)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert os.listdir(tmp_path) == ["c0.mp4"]


def test_a_file_in_a_tar_is_copied_out_of_it(media: Path, tmp_path: Path):
    video = media / "plain.mp4"
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        tar.add(video, "./dog/1.MP4")
    spans = [ClipSpan("a", 0.0, None), ClipSpan("b", 0.5, 1.5)]
    fetched = fetch_source(str(tmp_path / "0.tar" / "dog" / "1.MP4"), spans, tmp_path / "out")
    assert [one.outcome.state for one in fetched] == [State.DONE, State.DONE]
    for one in fetched:
        assert one.path is not None
        assert one.path.parent == tmp_path / "out"
        assert not one.is_reference
        assert one.path.read_bytes() == video.read_bytes()
        assert one.sha256 == hashlib.sha256(video.read_bytes()).hexdigest()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.mp4", "b.mp4"]


def test_a_file_that_is_not_in_the_tar_and_a_tar_that_is_none(tmp_path: Path):
    with tarfile.open(tmp_path / "0.tar", "w"):
        pass
    (tmp_path / "1.tar").write_bytes(b"no tar at all" * 100)
    missing = only(fetch_source(str(tmp_path / "0.tar" / "a.mp4"), [ClipSpan("a", 0.0, None)], tmp_path / "out"))
    assert missing.outcome.reason is Reason.NOT_FOUND
    broken = only(fetch_source(str(tmp_path / "1.tar" / "a.mp4"), [ClipSpan("a", 0.0, None)], tmp_path / "out"))
    assert broken.outcome.reason is Reason.UNSUPPORTED
    assert not any((tmp_path / "out").iterdir())
