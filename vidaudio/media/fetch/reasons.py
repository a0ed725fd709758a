"""From what yt-dlp, sockets and disks say to a `Reason`: tables, read from top to bottom.

Extractors tell most causes only in words, so words come first; then what HTTP said; then what the network did. What
fits nothing is `unknown`: transient, with its message kept, so that new wordings show up in the counts.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator

from requests.exceptions import InvalidURL
from yt_dlp.networking.exceptions import HTTPError, TransportError
from yt_dlp.utils import ContentTooShortError, GeoRestrictedError, UnsupportedError, UserNotLive

from vidaudio.media.fetch.translated_phrases import TRANSLATED_PHRASES
from vidaudio.media.outcomes import Outcome, Reason
from vidaudio.text import storable_text

# How messages of our own begin or end which yt-dlp passes on as words only.
WRONG_PART = "the server sent the wrong part of a file"
NO_MEDIA = "instead of media"

# The first that matches anywhere in the message decides. Sorted from the specific to the general: "blocked it in your
# country on copyright grounds" is a matter of the country, "sign in to confirm your age" not one of signing in.
PHRASES: tuple[tuple[Reason, str], ...] = (
    (Reason.DISK, r"no space left on device|disk quota exceeded"),
    (Reason.CORRUPT_FETCHED, rf"{WRONG_PART}|the server sent [\w ]+ {NO_MEDIA}"),
    (Reason.CORRUPT_FETCHED, r"did not get any data blocks|the downloaded file is empty"),
    (Reason.BOT_CHECK, r"not a bot|captcha|anti-bot|unusual traffic|TLS fingerprint|your IP (may|is likely)"),
    (Reason.BOT_CHECK, r"your IP address is blocked|(blocked|rejected) by server|page needs to be reloaded"),
    (Reason.BOT_CHECK, r"JS challenge|fresh cookies|please sign in"),
    (Reason.RATE_LIMITED, r"rate.?limit|too many requests|try again later"),
    (Reason.GEO_BLOCKED, r"geo.?restrict|in your country|(from|in|due to) your (location|region)"),
    (Reason.GEO_BLOCKED, r"not available in your|blocked by decision of|blocked in this (region|country)"),
    (Reason.AGE_RESTRICTED, r"confirm your age|age.restricted|age.verifi|inappropriate for some users"),
    (Reason.MEMBERS_ONLY, r"members.only|channel'?s members|join this channel|premium member|requires payment"),
    (Reason.MEMBERS_ONLY, r"supporter.only|need to purchase|for subscribers|requires a subscription|not subscribed to"),
    (Reason.MEMBERS_ONLY, r"only available (for|to) (premium|members|subscribers)|subscribe to (download|watch)"),
    (Reason.PRIVATE, r"private video|(video|account) is private|protected by a password|video.password"),
    (Reason.PRIVATE, r"for registered users|wrong password|permission to view"),
    (Reason.PRIVATE, r"login required|log ?in ?to|sign in to|granted access|made available to anyone"),
    (Reason.COPYRIGHT, r"copyright"),
    (Reason.LIVE, r"is not (yet available|available yet)"),
    (Reason.LIVE, r"live event will begin|premieres in|not (currently )?live|live stream recording is not available"),
    (Reason.LIVE, r"not (yet )?started|livestream has ended|live event is scheduled|ended (and replay|but not)"),
    (Reason.NOT_FOUND, r"does not exist|no longer exists|(video|page|space) not found"),
    (Reason.NO_VIDEO, r"there is no video in|is not a video|no video could be found"),
    # What YouTube tells a blocked account or address of every video, under the title "Video unavailable".
    (Reason.BOT_CHECK, r"this content (isn't|is not) available(?! on)"),
    # Of the account or the network, and not of the video.
    (Reason.BOT_CHECK, r"google workspace administrator|network administrator restrictions"),
    # Of the embedded player, which yt-dlp asks for some videos: they are there for whoever asks otherwise.
    (Reason.UNSUPPORTED, r"playback on other websites has been disabled|watch this video on YouTube"),
    (Reason.REMOVED, r"has been removed|removed by the (uploader|user)|(has been|was) deleted|no longer available"),
    (
        Reason.REMOVED,
        r"account (associated|has been)|video unavailable|video (#\d+ )?(is )?(not available|unavailable)",
    ),
    (Reason.REMOVED, r"isn't available any ?more"),
    (Reason.UNSUPPORTED, r"DRM protected|unsupported url|no suitable extractor|is not a valid url"),
    (Reason.UNSUPPORTED, r"file:// URLs are disabled|no request handlers configured|unsupported url scheme"),
    (Reason.UNSUPPORTED, r"no connection adapters were found|invalid IPv6 URL"),  # a redirect to file: and the like
    (Reason.UNSUPPORTED, r"ffmpeg could not be found"),  # streams that only FFmpeg could fetch, past the door
    *TRANSLATED_PHRASES,
    (Reason.PRIVATE, r"to provide account credentials|for the authentication"),  # advice after many a message
)

# HTTP's own words. 403 is decided by `_of_status`.
STATUSES: dict[int, Reason] = {
    401: Reason.PRIVATE,
    402: Reason.MEMBERS_ONLY,
    404: Reason.NOT_FOUND,
    408: Reason.TIMEOUT,
    410: Reason.NOT_FOUND,
    429: Reason.RATE_LIMITED,
    451: Reason.GEO_BLOCKED,
}

# What the network did, where only words are left of it.
NETWORK_PHRASES: tuple[tuple[Reason, str], ...] = (
    (Reason.TIMEOUT, r"timed? ?out"),
    (Reason.NETWORK, r"more expected|content too short|downloaded \d+ bytes, expected|incomplete ?read"),
    (Reason.NETWORK, r"connection (reset|aborted|refused|broken)|remote end closed|failed to resolve|name resolution"),
    (Reason.NETWORK, r"a network error has occurred"),
    (Reason.NETWORK, r"network is unreachable|no route to host|proxy|fragment \d+ not found"),
)

_FULL_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS})
# yt-dlp tells the two phases apart only in words: a page refused, or media refused that the page had offered.
_MEDIA_PHASE = re.compile(r"unable to download video data|\[download\] got error", re.IGNORECASE)
_LONGEST_MESSAGE = 300
# Of a message, to find its cause: the first characters.
_LONGEST_READ = 4_000


class Refused(Exception):
    """A source that is not fetched because of what it is: live, a play list. Carries its reason."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def failure(error: BaseException, causes: str = "") -> Outcome:
    """Return the outcome of a source whose fetching raised `error`.

    Args:
        error: What ended the fetching.
        causes: What had been warned of before; goes into the message.
    """
    text = _text(error)
    for link in error_chain(error):  # for plain links, yt-dlp's id of a video is part of the URL, with its query
        video_id = str(getattr(link, "video_id", None) or "")
        if (bare := bare_id(video_id)) != video_id:
            text = text.replace(video_id, bare)
    said = first_line(text)
    if causes and causes not in said:
        said = f"{said[: _LONGEST_MESSAGE // 2].rstrip('. ')}; yt-dlp warned: {causes}"[:_LONGEST_MESSAGE]
    return Outcome.failed(reason_of(error), said)


def bare_id(video_id: str) -> str:
    """Return a video's id without what yt-dlp takes over into it from a plain link: query, fragment, password."""
    bare = re.split(r"[?#]", video_id, maxsplit=1)[0]
    return bare.rpartition("@")[2] if re.match(r"[^/@]+:[^/@]*@", bare) else bare


def reason_of(error: BaseException) -> Reason:
    """The cause of an error from yt-dlp, the network or the disk."""
    chain = list(error_chain(error))
    text = _text(error)
    for link in chain:
        if isinstance(link, Refused):
            return link.reason
        if isinstance(link, MemoryError):
            return Reason.MEMORY
        if isinstance(link, OSError) and link.errno in _FULL_DISK:
            return Reason.DISK
        if isinstance(link, OSError) and link.errno == errno.EFBIG:  # the limit that the fetching process is given
            return Reason.TOO_LARGE
    for kind, reason in ((GeoRestrictedError, Reason.GEO_BLOCKED), (UserNotLive, Reason.LIVE)):
        if any(isinstance(link, kind) for link in chain):
            return reason
    if any(isinstance(link, (UnsupportedError, InvalidURL)) for link in chain):
        return Reason.UNSUPPORTED
    if (spoken := _match(PHRASES, _words(text))) is not None:
        return spoken
    if (status := _status(chain, text)) is not None:
        return _of_status(status, media_phase=bool(_MEDIA_PHASE.search(text)))
    if any(isinstance(link, TimeoutError) for link in chain):
        return Reason.TIMEOUT
    if (spoken := _match(NETWORK_PHRASES, text)) is not None:
        return spoken
    if any(isinstance(link, (TransportError, ContentTooShortError, ConnectionError)) for link in chain):
        return Reason.NETWORK
    return Reason.UNKNOWN


def first_line(text: str) -> str:
    """What people are told: the message's first line, without colours, prefixes, advice, secrets and local paths.

    Of web addresses only scheme and host stay: what follows may hold keys. What differs between runs goes too, since
    messages stand in tables that are compared.
    """
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text).replace("\r", " ")
    line = next((line.strip() for line in plain.split("\n") if line.strip()), "")
    line = re.sub(r"^(ERROR:\s*|\[download\] Got error:\s*)+", "", line)
    line = re.split(r"; please report this issue on |\. You might want to use a VPN", line)[0]
    line = re.sub(r"\s*\(caused by .*", "", line)
    line = re.sub(r"(?<=with url: )\S+", "...", line)  # as urllib3 names a path, with its query
    line = re.sub(r"([a-zA-Z][\w+.-]*://)(?:[^\s/@]*@)?([^\s/?#'\"]+)[^\s'\"]*", r"\1\2", line)
    line = re.sub(r"(?<![\w:/.])/(?:[^\s/:'\"]+/)+([^\s/:'\"]*)", r"\1", line)
    line = re.sub(r"<?[\w.]+ object at 0x[0-9a-f]+>?[:,]?\s*", "", line)
    return line[:_LONGEST_MESSAGE].strip()


def _words(text: str) -> str:
    """The message without what a site or its users chose: ids and addresses may read like causes."""
    text = re.sub(r"^\s*(?:ERROR:\s*)?\[[^\]]+\] [^\s:]+: ", "", text)
    return re.sub(r"[a-zA-Z][\w+.-]*://\S+", "", text)


def _of_status(status: int, *, media_phase: bool) -> Reason:
    """403 to a page is final under the cookies given; 403 to media that the page has just offered is an expired or
    throttled link, and asking for the page again may help."""
    if status == 403:
        return Reason.BOT_CHECK if media_phase else Reason.PRIVATE
    if status >= 500 or 300 <= status < 400:  # a redirect that is left over is a loop
        return Reason.SERVER_ERROR
    return STATUSES.get(status, Reason.UNKNOWN)


def _status(chain: list[BaseException], text: str) -> int | None:
    for link in chain:
        if isinstance(link, HTTPError):
            return link.status
    spoken = re.search(r"HTTP Error (\d{3})", text)
    return int(spoken[1]) if spoken else None


def _match(table: tuple[tuple[Reason, str], ...], text: str) -> Reason | None:
    plain = text.replace("’", "'").replace("\xa0", " ").replace("&nbsp;", " ")
    return next((reason for reason, phrase in table if re.search(phrase, plain, re.IGNORECASE)), None)


def _text(error: BaseException) -> str:
    text = str(getattr(error, "msg", None) or error) or type(error).__name__
    # Bounded, and cleaned: the patterns below take time that grows with the square of a long word.
    # A carriage return is how yt-dlp writes over a line of its progress: it ends none.
    text = storable_text(text.replace("\r", " "), max_characters=_LONGEST_READ, keep_line_ends=True)
    named = isinstance(error, (LookupError, TypeError, AttributeError, AssertionError, ValueError))
    return f"{type(error).__name__}: {text}" if named else text


def error_chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and all it came from: yt-dlp keeps the origin in `exc_info` or `cause`, Python in its own places."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        link = waiting.pop(0)
        if not isinstance(link, BaseException) or id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        exc_info = getattr(link, "exc_info", None)
        waiting += [exc_info[1] if exc_info else None, getattr(link, "cause", None), link.__cause__, link.__context__]
