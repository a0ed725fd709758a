"""yt-dlp as a library: one extraction and one download per source, silent, into a given folder, under fixed file names.

A `YoutubeDL` costs 50 ms to make and its first URL another 200 ms (1,700 patterns are compiled), so every thread keeps
one. Every request must pass the request guard (`vidaudio.media.fetch.request_guard`), so only downloaders that use it
are allowed: FFmpeg, to which yt-dlp would pass some streams, is hidden from yt-dlp.
"""

from __future__ import annotations

import hashlib
import importlib
import itertools
import logging
import os
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from yt_dlp.downloader import get_suitable_downloader
from yt_dlp.downloader.bunnycdn import BunnyCdnFD
from yt_dlp.downloader.dash import DashSegmentsFD
from yt_dlp.downloader.f4m import F4mFD
from yt_dlp.downloader.hls import HlsFD
from yt_dlp.downloader.http import HttpFD
from yt_dlp.downloader.ism import IsmFD
from yt_dlp.extractor import gen_extractor_classes
from yt_dlp.utils import MEDIA_EXTENSIONS, DownloadCancelled, PagedList, UnsupportedError

from vidaudio.media.fetch.body_start import BodyWatch
from vidaudio.media.fetch.formats import FormatChooser
from vidaudio.media.fetch.reasons import NO_MEDIA, WRONG_PART, Refused, bare_id, error_chain, failure
from vidaudio.media.fetch.request_guard import GuardedDownloader
from vidaudio.media.fetch.session import FetchSession
from vidaudio.media.fetch.types import PAGE_FOR_A_FILE, FetchOptions, storable_facts
from vidaudio.media.fetch.ytdlp_allowed import check_allowed
from vidaudio.media.fetch.ytdlp_warnings import HeardWarnings
from vidaudio.media.outcomes import Outcome, Reason

# yt-dlp's downloaders that send every request through `urlopen`; the others start programs or open sockets.
_GUARDED = frozenset({HttpFD, HlsFD, DashSegmentsFD, IsmFD, F4mFD, BunnyCdnFD})
# A path that never exists.
_NO_FFMPEG = f"{os.devnull}/ffmpeg"

# Endings of links to media, and to play lists of media segments.
_MEDIA_NAMES = frozenset((*MEDIA_EXTENSIONS.video, *MEDIA_EXTENSIONS.audio, "m3u8", "mpd"))
_PLAYLISTS = frozenset({"playlist", "multi_video", "compat_list"})
_LIVE = {
    "is_live": "a live stream",
    "is_upcoming": "a live stream yet to come",
    "post_live": "a live stream just ended",
}
_local = threading.local()
# Silent unless the application listens: errors are raised as exceptions, and progress is not reported per source.
_log = logging.getLogger(__name__)
_log.addHandler(logging.NullHandler())


class _Commentary:
    """Logger for yt-dlp's messages, all at debug level; the important ones are in the outcome.

    Other libraries give the root logger a handler, which would print yt-dlp's errors into the progress bar.
    """

    debug = info = warning = error = staticmethod(_log.debug)


@dataclass(frozen=True, slots=True)
class Download:
    """Downloaded source: one file, or one for the picture and one for the sound, and the whitelisted facts about it."""

    files: tuple[Path, ...]
    info: dict[str, Any]


class DownloadFailed(Exception):
    """A source that could not be downloaded.

    Attributes:
        outcome: Outcome of the source, with the reason.
        sha256: Hash of the bytes that came instead, if the outcome is `corrupt_fetched` and they are known; else empty.
        settled: Reason to use if the same bytes come once more.
    """

    def __init__(self, outcome: Outcome, sha256: str = "", settled: Reason = Reason.CORRUPT) -> None:
        super().__init__(outcome.message)
        self.outcome, self.sha256, self.settled = outcome, sha256, settled


def download_source(url: str, folder: Path, options: FetchOptions, session: FetchSession) -> Download:
    """Extract and download one URL into `folder`.

    Raises:
        DownloadFailed: When the source cannot be downloaded.
        RateLimiterUnreachable: When the rate limiter is unreachable; nothing is known about the source.
        ImportError, ValueError: When the options name a missing extractor, or values that yt-dlp does not accept.
    """
    downloader = _this_threads_downloader(options)
    downloader.params["paths"] = {"home": str(folder)}
    downloader.begin_source()
    with downloader.guard.opened(session):
        try:
            download = _download(downloader, url, folder)
        except Exception as error:  # on unexpected pages, extractors raise any exception: a failure of one source
            if session.lost is not None:
                raise session.lost from error
            if session.expired:
                raise DownloadFailed(_too_slow(session)) from error
            raise _failed(url, downloader, error) from error
    if session.expired:  # a body without a stated length looks complete when it is cut off at the deadline
        raise DownloadFailed(_too_slow(session))
    return download


def site_of(name: str, url: str) -> str:
    """Return the site whose rate limit applies to a source: yt-dlp's name of the site, else the host.

    Args:
        name: Name of the extractor (`youtube:tab`, `generic`): all parts and all hosts of a site are one site.
        url: URL of the source.
    """
    site = name.partition(":")[0].lower()
    if site not in ("generic", ""):
        return site
    return urlsplit(url).netloc.rpartition("@")[2].lower().removeprefix("www.") or "generic"


def site_of_link(url: str, extractors: Iterable[str] = ()) -> str:
    """Return `site_of` for the extractor that would take a link, without any request.

    Args:
        url: URL of the source.
        extractors: Further extractors as `module:Class`; they come before yt-dlp's own.
    """
    further = (name.partition(":") for name in extractors)
    own = (getattr(importlib.import_module(module), cls) for module, _, cls in further)
    suitable = (kind for kind in itertools.chain(own, gen_extractor_classes()) if kind.suitable(url))
    return site_of(next(suitable).IE_NAME, url)


def _failed(url: str, downloader: _SourceDownloader, error: BaseException) -> DownloadFailed:
    """Return the failure of a URL, with the hash of the received bytes if they are not media."""
    outcome = failure(error, downloader.site_warnings.causes())
    if outcome.reason is Reason.UNSUPPORTED and _names_media(url) and _is_unsupported_page(error):
        # yt-dlp looks for a video in the page that came. The link names a file, so the page may be an error page.
        outcome = Outcome.failed(Reason.CORRUPT_FETCHED, PAGE_FOR_A_FILE)
        return DownloadFailed(outcome, downloader.bodies.sha256, settled=Reason.UNSUPPORTED)
    if outcome.reason is not Reason.CORRUPT_FETCHED or WRONG_PART in outcome.message:
        return DownloadFailed(outcome)  # the body of a wrong part was never read
    if NO_MEDIA in outcome.message:
        return DownloadFailed(outcome, downloader.bodies.sha256)
    return DownloadFailed(outcome, hashlib.sha256(b"").hexdigest())


def _names_media(url: str) -> bool:
    try:
        path = urlsplit(url).path
    except ValueError:
        return False
    return PurePosixPath(path).suffix[1:].lower() in _MEDIA_NAMES


def _is_unsupported_page(error: BaseException) -> bool:
    return any(isinstance(link, UnsupportedError) for link in error_chain(error))


def _too_slow(session: FetchSession) -> Outcome:
    return Outcome.failed(Reason.TIMEOUT, f"not fetched within {session.deadline_seconds:g} s")


def _download(downloader: GuardedDownloader, url: str, folder: Path) -> Download:
    info = downloader.extract_info(url, download=True)
    entries = info.get("entries") if info else None
    if entries is not None:
        info = next((entry for entry in entries if entry), None)
    downloads = info.get("requested_downloads", []) if info else []
    files = tuple(Path(download["filepath"]) for download in downloads if download.get("filepath"))
    if not files:
        raise Refused(Reason.UNSUPPORTED, "the page offers no video")
    for path in files:
        if path.parent.resolve() != folder.resolve():
            raise Refused(Reason.UNSUPPORTED, "the site's file name leads out of the download folder")
    return Download(files, public_info(info, downloads))


def public_info(info: Mapping[str, Any], downloads: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the facts about a source to keep. They are whitelisted, so URLs, headers and cookies are never kept."""
    chosen = " + ".join(str(download.get("format") or info.get("format") or "") for download in downloads)
    texts = {
        # For plain links, yt-dlp's id is from the URL, with its query, which may contain keys.
        "id": bare_id(str(info.get("id") or "")),
        "title": info.get("title"),
        "uploader": info.get("uploader"),
        "channel": info.get("channel"),
        "licence": info.get("license"),
        "format": chosen,
    }
    facts: dict[str, Any] = {key: str(value) for key, value in texts.items() if value}
    seconds = info.get("duration")
    return storable_facts(facts | ({"duration": seconds} if isinstance(seconds, int | float) else {}))


class _RefusedByKind(Refused, DownloadCancelled):
    """A `Refused` that yt-dlp passes on unchanged."""


class _SourceDownloader(GuardedDownloader):
    """A `YoutubeDL` that takes one finished video per URL, and only by its own requests.

    Attributes:
        site_warnings: Warnings about the current source.
        bodies: Observer of the current source's responses, except those that become a file of their own.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.site_warnings, self.bodies = HeardWarnings(), BodyWatch()
        self._downloading: type | None = None
        super().__init__(*args, **kwargs)

    def begin_source(self) -> None:
        """Forget the previous source's warnings, so that yt-dlp repeats warnings that it gives once per process."""
        self.site_warnings.clear()
        self.bodies = BodyWatch()
        for extractor in self._ies_instances.values():
            extractor._printed_messages.clear()

    def report_warning(self, message: str, only_once: bool = False) -> None:
        self.site_warnings.add(message)
        super().report_warning(message, only_once)

    def write_debug(self, message: str, only_once: bool = False) -> None:
        # For its default clients, yt-dlp writes as debug messages what it would warn of for others.
        self.site_warnings.add(message)
        super().write_debug(message, only_once)

    def extract_info(
        self, url: str, download: bool = True, ie_key: str | None = None, *args: Any, **kwargs: Any
    ) -> Any:
        # Also called for what a page embeds; the requests then count for the embedded site.
        suitable = self._ies if ie_key not in self._ies else {ie_key: self._ies[ie_key]}
        for key, extractor in suitable.items():
            if extractor.suitable(url):
                self.guard.session.site, ie_key = site_of(extractor.IE_NAME, url), key
                break
        return super().extract_info(url, download, ie_key, *args, **kwargs)

    def dl(self, name: str, info: dict, subtitle: bool = False, test: bool = False) -> Any:
        kind = get_suitable_downloader(info, self.params, to_stdout=False)
        if kind not in _GUARDED:
            raise _RefusedByKind(Reason.UNSUPPORTED, f"{info['protocol']} streams are not downloaded")
        self._downloading, self.guard.parts.in_fragments = kind, kind is not HttpFD
        try:
            return super().dl(name, info, subtitle, test)
        finally:
            self._downloading, self.guard.parts.in_fragments = None, False

    def urlopen(self, req: Any) -> Any:
        response = super().urlopen(req)
        # A single file is checked once it has arrived: then all its bytes are known.
        if self._downloading is not HttpFD:
            self.bodies.watch(response, refuse_pages=self._downloading is not None)
        return response

    def process_ie_result(self, ie_result: dict, download: bool = True, extra_info: dict | None = None) -> dict:
        if ie_result.get("_type", "video") in _PLAYLISTS:
            entries = ie_result.get("entries") or []
            two = entries.getslice(0, 2) if isinstance(entries, PagedList) else itertools.islice(entries, 2)
            ie_result["entries"] = list(two)
            if len(ie_result["entries"]) != 1:
                what = "several videos" if ie_result["entries"] else "no video"
                raise _RefusedByKind(Reason.UNSUPPORTED, f"the URL leads to {what}; list them one by one")
        return super().process_ie_result(ie_result, download, extra_info)

    def process_video_result(self, info_dict: dict, download: bool = True) -> dict:
        status = "is_live" if info_dict.get("is_live") else info_dict.get("live_status")
        if status in _LIVE:
            raise _RefusedByKind(Reason.LIVE, f"{_LIVE[status]} is not recorded")
        return super().process_video_result(info_dict, download)


def _this_threads_downloader(options: FetchOptions) -> _SourceDownloader:
    key = repr(options)
    if getattr(_local, "key", None) != key:
        close_downloader()
        _local.downloader = make_downloader(options)
        _local.key = key
    return _local.downloader


def close_downloader() -> None:
    """Close this thread's `YoutubeDL`; the next source gets a new one, which reads the environment again."""
    if getattr(_local, "downloader", None) is not None:
        _local.downloader.close()
    _local.key, _local.downloader = None, None


def make_downloader(options: FetchOptions) -> _SourceDownloader:
    """Return a `YoutubeDL` for these options, to be closed by the caller; unsuitable options may raise any exception.

    It handles one source at a time, so every thread keeps its own.
    """
    downloader = _SourceDownloader(ytdlp_params(options), auto_init=False)
    for name in options.extractors:  # before yt-dlp's own, the last of which takes every URL
        module, _, cls = name.partition(":")
        downloader.add_info_extractor(getattr(importlib.import_module(module), cls)())
    downloader.add_default_info_extractors()
    return downloader


def ytdlp_params(options: FetchOptions) -> dict[str, Any]:
    """Return the parameters of `yt_dlp.YoutubeDL` for these options. No configuration file is read.

    Raises:
        RecipeError: When an option is not allowed.
    """
    check_allowed(options.ytdlp)
    return {
        "cachedir": False,
        "geo_bypass": False,  # avoids a second extraction under a made-up address
        "extractor_retries": options.retries,
        **options.ytdlp,
        "format": FormatChooser(options.min_short_side),
        "outtmpl": {"default": "track-%(autonumber)s.%(ext)s"},  # no name comes from the web
        "logger": _Commentary(),
        "quiet": True,
        "no_warnings": True,
        "noprogress": True,
        "color": "never",
        "ignoreerrors": False,
        "noplaylist": True,
        "fixup": "never",  # fixing would shift picture and sound files one by one, before they are merged
        "updatetime": False,
        "overwrites": True,
        "continuedl": False,
        "skip_unavailable_fragments": False,  # a hole would move everything after it
        "hls_prefer_native": True,
        "enable_file_urls": False,
        "ffmpeg_location": _NO_FFMPEG,
        "socket_timeout": options.socket_timeout_seconds,
        "retries": options.retries,
        "fragment_retries": options.retries,
    }
