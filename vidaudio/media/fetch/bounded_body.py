"""Response bodies that are measured as they are read: a page that never ends, and one that unpacks to far more.

yt-dlp reads pages and manifests whole, and media piece by piece. The first are limited by `PAGE_BYTES`, so as to fit
in memory; both count towards what a source may be (`FetchSession.received`). What counts is what comes out of the
decompression: a gzip of 1 MB may hold 1 GB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import urllib3
from yt_dlp.networking.common import Response

# Of a page or manifest. Those of real sites have 1 to 10 MB.
PAGE_BYTES = 64 << 20
# Read at a time. What a decompressor makes of it is in memory before it is counted.
PIECE_BYTES = 1 << 16


class MeasuredBody:
    """A response of urllib3's whose reads are counted; in all else it is that response.

    Args:
        body: The response.
        received: Called with the number of bytes of each piece; raises where they are too many.
        page_too_large: Returns what is raised over a body that is read whole and is larger than `PAGE_BYTES`.
    """

    def __init__(
        self,
        body: urllib3.BaseHTTPResponse,
        received: Callable[[int], None],
        page_too_large: Callable[[], Exception],
    ) -> None:
        self._body, self._received, self._page_too_large = body, received, page_too_large
        self._compressed = bool(body.headers.get("Content-Encoding"))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._body, name)

    def read(self, amt: int | None = None, decode_content: bool | None = None, **options: Any) -> bytes:
        """Read as urllib3 does; without `amt` the whole body, if it is no larger than a page may be."""
        if amt is None:
            return b"".join(self.stream(PIECE_BYTES, decode_content))
        amt = min(amt, PIECE_BYTES) if self._compressed else amt
        data = self._body.read(amt, decode_content, **options)
        self._count(len(data))
        return data

    def stream(self, amt: int | None = PIECE_BYTES, decode_content: bool | None = None) -> Iterator[bytes]:
        """Read the whole body in pieces, if it is no larger than a page may be: `requests` does over redirects."""
        total = 0
        for piece in self._body.stream(min(amt or PIECE_BYTES, PIECE_BYTES), decode_content):
            self._count(len(piece))
            total += len(piece)
            if total > PAGE_BYTES:
                self._body.close()
                raise self._page_too_large()
            yield piece

    def _count(self, length: int) -> None:
        try:
            self._received(length)
        except Exception:
            self._body.close()
            raise


class MeasuredResponse(Response):
    """A response of yt-dlp's whose body may be read whole only up to `PAGE_BYTES`."""

    def __init__(self, response: Response, page_too_large: Callable[[], Exception]) -> None:
        super().__init__(
            fp=response, url=response.url, headers=response.headers, status=response.status, reason=response.reason
        )
        self._page_too_large = page_too_large

    def read(self, amt: int | None = None) -> bytes:
        data = self.fp.read(amt) if amt is not None else b"".join(self._pieces())
        if self.fp.closed:
            self.close()
        return data

    def _pieces(self) -> Iterator[bytes]:
        total = 0
        while piece := self.fp.read(PIECE_BYTES):
            total += len(piece)
            if total > PAGE_BYTES:
                self.close()
                raise self._page_too_large()
            yield piece
