"""Observer of the response bodies that yt-dlp reads: hashes them, and refuses web pages in place of segments."""

from __future__ import annotations

import hashlib
from typing import Any

from yt_dlp.networking.exceptions import TransportError

from vidaudio.media.fetch.check import page_kind
from vidaudio.media.fetch.reasons import NO_MEDIA, Refused
from vidaudio.media.outcomes import Reason


class PageInsteadOfMedia(Refused, TransportError):
    """A web page or JSON in place of a segment; yt-dlp sees a broken connection (TransportError), so it asks again."""

    def __init__(self, kind: str) -> None:
        TransportError.__init__(self, f"the server sent {kind} {NO_MEDIA}")
        self.reason = Reason.CORRUPT_FETCHED


class BodyWatch:
    """Observer of the response bodies of one source."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """Return the SHA-256 of what has been read of the newest body, in hexadecimal."""
        return self._hash.hexdigest()

    def watch(self, response: Any, *, refuse_pages: bool) -> None:
        """Hash the body of a response while it is read.

        Args:
            response: Response from `YoutubeDL.urlopen`.
            refuse_pages: Whether to raise `PageInsteadOfMedia` if the body begins like a web page or like JSON.
        """
        self._hash = digest = hashlib.sha256()
        read = response.read
        is_first = True

        def watched(amt: int | None = None) -> bytes:
            nonlocal is_first
            data = read(amt)
            digest.update(data)
            if is_first and refuse_pages and (kind := page_kind(data[:1024])) in ("a web page", "JSON"):
                raise PageInsteadOfMedia(kind)
            is_first = False
            return data

        response.read = watched
