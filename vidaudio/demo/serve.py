"""Web server for one folder, on this machine only; the demo downloads its videos from it.

It supports what a downloader needs of a real server: lengths, types, and single byte ranges (so that a download can
resume).
"""

from __future__ import annotations

import os
import re
import socket
import sys
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from urllib.parse import quote, unquote, urlsplit

_TYPES = {
    ".mp4": "video/mp4",
    ".webm": "video/webm",
    ".mkv": "video/x-matroska",
    ".m4a": "audio/mp4",
    ".wav": "audio/wav",
    ".flac": "audio/flac",
    ".jpg": "image/jpeg",
    ".png": "image/png",
    ".csv": "text/csv; charset=utf-8",
    ".json": "application/json",
    ".txt": "text/plain; charset=utf-8",
    ".html": "text/html; charset=utf-8",
}

_BLOCK = 1 << 18  # bytes read and sent at a time


class FolderServer:
    """Server of a folder's files over HTTP on 127.0.0.1; it answers requests while its `with` block lasts.

        with FolderServer("world") as server:
            fetch(server.url_of("media/a.mp4"))

    Nothing outside the folder can be read: not by `..`, not by an absolute path, not through a symbolic link. The port
    is bound on construction.

    Args:
        folder: Folder to serve; must exist.
        port: TCP port on 127.0.0.1; 0 for any free one.
    """

    def __init__(self, folder: str | os.PathLike[str], *, port: int = 0):
        root = Path(folder).resolve(strict=True)
        handler = type("_Handler", (_Handler,), {"root": root})
        self._server = _Server(("127.0.0.1", port), handler)
        self._server.daemon_threads = True  # a client that never hangs up must not keep the program alive
        self._thread = threading.Thread(target=self._server.serve_forever, name="folder-server", daemon=True)

    @property
    def url(self) -> str:
        """Return the address of the folder without a slash at the end: `http://127.0.0.1:PORT`."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def url_of(self, path: str) -> str:
        """Return the URL of a file, given its path relative to the folder."""
        return f"{self.url}/{quote(path)}"

    def __enter__(self) -> FolderServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: socket.socket | tuple[bytes, socket.socket], client_address: object) -> None:
        # Clients close connections that they kept open; that is not an error.
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    root: Path
    protocol_version = "HTTP/1.1"
    server_version = "vidaudio-demo"
    timeout = 60  # seconds an idle connection is kept

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing, because the demo's own output is what people read."""

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        path = self._file()
        if path is None:
            self._refuse(HTTPStatus.NOT_FOUND)
            return
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            wanted = _parse_range(self.headers.get("Range"), size)
            if wanted is None:
                self._refuse(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, {"Content-Range": f"bytes */{size}"})
                return
            first, last, partial = wanted
            self.send_response(HTTPStatus.PARTIAL_CONTENT if partial else HTTPStatus.OK)
            self.send_header("Content-Type", _TYPES.get(path.suffix.lower(), "application/octet-stream"))
            self.send_header("Content-Length", str(last - first + 1))
            self.send_header("Accept-Ranges", "bytes")
            if partial:
                self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
            self.end_headers()
            if not with_body:
                return
            file.seek(first)
            left = last - first + 1
            try:
                while left > 0 and (block := file.read(min(_BLOCK, left))):
                    self.wfile.write(block)
                    left -= len(block)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True  # the client has read all it needs

    def _file(self) -> Path | None:
        """Return the regular file that the request names; None if the folder contains no such file."""
        name = unquote(urlsplit(self.path).path)
        if "\0" in name:
            return None
        path = (self.root / name.lstrip("/")).resolve()
        return path if path.is_relative_to(self.root) and path.is_file() else None

    def _refuse(self, status: HTTPStatus, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()


def _parse_range(header: str | None, size: int) -> tuple[int, int, bool] | None:
    """Return the first and last byte to send, and whether that is a part; None if the range is outside the file.

    A header of another form (several ranges, another unit) is ignored, as RFC 9110 allows: the whole file is sent.
    """
    whole = (0, size - 1, False)
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", header.strip()) if header else None
    if match is None or match.group(0) == "bytes=-":
        return whole
    start, end = match.groups()
    if not start:
        count = min(int(end), size)
        return (size - count, size - 1, True) if count else None
    first = int(start)
    last = min(int(end), size - 1) if end else size - 1
    if end and int(end) < first:
        return whole
    return (first, last, True) if first < size else None
