"""Sources that never end, and extractors that hang, crash or start programs: what a fetching process must survive."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import re
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import av
from yt_dlp.extractor.common import InfoExtractor


def _small_video() -> bytes:
    """Return an MP4 of ten plain pictures and of silence, which decodes."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        video, audio = container.add_stream("mpeg4", rate=10), container.add_stream("aac", rate=16_000)
        video.width = video.height = 64
        for number in range(10):
            picture = av.VideoFrame(64, 64, "yuv420p")
            picture.pts, picture.time_base = number, Fraction(1, 10)
            container.mux(video.encode(picture))
        sound = av.AudioFrame("fltp", "mono", 16_000)
        sound.sample_rate, sound.pts, sound.time_base = 16_000, 0, Fraction(1, 16_000)
        for plane in sound.planes:
            plane.update(bytes(plane.buffer_size))
        container.mux(audio.encode(sound))
        container.mux(video.encode())
        container.mux(audio.encode())
    return file.getvalue()


_MEDIA = _small_video()
_ENDLESS = {
    "html": ("text/html", b"<html><title>T</title>", b"<p>more and more</p>" * 4000),
    "m3u8": ("application/vnd.apple.mpegurl", b"#EXTM3U\n", b"#EXTINF:2,\na.mp4\n" * 4000),
    "mpd": ("application/dash+xml", b"<MPD>", b"<Period></Period>" * 4000),
    "json": ("application/json", b'{"id": "x", "more": [0', b",1" * 40_000),
    "mp4": ("video/mp4", _MEDIA, bytes(1 << 16)),
}


class HostileSite:
    """Serves on loopback, `with HostileSite() as site`.

    `/a.mp4` is a small file. `/endless.<kind>` never ends and tells no length, `/endless-redirect` is a redirect to
    `/a.mp4` with a body that never ends, `/huge.mp4` announces a tebibyte. `/script.html` opens a hundred thousand
    script tags. `/bomb.html` is 600 kB of gzip that hold 128 MiB. `/wide.mpd` is a manifest of 40 MB that takes far
    more when it is read. Every other path is a small page.

    Attributes:
        requests: How many, by path.
    """

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        site = self

        class Handler(_Handler):
            pass

        Handler.site = site
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/{path}"


class _Handler(BaseHTTPRequestHandler):
    site: HostileSite

    def log_message(self, format: str, *args: object) -> None:
        """Requests are counted, not printed."""

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        self.site.requests[path] += 1
        with contextlib.suppress(ConnectionError):  # a client may leave whenever it has heard enough
            self._answer(path)

    def _answer(self, path: str) -> None:
        if endless := re.fullmatch(r"/endless\.(\w+)", path):
            self._send_without_end(200, *_ENDLESS[endless[1]])
        elif path == "/endless-redirect":
            self._send_without_end(302, *_ENDLESS["html"], location="/a.mp4")
        elif path == "/huge.mp4":
            self._send("video/mp4", _MEDIA, length=1 << 40)
        elif path == "/script.html":
            self._send("text/html", b"<html><title>T</title>" + b"<script" * 100_000)
        elif path == "/bomb.html":
            self._send("text/html", gzip.compress(b"<html><title>T</title>" + bytes(1 << 27), 1), encoding="gzip")
        elif path == "/wide.mpd":
            formats = b'<Representation id="1" bandwidth="1"/>' * 1_000_000
            body = b'<MPD><Period><AdaptationSet mimeType="video/mp4">' + formats + b"</AdaptationSet></Period></MPD>"
            self._send("application/dash+xml", body)
        elif path == "/a.mp4":
            self._send("video/mp4", _MEDIA)
        else:
            self._send("text/html", b"<html><title>T</title></html>")

    def _send_without_end(self, status: int, kind: str, head: bytes, more: bytes, location: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if location:
            self.send_header("Location", location)
        self.end_headers()
        self.wfile.write(head)
        while True:
            self.wfile.write(more)

    def _send(self, kind: str, body: bytes, *, encoding: str = "", length: int | None = None) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        if encoding:
            self.send_header("Content-Encoding", encoding)
        self.end_headers()
        self.wfile.write(body)


def _sleep(told: dict[str, str]) -> None:
    time.sleep(1000)


def _search(told: dict[str, str]) -> None:
    # Holds the interpreter's lock for ages: no other thread of the process runs meanwhile.
    re.match(r"(a+)+$", "a" * 60 + "b")


def _take_memory(told: dict[str, str]) -> None:
    held = [bytearray(64 << 20) for _ in range(1000)]
    raise AssertionError(f"had {len(held)} pieces")


def _start_program(told: dict[str, str]) -> None:
    program = subprocess.Popen(["sleep", "1000"])
    with open(told["pid"], "w") as file:
        file.write(str(program.pid))
    _search(told)


def _die(told: dict[str, str]) -> None:
    """Die by a signal; with `once`, only where no file of that name exists yet."""
    if "once" in told:
        try:
            os.close(os.open(told["once"], os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
    os.kill(os.getpid(), int(told["signal"]))


def _print(told: dict[str, str]) -> None:
    print('{"call": "done", "fetched": []}', flush=True)
    os.write(1, b'{"call": "done", "fetched": []}\n')
    os.write(2, b"x" * 200_000)


_DEEDS: dict[str, Callable[[dict[str, str]], None]] = {
    "sleep": _sleep,
    "search": _search,
    "memory": _take_memory,
    "program": _start_program,
    "die": _die,
    "print": _print,
}


class DeedIE(InfoExtractor):
    """Does what the URL asks for, `/deed/<name>?key=value`, after one request, and offers `/a.mp4`."""

    _VALID_URL = r"http://127\.0\.0\.1:\d+/deed/(?P<id>\w+)"

    def _real_extract(self, url: str) -> dict[str, Any]:
        deed = self._match_id(url)
        self._download_webpage(url, deed)
        told = {key: values[0] for key, values in parse_qs(urlsplit(url).query).items()}
        touched = told.pop("touch", None)
        if touched is not None:
            open(touched, "w").close()
        _DEEDS[deed](told)
        parts = urlsplit(url)
        formats = [{"format_id": "0", "url": f"{parts.scheme}://{parts.netloc}/a.mp4", "ext": "mp4"}]
        return {"id": deed, "title": deed, "formats": formats}


class ManifestIE(InfoExtractor):
    """Reads the manifest of a page `/mpd/<file>`, `/m3u8/<file>` or `/json/<file>`."""

    _VALID_URL = r"http://127\.0\.0\.1:\d+/(?P<kind>mpd|m3u8|json)/(?P<id>[\w.]+)"

    def _real_extract(self, url: str) -> dict[str, Any]:
        kind, video_id = self._match_valid_url(url).group("kind", "id")
        target = url.replace(f"/{kind}/", "/")
        if kind == "json":
            return self._download_json(target, video_id)
        read = self._extract_mpd_formats if kind == "mpd" else self._extract_m3u8_formats
        return {"id": video_id, "title": video_id, "formats": read(target, video_id)}


# What `FetchOptions.extractors` takes.
EXTRACTORS = tuple(f"{kind.__module__}:{kind.__name__}" for kind in (DeedIE, ManifestIE))
DEADLY = (signal.SIGSEGV, signal.SIGABRT)
