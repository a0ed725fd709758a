"""An HTTP server on loopback: files with byte ranges, pages, mishaps on request, and a count of every request."""

from __future__ import annotations

import contextlib
import json
import re
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
    redirects there, `/loop` to itself. `/refused/<file>` answers 403 from the second request on.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pages: dict[str, dict[str, Any]] = {}
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
        return f"http://127.0.0.1:{self._server.server_port}/{path.lstrip('/')}"

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
        self._answer(path)

    def _answer(self, path: str) -> None:
        if path in self.site.pages:
            self._send(200, json.dumps(self.site.pages[path]).encode(), "application/json")
        elif path == "/loop" or path.startswith("/moved/"):
            self.send_response(302)
            self.send_header("Location", "/loop" if path == "/loop" else path.removeprefix("/moved"))
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif status := re.match(r"/status/(\d{3})/", path):
            self._send(int(status[1]), b"no", "text/plain")
        elif path.startswith("/refused/") and self.site.requests[path] > 1:
            self._send(403, b"no", "text/plain")
        elif match := re.match(r"/(truncated|stalled|refused)/", path):
            self._file(path.removeprefix(f"/{match[1]}"), mishap=match[1])
        elif match := re.match(r"/typed/(\w+/[\w.-]+)/", path):
            self._file(path[match.end() - 1 :], content_type=match[1])
        else:
            self._file(path)

    def _send(self, status: int, body: bytes, content_type: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
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
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if mishap in ("truncated", "stalled"):
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            if mishap == "stalled":
                time.sleep(2.5)
            self.close_connection = True
            return
        self.wfile.write(body)
