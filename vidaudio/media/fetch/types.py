"""What is asked of the fetcher and what it answers: plain values that travel between processes."""

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

# How a URL begins; what does not begin so is a path.
_SCHEME = "[A-Za-z][A-Za-z0-9+.-]*://"
_URL = re.compile(rf"{_SCHEME}|[Ff][Ii][Ll][Ee]:")
# No file may be larger: shards are tars of the format whose members' sizes have 33 bits.
LARGEST_FILE_BYTES = (1 << 33) - 1
# Name of a fact about a cut: how often the clock of its source jumps in it.
TIME_JUMPS = "time_jumps"
# Of a link that names a file, and leads to a page without a video.
PAGE_FOR_A_FILE = "the server sent a web page where the link names a media file"
# What the fetcher sets itself: another value would break what it promises about files, clips and their timelines.
OWNED_YTDLP_OPTIONS = frozenset(
    {
        *("format", "outtmpl", "paths", "logger", "quiet", "noprogress", "no_warnings", "color", "ignoreerrors"),
        *("noplaylist", "fixup", "updatetime", "overwrites", "nooverwrites", "continuedl", "hls_prefer_native"),
        *("skip_unavailable_fragments", "ffmpeg_location", "enable_file_urls", "simulate", "skip_download"),
        *("download_ranges", "postprocessors", "merge_output_format", "external_downloader", "match_filter"),
        *("live_from_start", "wait_for_video", "download_archive", "socket_timeout", "retries", "fragment_retries"),
        # They leave files of their own, under names from the web.
        *("write_pages", "load_pages", "writeinfojson", "writethumbnail", "write_all_thumbnails", "writesubtitles"),
        *("writeautomaticsub", "writedescription", "writelink", "writeurllink", "writewebloclink", "writedesktoplink"),
        "impersonate",  # only libcurl can, whose redirects nobody could count or check
    }
)


@dataclass(frozen=True, slots=True)
class ClipSpan:
    """One clip wanted of a source; seconds on the source's timeline.

    Attributes:
        id: Names the file: letters, digits, `_` and `-`, at most 128 of them.
        start_seconds: Where the clip begins.
        end_seconds: Where it ends; None for the end of the source.
        media_start_seconds: Where on the source's timeline the time 0 of the file behind the URL lies, for lists that
            point to files which are cuts already; None means 0.
        corrupt_sha256: Hashes of what came for the source in earlier tries and was `corrupt_fetched`. The same bytes
            once more are the source's own, and no fault that passes.
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
        """Return the span for the next try, which knows that these bytes were corrupt as fetched."""
        return replace(self, corrupt_sha256=tuple(dict.fromkeys((*self.corrupt_sha256, corrupt_sha256))))


@dataclass(frozen=True, slots=True)
class FetchOptions:
    """How sources are fetched. Picklable, so that it can travel to workers.

    Attributes:
        min_short_side: Pixels the shorter side of the picture should have; the smallest format that has them is taken.
        keep_whole: Keep the whole file of every clip, never cut.
        copy_local: Copy local files into the folder instead of referring to them.
        cut_margin_seconds: Kept before and after a clip when it is cut out of a longer file.
        socket_timeout_seconds: A server that is silent for this long has timed out.
        deadline_seconds: A source whose fetching takes longer has timed out; waiting for the site's budget is not
            counted.
        max_source_gib: A source of which more is sent, all tries and tracks together, is too large.
        memory_gib: Of the process that fetches; a source that wants more is failed.
        retries: Further tries of one download (and of one segment) after a dropped connection or a 5xx answer.
        allow_private_addresses: Follow addresses of this machine and its network, also where redirects lead there.
        allow_file_urls: Take `file:` URLs of a list for files of this machine; a redirect never leads to one.
        ytdlp: Passed on to `yt_dlp.YoutubeDL`: `cookiefile`, `proxy`, `source_address`, `http_headers`, ...
        extractors: Further yt-dlp extractors as `module:Class`, asked before yt-dlp's own: for a site of your own.
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
    """What became of one clip.

    Attributes:
        id: The clip's.
        outcome: `done`; `failed`, with the reason; `dropped(too_short)` where the clip lies behind the source's end.
            A `done` with a message is a whole file kept where a cut was wanted, and says why.
        path: The file that holds the clip: in the folder asked for, or the user's own file. None unless done.
        is_reference: True where `path` is the user's own file, not ours to move or delete.
        media_start_seconds: Where on the source's timeline the file's time 0 lies: what the source shows at T stands in
            the file at `pts - container.start_time = T - media_start_seconds`.
        size_bytes: Of the file; 0 unless done.
        sha256: Of the file, hexadecimal; of a clip that is `corrupt_fetched` or `corrupt`, of what came instead, as far
            as it is known; else empty.
        info: `id, title, uploader, channel, licence, duration, format`, as far as the site tells them; texts are made
            storable, and numbers that are not finite are left out. `time_jumps`: how often the source's clock jumps in
            a clip that was cut out and so joined; missing where it does not.
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
    """Return the facts that a site tells about a source as JSON can hold them: texts and finite numbers."""
    facts: dict[str, Any] = {}
    for name, value in info.items():
        if isinstance(value, int | float):
            if math.isfinite(number := _as_float(value)):
                facts[storable_text(name)] = number
        elif value is not None and (text := storable_text(str(value))):
            facts[storable_text(name)] = text
    return facts


def _as_float(value: int | float) -> float:
    """Return the number; infinity for an integer that no float holds."""
    try:
        return float(value)
    except OverflowError:
        return math.inf


@dataclass(slots=True)
class Traffic:
    """What fetching cost, added up by whoever passes it on.

    Attributes:
        requests: Sent, by site; redirects are requests of their own.
        refused: Of these, answered with 429 or 503.
        waited_seconds: For the budget.
    """

    requests: dict[str, int] = field(default_factory=dict)
    refused: int = 0
    waited_seconds: float = 0.0

    def add(self, other: Traffic) -> None:
        """Count another's in."""
        for site, count in other.requests.items():
            self.requests[site] = self.requests.get(site, 0) + count
        self.refused += other.refused
        self.waited_seconds += other.waited_seconds


def is_file_url(url: str) -> bool:
    """Whether it is a `file:` URL: a list from elsewhere may have one, and would name files of ours with it."""
    return url[:5].lower() == "file:"


def is_remote(url: str) -> bool:
    """Whether anybody but this machine is asked for it."""
    return local_path(url) is None and not is_file_url(url)


def path_of_file_url(url: str) -> Path | None:
    """The file that a `file:` URL names; None where that is one of another machine, or none."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    path = unquote(parts.path)
    if parts.netloc.lower() not in ("", "localhost") or not path.startswith("/") or "\0" in path:
        return None
    return Path(path)


def local_path(url: str) -> Path | None:
    """The path, where `url` is one: anything that does not begin like a URL does (`https://`, `file:`)."""
    return None if _URL.match(url) else Path(url).absolute()


def are_remote(urls: pa.ChunkedArray) -> pa.ChunkedArray:
    """`is_remote` for a column of a list."""
    # Here and not at the top: whoever fetches a single clip has no columns.
    import pyarrow.compute as pc

    files = pc.match_substring_regex(urls, "^[Ff][Ii][Ll][Ee]:")
    return pc.and_not(pc.match_substring_regex(urls, f"^(?:{_SCHEME})"), files)
