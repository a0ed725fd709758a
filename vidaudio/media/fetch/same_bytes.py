"""Distinction between files corrupted in transfer and files that are corrupt at the site: the latter come twice.

A body that is not media, or not complete, may be a passing fault of the server: the clip is `corrupt_fetched`, which is
transient. If the next try brings exactly the same bytes, they are what the site has. Then the clips that the bytes
contain are used, and the clips that they do not contain are `corrupt`, which is final.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vidaudio.hashing import sha256_of
from vidaudio.media.fetch.check import find_fault
from vidaudio.media.fetch.types import ClipSpan, Fetched
from vidaudio.media.fetch.ytdlp import DownloadFailed
from vidaudio.media.outcomes import Outcome, Reason


def failed_clips(error: DownloadFailed, spans: Sequence[ClipSpan]) -> list[Fetched]:
    """Return the results of a source's clips when its download has failed."""
    outcome = error.outcome
    if outcome.reason is Reason.CORRUPT_FETCHED and came_before(error.sha256, spans):
        outcome = Outcome.failed(error.settled, f"{outcome.message}; the same bytes came twice")
    return [Fetched(span.id, outcome, sha256=error.sha256) for span in spans]


def lost_clips(
    files: Sequence[Path], spans: Sequence[ClipSpan], info: dict[str, Any]
) -> tuple[dict[str, Fetched], str]:
    """Return the clips that a source's files do not contain, by id, and a note on the faults of the files.

    Raises:
        DownloadFailed: When a file is not media or not complete, and these bytes did not come before.
    """
    notes, lost = [], {}
    for path in files:
        fault = find_fault(path)
        if fault is None:
            continue
        sha256 = sha256_of(path)
        if not came_before(sha256, spans):
            raise DownloadFailed(Outcome.failed(Reason.CORRUPT_FETCHED, fault.message), sha256)
        said = f"{fault.message}; the same bytes came twice"
        notes.append(said)
        for span in spans:
            end = None if span.end_seconds is None else span.end_seconds - (span.media_start_seconds or 0.0)
            if not fault.holds(end):
                lost[span.id] = Fetched(span.id, Outcome.failed(Reason.CORRUPT, said), sha256=sha256, info=info)
    return lost, "; ".join(notes)


def decodable(span: ClipSpan, clip: Fetched) -> Fetched:
    """Return the clip; if the same bytes could not be decoded before, return it as `corrupt`, without its file."""
    if clip.path is None or clip.is_reference or clip.sha256 not in span.undecodable_sha256:
        return clip
    clip.path.unlink()
    message = "it could not be decoded before, and the same bytes came again"
    return Fetched(span.id, Outcome.failed(Reason.CORRUPT, message), sha256=clip.sha256, info=clip.info)


def came_before(sha256: str, spans: Sequence[ClipSpan]) -> bool:
    """Return whether an earlier try found these bytes `corrupt_fetched`."""
    return bool(sha256) and any(sha256 in span.corrupt_sha256 for span in spans)
