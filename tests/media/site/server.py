"""An HTTP server on loopback: files with byte ranges, pages, mishaps on request, and a count of every request."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import struct
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

_TYPES = {
    ".mp4": "video/mp4",
    ".webm": "video/webm",
    ".mkv": "video/x-matroska",
    ".ts": "video/mp2t",
    ".m3u8": "application/vnd.apple.mpegurl",
    ".mpd": "application/dash+xml",
    ".m4s": "video/iso.segment",
    ".html": "text/html",
}


class LoopbackSite:
    """Serves a folder, and `pages` by path; `with LoopbackSite(folder) as site`.

    `/status/<code>/...` answers with that code, `/truncated/<file>` announces the whole file and sends half of it,
    `/stalled/<file>` goes silent halfway, `/typed/<type>/<subtype>/<file>` lies about the type, `/moved/<file>`
    redirects there, `/loop` to itself. `/refused/<file>` answers 403 from the second request on. `/busy/<code>/<file>`
    answers with that code once and then as it should, both with the site's `retry_after`. `/reset/<file>` breaks off
    halfway, `/hangup/...` says nothing at all, `/drip/<file>` sends 20 bytes a second, `/longer/<file>` sends more than
    it announced. As a proxy it answers for everybody.

    Attributes:
        pages: JSON by path.
        moved: Further redirects by path.
        requests: How many, by path.
        heard: Headers of every request, and where it came from as `peer`.
        times: When each was heard, `time.time()`.
        faults: By path, answers to give before the right one: a dictionary of `body`, and of `status`, `type`,
            `headers`, `length` (announced; 0 for none, ended by closing) where they differ from a plain 200.
        retry_after: Header of answers 429 and 503.
    """

    def __init__(self, folder: Path, host: str = "127.0.0.1") -> None:
        self.folder = folder
        self.host = host
        self.moved: dict[str, str] = {}
        self.heard: list[dict[str, str]] = []
        self.times: list[float] = []
        self.faults: dict[str, list[dict[str, Any]]] = {}
        self.retry_after: str | None = None
        self.pages: dict[str, dict[str, Any]] = {}
        self.requests: Counter[str] = Counter()
        site = self

        class Handler(_Handler):
            pass

        Handler.site = site
        self._server = ThreadingHTTPServer((host, 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def url(self, path: str) -> str:
        return f"http://{self.host}:{self._server.server_port}/{path.lstrip('/')}"

    def add_video(self, video_id: str, **page: Any) -> str:
        """Publish a page for the loopback extractor; the URL to it. Paths under `url` keys become URLs of this site."""
        self.pages[f"/watch/{video_id}"] = {"id": video_id, "title": f"Video {video_id}", **page}
        return self.url(f"/watch/{video_id}")


class _Handler(BaseHTTPRequestHandler):
    site: LoopbackSite
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Requests are counted, not printed."""

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # a client may leave whenever it has heard enough
            super().handle()

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        self.site.requests[path] += 1
        self.site.times.append(time.time())
        self.site.heard.append({**self.headers, "peer": self.client_address[0]})
        self._answer(path)

    def do_HEAD(self) -> None:
        self.site.requests[urlsplit(self.path).path] += 1
        self.send_error(405)

    def _answer(self, path: str) -> None:
        if self.site.faults.get(path):
            self._fault(**self.site.faults[path].pop(0))
        elif path in self.site.pages:
            self._send(200, json.dumps(self.site.pages[path]).encode(), "application/json")
        elif path in self.site.moved:
            self._redirect(self.site.moved[path])
        elif path.startswith("/hangup/"):
            self.close_connection = True
        elif (busy := re.match(r"/busy/(\d{3})(?=/)", path)) and self.site.requests[path] == 1:
            self._send(int(busy[1]), b"no", "text/plain")
        elif busy:
            self._file(path[busy.end() :])
        elif path == "/loop" or path.startswith("/moved/"):
            self._redirect("/loop" if path == "/loop" else path.removeprefix("/moved"))
        elif status := re.match(r"/status/(\d{3})/", path):
            self._send(int(status[1]), b"no", "text/plain")
        elif path.startswith("/refused/") and self.site.requests[path] > 1:
            self._send(403, b"no", "text/plain")
        elif match := re.match(r"/(truncated|stalled|refused|reset|drip|longer)/", path):
            self._file(path.removeprefix(f"/{match[1]}"), mishap=match[1])
        elif match := re.match(r"/typed/(\w+/[\w.-]+)/", path):
            self._file(path[match.end() - 1 :], content_type=match[1])
        else:
            self._file(path)

    def _redirect(self, target: str) -> None:
        self.send_response(302)
        self.send_header("Location", target)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _fault(
        self,
        body: bytes,
        status: int = 200,
        type: str = "video/mp4",
        headers: dict[str, str] | None = None,
        length: int | None = None,
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", type)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        announced = len(body) if length is None else length
        if length != 0:
            self.send_header("Content-Length", str(announced))
        if announced != len(body):
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        self.wfile.write(body)

    def _send(self, status: int, body: bytes, content_type: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        if status in (429, 503) and self.site.retry_after is not None:
            self.send_header("Retry-After", self.site.retry_after)
        self.end_headers()
        self.wfile.write(body)

    def _file(self, path: str, *, content_type: str | None = None, mishap: str = "") -> None:
        file = (self.site.folder / path.lstrip("/")).resolve()
        if not file.is_relative_to(self.site.folder.resolve()) or not file.is_file():
            self._send(404, b"no", "text/plain")
            return
        body = file.read_bytes()
        first = 0
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if wanted and not mishap:
            first, last = int(wanted[1]), int(wanted[2] or len(body) - 1)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{min(last, len(body) - 1)}/{len(body)}")
            body = body[first : last + 1]
        else:
            self.send_response(200)
        self.send_header("Content-Type", content_type or _TYPES.get(file.suffix, "application/octet-stream"))
        self.send_header("Content-Length", str(len(body) // (2 if mishap == "longer" else 1)))
        self.end_headers()
        if mishap == "drip":
            for byte in body:
                self.wfile.write(bytes([byte]))
                time.sleep(0.05)
        if mishap in ("truncated", "stalled", "reset"):
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            if mishap == "stalled":
                time.sleep(2.5)
            if mishap == "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
            self.close_connection = True
            return
        self.wfile.write(body)
