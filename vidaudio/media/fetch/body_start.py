"""The bodies of answers as yt-dlp reads them: hashed, and web pages in place of a stream's segments refused."""

from __future__ import annotations

import hashlib
from typing import Any

from yt_dlp.networking.exceptions import TransportError

from vidaudio.media.fetch.check import page_kind
from vidaudio.media.fetch.reasons import NO_MEDIA, Refused
from vidaudio.media.outcomes import Reason


class PageInsteadOfMedia(Refused, TransportError):
    """A web page came where a segment was asked for; to yt-dlp a broken connection, so that it asks again."""

    def __init__(self, kind: str) -> None:
        TransportError.__init__(self, f"the server sent {kind} {NO_MEDIA}")
        self.reason = Reason.CORRUPT_FETCHED


class BodyWatch:
    """Watches the bodies of one source's answers."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """Of what was read of the newest body, hexadecimal."""
        return self._hash.hexdigest()

    def watch(self, response: Any, *, refuse_pages: bool) -> None:
        """Hash the body of a response while it is read.

        Args:
            response: From `YoutubeDL.urlopen`.
            refuse_pages: Raise `PageInsteadOfMedia` where the body begins like a web page or like JSON.
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
