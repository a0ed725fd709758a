"""Checks of partial downloads: every answer must be the part that was requested, and all parts of one version.

After a broken connection, yt-dlp requests the rest of a file. The rest must be of the same version, so it is requested
with the validator that came with the first part (`If-Range`, RFC 9110, section 13.1.5). If the server sent no
validator, the whole file is requested again. Servers also answer 206 with less than was requested, or without being
asked for a part.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass

from yt_dlp.networking.exceptions import TransportError

from vidaudio.media.fetch.reasons import WRONG_PART, Refused
from vidaudio.media.outcomes import Reason

_PARTIAL_CONTENT = 206
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)", re.IGNORECASE)


class WrongPart(Refused, TransportError):
    """An answer that is not the requested part; yt-dlp sees a broken connection (TransportError), so it asks again."""

    def __init__(self, message: str) -> None:
        TransportError.__init__(self, f"{WRONG_PART}: {message}")
        self.reason = Reason.CORRUPT_FETCHED


@dataclass(frozen=True, slots=True)
class _Version:
    """Identity of one version of a file: its strong entity tag, the date of its last change, its length.

    A weak tag states that two versions mean the same, not that their bytes are the same, so it is ignored.
    """

    tag: str
    changed: str
    total_bytes: int | None

    @classmethod
    def of(cls, headers: Mapping[str, str], total_bytes: int | None) -> _Version:
        """Return the version that the headers of an answer describe."""
        tag = (headers.get("ETag") or "").strip()
        return cls(tag if tag.startswith('"') else "", (headers.get("Last-Modified") or "").strip(), total_bytes)

    @property
    def validator(self) -> str:
        """Return the value for `If-Range`; empty if there is none."""
        return self.tag or self.changed

    def difference(self, now: _Version) -> str:
        """Return a description of how another part's version differs; empty if no difference is visible."""
        if None not in (self.total_bytes, now.total_bytes) and self.total_bytes != now.total_bytes:
            return f"the file had {self.total_bytes:,} bytes before and has {now.total_bytes:,} now"
        # A server that sends a tag with the whole file must also send it with a part (RFC 9110, section 15.3.7).
        if self.tag != now.tag or (self.changed and now.changed and self.changed != now.changed):
            return "the file has changed while it was fetched"
        return ""


class PartialContent:
    """Requests for parts of files and the answers to them, while one source is fetched.

    Attributes:
        in_fragments: True while a stream of many files is fetched. A whole file in place of a part would then be
            mistaken for the part.
    """

    def __init__(self) -> None:
        self.in_fragments = False
        self._versions: dict[str, _Version] = {}

    def prepare(self, url: str, headers: MutableMapping[str, str]) -> None:
        """Make a request for the rest of a file safe: bind it to the first part's version, or request the whole."""
        first, last = _asked(headers)
        if not first:
            return
        version = self._versions.get(url)
        if version is not None and version.validator:
            headers["If-Range"] = version.validator
        elif last is None:
            del headers["Range"]

    def check(self, url: str, status: int, asked: Mapping[str, str], answered: Mapping[str, str]) -> None:
        """Compare an answer with its request.

        Raises:
            WrongPart: When the answer is not the requested part, or is of another version than the previous part.
        """
        first, last = _asked(asked)
        if status == 200:
            if self.in_fragments and first is not None and last is not None:
                raise WrongPart("a whole file came where a part of it was asked for")
            length = None if answered.get("Content-Encoding") else _number(answered.get("Content-Length"))
            self._versions[url] = _Version.of(answered, length)
            return
        if status != _PARTIAL_CONTENT:
            return
        told = _CONTENT_RANGE.fullmatch((answered.get("Content-Range") or "").strip())
        if told is None:
            raise WrongPart("a part came that does not say which")
        start, end, total = int(told[1]), int(told[2]), _number(told[3])
        self._check_range(first, last, start, end, total)
        length = _number(answered.get("Content-Length"))
        if length is not None and not answered.get("Content-Encoding") and length != end - start + 1:
            raise WrongPart(f"{length:,} bytes came as bytes {start:,} to {end:,}")
        version = _Version.of(answered, total)
        if difference := self._versions.setdefault(url, version).difference(version):
            raise WrongPart(difference)

    @staticmethod
    def _check_range(first: int | None, last: int | None, start: int, end: int, total: int | None) -> None:
        fits = start == (first or 0) and end >= start
        if total is None:
            fits = fits and (last is None or end <= last)
        else:
            fits = fits and end == (total - 1 if last is None else min(last, total - 1))
        if not fits:
            of = f" of {total:,}" if total is not None else ""
            asked = "the whole file" if first is None else f"bytes {first:,} to {'the end' if last is None else last}"
            raise WrongPart(f"bytes {start:,} to {end:,}{of} came where {asked} was asked for")


def _asked(headers: Mapping[str, str]) -> tuple[int | None, int | None]:
    """Return the first and last byte of a request's range; None for a bound that it does not name."""
    match = _RANGE.fullmatch(headers.get("Range") or "")
    return (int(match[1]), int(match[2]) if match[2] else None) if match else (None, None)


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() else None
