"""Fetching of one source: from a URL or a path to one media file per clip, with its place on the source's timeline.

A source is fetched once, however many of its clips are wanted: one extraction, one download, then cuts on this machine.
A clip that cannot be fetched is an outcome, never an exception.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidaudio.hashing import sha256_of
from vidaudio.media.container import extension_of
from vidaudio.media.fetch.cut import CannotCut, Cut, MediaIndex, cut_windows, read_index
from vidaudio.media.fetch.merge import CannotMerge, merge_tracks
from vidaudio.media.fetch.rate_limit import MemoryRateLimiter, RateLimiter
from vidaudio.media.fetch.reasons import failure
from vidaudio.media.fetch.same_bytes import decodable, failed_clips, lost_clips
from vidaudio.media.fetch.session import FetchSession
from vidaudio.media.fetch.types import (
    LARGEST_FILE_BYTES,
    TIME_JUMPS,
    ClipSpan,
    Fetched,
    FetchOptions,
    Traffic,
    is_file_url,
    local_path,
    path_of_file_url,
)
from vidaudio.media.fetch.ytdlp import DownloadFailed, download_source
from vidaudio.media.outcomes import Outcome, Reason, State
from vidaudio.media.tar_files import NotATar, copy_from_tar, files_in_tar, place_in_tar
from vidaudio.text import number_of

__all__ = ["ClipSpan", "FetchOptions", "Fetched", "Traffic", "fetch_source"]

# Errors of file systems without hard links.
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS})
# A cut is made only if it is shorter than this share of the file.
WORTH_CUTTING = 0.5


def fetch_source(
    url: str,
    spans: Sequence[ClipSpan],
    folder: Path,
    options: FetchOptions | None = None,
    *,
    rate_limiter: RateLimiter | None = None,
    traffic: Traffic | None = None,
    stop: threading.Event | None = None,
    downloaded: Callable[[], None] = lambda: None,
) -> list[Fetched]:
    """Fetch one source and write one file per clip, named `<clip id>.<extension>`.

    It works in the calling process; builds use a separate process, see `vidaudio.media.fetch.fetcher`.

    Args:
        url: Any URL that yt-dlp supports, a plain file over HTTP, the path of a local file or of one in a local tar,
            or (if the options allow it) a `file:` URL.
        spans: Clips wanted of the source.
        folder: Folder of the files; created if it is missing. No other files are left in it.
        options: Options of the fetching; None means the defaults.
        rate_limiter: Rate limiter that grants every request; None means no limit on the rate.
        traffic: Counts to which the cost of the fetching is added, whatever the outcome.
        stop: Event after which no further request is sent, and the source fails as `unknown`.
        downloaded: Called once everything has arrived; the remaining work is on this machine only.

    Returns:
        The result of each clip, in the order of `spans`. Bad media, dead URLs and broken networks are outcomes.

    Raises:
        ValueError: When two spans have the same id, or yt-dlp does not accept the options.
        ImportError: When one of `options.extractors` cannot be imported.
        RateLimiterUnreachable: When the rate limiter is unreachable; nothing is known about the source.
    """
    options = options or FetchOptions()
    if len({span.id for span in spans}) != len(spans):
        raise ValueError("two clips of one source have the same id")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if (path := local_path(url)) is not None:
            return _fetch_local(path, spans, folder, options)
        if is_file_url(url):
            return _fetch_file_url(url, spans, folder, options)
        # On the same file system, so that files are moved and linked, not copied.
        with tempfile.TemporaryDirectory(prefix=".fetching-", dir=folder) as scratch:
            session = FetchSession(
                rate_limiter or MemoryRateLimiter(),
                Traffic() if traffic is None else traffic,
                deadline_seconds=options.deadline_seconds,
                allow_private=options.allow_private_addresses,
                max_bytes=options.max_source_bytes,
                stop=stop,
            )
            return _fetch_remote(url, spans, folder, Path(scratch), options, session, downloaded)
    except DownloadFailed as error:
        return failed_clips(error, spans)
    except (OSError, CannotMerge) as error:
        return [Fetched(span.id, failure(error)) for span in spans]


@dataclass(frozen=True, slots=True)
class _Placed:
    path: Path
    size_bytes: int
    sha256: str


def _fetch_local(path: Path, spans: Sequence[ClipSpan], folder: Path, options: FetchOptions) -> list[Fetched]:
    """Return results for the user's own file: a reference to the original, or a whole copy, as of one in a tar."""
    if (place := place_in_tar(path)) is not None:
        return _fetch_from_tar(*place, spans, folder)
    if not path.exists():
        return _all_failed(spans, Reason.NOT_FOUND, f"no such file: {path.name}")
    if not path.is_file():
        return _all_failed(spans, Reason.UNSUPPORTED, f"not a file: {path.name}")
    if not options.copy_local:
        reference = _Placed(path, path.stat().st_size, sha256_of(path))
        return [_done(span, reference, is_reference=True) for span in spans]
    if path.stat().st_size > LARGEST_FILE_BYTES:
        too_large = "a tar holds no file of 8 GiB or more; without download.copy_local the corpus refers to it"
        return _all_failed(spans, Reason.TOO_LARGE, too_large)
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=folder) as scratch:
        copy = Path(shutil.copyfile(path, Path(scratch) / f"copy{path.suffix.lower()}"))
        return _place({span.id: copy for span in spans}, spans, _Shares({}, {}), folder, {})


def _fetch_from_tar(tar: Path, name: str, spans: Sequence[ClipSpan], folder: Path) -> list[Fetched]:
    """Return results for a file in the user's own tar, which is copied whatever the options."""
    try:
        file = files_in_tar(tar).get(name)
    except NotATar as error:
        return _all_failed(spans, Reason.UNSUPPORTED, f"{tar.name}: {error}")
    if file is None:
        return _all_failed(spans, Reason.NOT_FOUND, f"no such file in {tar.name}: {name}")
    if file.length > LARGEST_FILE_BYTES:
        return _all_failed(spans, Reason.TOO_LARGE, "a corpus's tars hold no file of 8 GiB or more")
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=folder) as scratch:
        copy = Path(scratch) / f"copy{Path(name).suffix.lower()}"
        copy_from_tar(tar, file, copy)
        return _place({span.id: copy for span in spans}, spans, _Shares({}, {}), folder, {})


def _fetch_file_url(url: str, spans: Sequence[ClipSpan], folder: Path, options: FetchOptions) -> list[Fetched]:
    if not options.allow_file_urls:
        message = "a file: URL names a file of this machine; download.allow_file_urls lets such through"
        return _all_failed(spans, Reason.UNSUPPORTED, message)
    path = path_of_file_url(url)
    if path is None:
        return _all_failed(spans, Reason.UNSUPPORTED, "a file: URL that names no file of this machine")
    return _fetch_local(path, spans, folder, options)


def _fetch_remote(
    url: str,
    spans: Sequence[ClipSpan],
    folder: Path,
    scratch: Path,
    options: FetchOptions,
    session: FetchSession,
    downloaded: Callable[[], None],
) -> list[Fetched]:
    download = download_source(url, scratch, options, session)
    downloaded()
    lost, fault = lost_clips(download.files, spans, download.info)
    there = [span for span in spans if span.id not in lost]
    if not there:
        return [lost[span.id] for span in spans]
    whole = download.files[0]
    if len(download.files) == 2:
        whole = merge_tracks(*download.files, scratch)
    shares = _share_out(whole, there, scratch, options, download.info.get("duration"))
    files = {span.id: shares.cuts[span.id].path if span.id in shares.cuts else whole for span in there}
    placed = _place(files, there, shares, folder, download.info, fault=fault)
    got = lost | {clip.id: clip for clip in map(decodable, there, placed)}
    return [got[span.id] for span in spans]


@dataclass(frozen=True, slots=True)
class _Shares:
    """Parts of a downloaded file: cuts by clip id, and clips beyond its end. All other clips get the whole file."""

    cuts: dict[str, Cut]
    beyond: dict[str, str]
    note: str = ""


def _share_out(
    whole: Path, spans: Sequence[ClipSpan], scratch: Path, options: FetchOptions, told_seconds: float | None
) -> _Shares:
    wanted = [
        span
        for span in spans
        if not options.keep_whole and span.end_seconds is not None and _worth_cutting(span, told_seconds, options)
    ]
    if not wanted:
        return _Shares({}, {})
    try:
        index = read_index(whole)
        beyond = {span.id: message for span in wanted if (message := _beyond_end(span, index))}
        windows = {
            span.id: _window(span)
            for span in wanted
            if span.id not in beyond and _worth_cutting(span, index.duration_seconds, options)
        }
        folder = scratch / "cuts"
        folder.mkdir()
        cuts = cut_windows(index, windows, folder, margin_seconds=options.cut_margin_seconds) if windows else {}
        return _Shares(cuts, beyond)
    except CannotCut as error:
        return _Shares({}, {}, f"kept whole: {error}")


def _window(span: ClipSpan) -> tuple[float, float]:
    """Return the clip's start and end on the timeline of the file behind the URL, in seconds."""
    assert span.end_seconds is not None, "only bounded clips are cut"
    offset = span.media_start_seconds or 0.0
    return span.start_seconds - offset, span.end_seconds - offset


def _worth_cutting(span: ClipSpan, file_seconds: float | None, options: FetchOptions) -> bool:
    """Return False if the clip and its margins are most of the file; True if the file's length is unknown."""
    start, end = _window(span)
    return not file_seconds or end - start + 2 * options.cut_margin_seconds < WORTH_CUTTING * file_seconds


def _beyond_end(span: ClipSpan, index: MediaIndex) -> str:
    start, _ = _window(span)
    if start < index.duration_seconds:
        return ""
    return f"the clip starts at {start:.1f} s, the source ends at {index.duration_seconds:.1f} s"


def _place(
    files: dict[str, Path],
    spans: Sequence[ClipSpan],
    shares: _Shares,
    folder: Path,
    info: dict[str, Any],
    *,
    fault: str = "",
) -> list[Fetched]:
    """Give every clip its file under its own name; one file for several clips is linked. All clips succeed or none.

    Args:
        files: File of each clip, by clip id.
        spans: Clips wanted of the source.
        shares: Cuts, and clips that get no file.
        folder: Folder of the files.
        info: Facts about the source, which go into every result.
        fault: Fault of the source's files, which goes into the message of every clip; empty if none.
    """
    placed: dict[Path, _Placed] = {}
    fetched: list[Fetched] = []
    created: list[Path] = []
    try:
        for span in spans:
            if span.id in shares.beyond:
                fetched.append(Fetched(span.id, Outcome.dropped(Reason.TOO_SHORT, shares.beyond[span.id]), info=info))
                continue
            source = files[span.id]
            target = folder / f"{span.id}.{extension_of(source)}"
            _link(source, target)
            created.append(target)
            if source not in placed:
                placed[source] = _Placed(target, target.stat().st_size, sha256_of(target))
            mine = _Placed(target, placed[source].size_bytes, placed[source].sha256)
            cut = shares.cuts.get(span.id)
            offset = cut.media_start_seconds if cut else 0.0
            about_cut, about_clip = (shares.note if span.end_seconds is not None else ""), info
            if cut is not None and cut.time_jumps:
                about_cut = f"the source's clock jumps {number_of(cut.time_jumps, 'time')} in it; joined"
                # The cut itself no longer shows the jumps.
                about_clip = info | {TIME_JUMPS: cut.time_jumps}
            note = "; ".join(filter(None, (fault, about_cut)))
            fetched.append(_done(span, mine, offset=offset, note=note, info=about_clip))
    except OSError:
        for target in created:
            target.unlink(missing_ok=True)
        raise
    return fetched


def _done(
    span: ClipSpan,
    file: _Placed,
    *,
    is_reference: bool = False,
    offset: float = 0.0,
    note: str = "",
    info: dict[str, Any] | None = None,
) -> Fetched:
    return Fetched(
        id=span.id,
        outcome=Outcome(State.DONE, None, note),
        path=file.path,
        is_reference=is_reference,
        media_start_seconds=(span.media_start_seconds or 0.0) + offset,
        size_bytes=file.size_bytes,
        sha256=file.sha256,
        info=dict(info or {}),
    )


def _all_failed(spans: Sequence[ClipSpan], reason: Reason, message: str) -> list[Fetched]:
    return [Fetched(span.id, Outcome.failed(reason, message)) for span in spans]


def _link(source: Path, target: Path) -> None:
    """Hard-link a file under a second name, replacing an earlier file; copy it if the file system has no links."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        shutil.copyfile(source, target)
