"""Response bodies whose size is measured while they are read.

They protect against pages that never end and against bodies that decompress to far more than was sent. yt-dlp reads
pages and manifests whole, and media in pieces. Bodies that are read whole are limited to `PAGE_BYTES`, so that they fit
in memory; all bodies count towards the maximum size of a source (`FetchSession.received`). The size counted is the size
after decompression: a gzip of 1 MB may hold 1 GB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import urllib3
from yt_dlp.networking.common import Response

# Largest page or manifest. Those of real sites have 1 to 10 MB.
PAGE_BYTES = 64 << 20
# Bytes read at a time. The decompressed bytes of one piece are in memory before they are counted.
PIECE_BYTES = 1 << 16


class MeasuredBody:
    """A urllib3 response whose reads are counted; everything else is passed to the wrapped response.

    Args:
        body: The urllib3 response.
        received: Called with the number of bytes of each piece; raises if the total is too large.
        page_too_large: Returns the exception to raise when a body that is read whole is larger than `PAGE_BYTES`.
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
        """Read as urllib3 does; without `amt`, read the whole body, which may have at most `PAGE_BYTES`."""
        if amt is None:
            return b"".join(self.stream(PIECE_BYTES, decode_content))
        amt = min(amt, PIECE_BYTES) if self._compressed else amt
        data = self._body.read(amt, decode_content, **options)
        self._count(len(data))
        return data

    def stream(self, amt: int | None = PIECE_BYTES, decode_content: bool | None = None) -> Iterator[bytes]:
        """Yield the whole body in pieces, at most `PAGE_BYTES` in total; `requests` uses it at redirects."""
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
    """A yt-dlp response whose body may be read whole only if it has at most `PAGE_BYTES`."""

    def __init__(self, response: Response, page_too_large: Callable[[], Exception]) -> None:
        super().__init__(
            fp=response, url=response.url, headers=response.headers, status=response.status, reason=response.reason
        )
        self._page_too_large = page_too_large

    def read(self, amt: int | None = None) -> bytes:
        """Read `amt` bytes; without `amt`, read the whole body, which may have at most `PAGE_BYTES`."""
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
