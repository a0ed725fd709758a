"""Requests to the fetcher and its results: plain values that are passed between processes."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from vidaudio.errors import RecipeError
from vidaudio.media.outcomes import Outcome
from vidaudio.text import storable_text

if TYPE_CHECKING:
    import pyarrow as pa

# Beginning of a URL; anything else is a path.
_SCHEME = "[A-Za-z][A-Za-z0-9+.-]*://"
_URL = re.compile(rf"{_SCHEME}|[Ff][Ii][Ll][Ee]:")
# Largest file: shards are tars of the format whose member sizes have 33 bits.
LARGEST_FILE_BYTES = (1 << 33) - 1
# Name of the fact that counts how often the source's clock jumps within a cut.
TIME_JUMPS = "time_jumps"
# Message about a link that names a media file but leads to a page without a video.
PAGE_FOR_A_FILE = "the server sent a web page where the link names a media file"
# Options that the fetcher sets itself: other values would break its guarantees about files, clips and timelines.
OWNED_YTDLP_OPTIONS = frozenset(
    {
        *("format", "outtmpl", "paths", "logger", "quiet", "noprogress", "no_warnings", "color", "ignoreerrors"),
        *("noplaylist", "fixup", "updatetime", "overwrites", "nooverwrites", "continuedl", "hls_prefer_native"),
        *("skip_unavailable_fragments", "ffmpeg_location", "enable_file_urls", "simulate", "skip_download"),
        *("download_ranges", "postprocessors", "merge_output_format", "external_downloader", "match_filter"),
        *("live_from_start", "wait_for_video", "download_archive", "socket_timeout", "retries", "fragment_retries"),
        # These write additional files under names from the web.
        *("write_pages", "load_pages", "writeinfojson", "writethumbnail", "write_all_thumbnails", "writesubtitles"),
        *("writeautomaticsub", "writedescription", "writelink", "writeurllink", "writewebloclink", "writedesktoplink"),
        "impersonate",  # needs libcurl, whose redirects cannot be counted or checked
    }
)


@dataclass(frozen=True, slots=True)
class ClipSpan:
    """One clip wanted of a source; times are seconds on the source's timeline.

    Attributes:
        id: Name of the clip and of its file: 1 to 128 letters, digits, `_` and `-`.
        start_seconds: Start of the clip.
        end_seconds: End of the clip; None for the end of the source.
        media_start_seconds: Place of the time 0 of the file behind the URL on the source's timeline, for lists that
            point to files which are cuts already; None means 0.
        corrupt_sha256: Hashes of the files that earlier tries found `corrupt_fetched`. If the same bytes come again,
            they are the source's own and the fault is not transient.
        undecodable_sha256: Hashes of the clip's own file in earlier tries that could not be decoded.
    """

    id: str
    start_seconds: float
    end_seconds: float | None
    media_start_seconds: float | None = None
    corrupt_sha256: tuple[str, ...] = ()
    undecodable_sha256: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,128}", self.id):
            raise ValueError(f"clip id {self.id!r} is not made of 1 to 128 letters, digits, '_' and '-'")
        if self.start_seconds < 0 or (self.end_seconds is not None and self.end_seconds <= self.start_seconds):
            raise ValueError(f"clip {self.id} spans {self.start_seconds} to {self.end_seconds} s")

    def remembering(self, corrupt_sha256: str) -> ClipSpan:
        """Return the span for the next try, with the hash of bytes that were `corrupt_fetched` added."""
        return replace(self, corrupt_sha256=tuple(dict.fromkeys((*self.corrupt_sha256, corrupt_sha256))))


@dataclass(frozen=True, slots=True)
class FetchOptions:
    """Options of fetching. Picklable, so that they can be sent to workers.

    Attributes:
        min_short_side: Pixels that the picture's shorter side should have; the smallest format that has them is taken.
        keep_whole: Keep the whole file of every clip, never cut.
        copy_local: Copy local files into the folder instead of referring to them.
        cut_margin_seconds: Time kept before and after a clip when it is cut out of a longer file.
        socket_timeout_seconds: Time of silence after which a server has timed out.
        deadline_seconds: Time after which the fetching of a source has timed out; waiting for the site's rate limit is
            not counted.
        max_source_gib: Largest size of a source, all tries and tracks together.
        memory_gib: Memory limit of the fetching process; a source that needs more fails.
        retries: Further tries of one download (and of one segment) after a dropped connection or a 5xx answer.
        allow_private_addresses: Allow addresses of this machine and its network, also as targets of redirects.
        allow_file_urls: Treat `file:` URLs of a list as files of this machine; a redirect never leads to one.
        ytdlp: Options passed to `yt_dlp.YoutubeDL`: `cookiefile`, `proxy`, `source_address`, `http_headers`, ...
        extractors: Further yt-dlp extractors as `module:Class`, asked before yt-dlp's own; for custom sites.
    """

    min_short_side: int = 224
    keep_whole: bool = False
    copy_local: bool = False
    cut_margin_seconds: float = 1.0
    socket_timeout_seconds: float = 20.0
    deadline_seconds: float = 1800.0
    max_source_gib: float = 4.0
    memory_gib: float = 2.0
    retries: int = 3
    allow_private_addresses: bool = False
    allow_file_urls: bool = False
    ytdlp: Mapping[str, Any] = field(default_factory=dict)
    extractors: tuple[str, ...] = ()

    @property
    def max_source_bytes(self) -> int:
        """Return `max_source_gib` in bytes."""
        return int(self.max_source_gib * (1 << 30))

    def __post_init__(self) -> None:
        owned = sorted(OWNED_YTDLP_OPTIONS & set(self.ytdlp))
        if owned:
            raise RecipeError(f"yt-dlp's option {owned[0]!r} is set by vidaudio itself; remove it from download.ytdlp")
        for name in self.extractors:
            if not re.fullmatch(r"[\w.]+:\w+", name):
                raise RecipeError(f"extractor {name!r} does not have the form 'package.module:Class'")


@dataclass(frozen=True, slots=True)
class Fetched:
    """Result of one clip.

    Attributes:
        id: Id of the clip.
        outcome: `done`; `failed`, with the reason; `dropped(too_short)` if the clip lies beyond the source's end. The
            message of a `done` clip says why a whole file was kept, what is wrong with the source's files, or how often
            the clock jumps.
        path: File that holds the clip: in the requested folder, or the user's own file. None unless done.
        is_reference: True if `path` is the user's own file, which must not be moved or deleted.
        media_start_seconds: Place of the file's time 0 on the source's timeline: what the source shows at T is in the
            file at `pts - container.start_time = T - media_start_seconds`.
        size_bytes: Size of the file; 0 unless done.
        sha256: SHA-256 of the file, in hexadecimal. For a `corrupt_fetched` or `corrupt` clip, that of the bytes that
            came instead, if known. Otherwise empty.
        info: `id, title, uploader, channel, licence, duration, format`, as far as the site states them. Texts are made
            storable, and numbers that are not finite are left out. `time_jumps`: how often the source's clock jumps in
            a clip that was cut out and so joined; missing if it does not jump.
    """

    id: str
    outcome: Outcome
    path: Path | None = None
    is_reference: bool = False
    media_start_seconds: float = 0.0
    size_bytes: int = 0
    sha256: str = ""
    info: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "info", storable_facts(self.info))


def storable_facts(info: Mapping[str, Any]) -> dict[str, Any]:
    """Return a site's facts about a source in a form that JSON can hold: texts and finite numbers."""
    facts: dict[str, Any] = {}
    for name, value in info.items():
        if isinstance(value, int | float):
            if math.isfinite(number := _as_float(value)):
                facts[storable_text(name)] = number
        elif value is not None and (text := storable_text(str(value))):
            facts[storable_text(name)] = text
    return facts


def _as_float(value: int | float) -> float:
    """Return the number as a float; infinity for an integer that is too large for a float."""
    try:
        return float(value)
    except OverflowError:
        return math.inf


@dataclass(slots=True)
class Traffic:
    """Cost of fetching, as counts that can be added up.

    Attributes:
        requests: Number of requests sent, by site; every redirect is a request of its own.
        refused: Number of these requests that were answered with 429 or 503.
        waited_seconds: Time spent waiting for the rate limiter.
    """

    requests: dict[str, int] = field(default_factory=dict)
    refused: int = 0
    waited_seconds: float = 0.0

    def add(self, other: Traffic) -> None:
        """Add the counts of another `Traffic`."""
        for site, count in other.requests.items():
            self.requests[site] = self.requests.get(site, 0) + count
        self.refused += other.refused
        self.waited_seconds += other.waited_seconds


def is_file_url(url: str) -> bool:
    """Return whether it is a `file:` URL. A list from elsewhere may contain one, to name a file of this machine."""
    return url[:5].lower() == "file:"


def is_remote(url: str) -> bool:
    """Return whether fetching the URL asks any other machine."""
    return local_path(url) is None and not is_file_url(url)


def path_of_file_url(url: str) -> Path | None:
    """Return the file that a `file:` URL names; None if it names another machine or no file."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    path = unquote(parts.path)
    if parts.netloc.lower() not in ("", "localhost") or not path.startswith("/") or "\0" in path:
        return None
    return Path(path)


def local_path(url: str) -> Path | None:
    """Return the path if `url` is one (it does not begin like a URL: `https://`, `file:`); otherwise None."""
    return None if _URL.match(url) else Path(url).absolute()


def are_remote(urls: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return `is_remote` for each URL of a column."""
    # Imported here: fetching a single clip needs no columns.
    import pyarrow.compute as pc

    files = pc.match_substring_regex(urls, "^[Ff][Ii][Ll][Ee]:")
    return pc.and_not(pc.match_substring_regex(urls, f"^(?:{_SCHEME})"), files)
