"""Mapping from errors of yt-dlp, sockets and disks to a `Reason`: tables, read from top to bottom.

Extractors report most causes only in words, so words come first; then the HTTP status; then what the network did. An
error that fits nothing is `unknown`: transient, with its message kept, so that new wordings show up in the counts.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator

from requests.exceptions import InvalidURL
from yt_dlp.networking.exceptions import HTTPError, TransportError
from yt_dlp.utils import ContentTooShortError, GeoRestrictedError, UnsupportedError, UserNotLive

from vidaudio.media.fetch.translated_phrases import TRANSLATED_PHRASES
from vidaudio.media.outcomes import WARNED, Outcome, Reason
from vidaudio.text import storable_text

# Beginning or end of vidaudio's own messages that yt-dlp passes on as words only.
WRONG_PART = "the server sent the wrong part of a file"
NO_MEDIA = "instead of media"

# The first phrase that matches anywhere in the message decides. Sorted from specific to general: "blocked it in your
# country on copyright grounds" is about the country, "sign in to confirm your age" is not about signing in.
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
    # YouTube's answer to a blocked account or address for every video, under the title "Video unavailable".
    (Reason.BOT_CHECK, r"this content (isn't|is not) available(?! on)"),
    # About the account or the network, not about the video.
    (Reason.BOT_CHECK, r"google workspace administrator|network administrator restrictions"),
    # About the embedded player, which yt-dlp uses for some videos: other clients can still get them.
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
    (Reason.UNSUPPORTED, r"ffmpeg could not be found"),  # streams that only FFmpeg could fetch, unguarded
    *TRANSLATED_PHRASES,
    (Reason.PRIVATE, r"to provide account credentials|for the authentication"),  # advice that follows many messages
)

# HTTP statuses. `_of_status` decides 403.
STATUSES: dict[int, Reason] = {
    401: Reason.PRIVATE,
    402: Reason.MEMBERS_ONLY,
    404: Reason.NOT_FOUND,
    408: Reason.TIMEOUT,
    410: Reason.NOT_FOUND,
    429: Reason.RATE_LIMITED,
    451: Reason.GEO_BLOCKED,
}

# Network faults of which only words are left.
NETWORK_PHRASES: tuple[tuple[Reason, str], ...] = (
    (Reason.TIMEOUT, r"timed? ?out"),
    (Reason.NETWORK, r"more expected|content too short|downloaded \d+ bytes, expected|incomplete ?read"),
    (Reason.NETWORK, r"connection (reset|aborted|refused|broken)|remote end closed|failed to resolve|name resolution"),
    (Reason.NETWORK, r"a network error has occurred"),
    (Reason.NETWORK, r"network is unreachable|no route to host|proxy|fragment \d+ not found"),
)

_FULL_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS})
# Only words distinguish yt-dlp's two phases: a refused page, or refused media that the page had offered.
_MEDIA_PHASE = re.compile(r"unable to download video data|\[download\] got error", re.IGNORECASE)
_LONGEST_MESSAGE = 300
# Number of a message's first characters that are read to find its cause.
_LONGEST_READ = 4_000


class Refused(Exception):
    """A source that is not fetched because of what it is, such as a live stream or a play list. Carries the reason."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def failure(error: BaseException, causes: str = "") -> Outcome:
    """Return the outcome of a source whose fetching raised `error`.

    Args:
        error: Exception that ended the fetching.
        causes: Earlier warnings that name a cause; they are added to the message.
    """
    text = _text(error)
    for link in error_chain(error):  # for plain links, yt-dlp's video id is part of the URL, with its query
        video_id = str(getattr(link, "video_id", None) or "")
        if (bare := bare_id(video_id)) != video_id:
            text = text.replace(video_id, bare)
    said = first_line(text)
    if causes and causes not in said:
        said = f"{said[: _LONGEST_MESSAGE // 2].rstrip('. ')}{WARNED}{causes}"[:_LONGEST_MESSAGE]
    return Outcome.failed(reason_of(error), said)


def bare_id(video_id: str) -> str:
    """Return a video's id without the parts of a plain link that yt-dlp copies into it: query, fragment, password."""
    bare = re.split(r"[?#]", video_id, maxsplit=1)[0]
    return bare.rpartition("@")[2] if re.match(r"[^/@]+:[^/@]*@", bare) else bare


def reason_of(error: BaseException) -> Reason:
    """Return the cause of an error from yt-dlp, the network or the disk."""
    chain = list(error_chain(error))
    if (local := next((reason for link in chain if (reason := _local_reason(link)) is not None), None)) is not None:
        return local
    text = _text(error)
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


def _local_reason(error: BaseException) -> Reason | None:
    """Return the reason of an error that this package or this machine caused; None for any other error."""
    if isinstance(error, Refused):
        return error.reason
    if isinstance(error, MemoryError):
        return Reason.MEMORY
    if isinstance(error, OSError) and error.errno in _FULL_DISK:
        return Reason.DISK
    if isinstance(error, OSError) and error.errno == errno.EFBIG:  # the limit set for the fetching process
        return Reason.TOO_LARGE
    return None


def first_line(text: str) -> str:
    """Return a message's first line for people, without colours, prefixes, advice, secrets and local paths.

    Web addresses are cut to scheme and host, since the rest may hold keys. Parts that differ between runs are removed
    too, since messages are stored in tables that are compared.
    """
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text).replace("\r", " ")
    line = next((line.strip() for line in plain.split("\n") if line.strip()), "")
    line = re.sub(r"^(ERROR:\s*|\[download\] Got error:\s*)+", "", line)
    line = re.split(r"; please report this issue on |\. You might want to use a VPN", line)[0]
    line = re.sub(r"\s*\(caused by .*", "", line)
    line = re.sub(r"(?<=with url: )\S+", "...", line)  # urllib3's form of a path, with its query
    line = re.sub(r"([a-zA-Z][\w+.-]*://)(?:[^\s/@]*@)?([^\s/?#'\"]+)[^\s'\"]*", r"\1\2", line)
    line = re.sub(r"(?<![\w:/.])/(?:[^\s/:'\"]+/)+([^\s/:'\"]*)", r"\1", line)
    line = re.sub(r"<?[\w.]+ object at 0x[0-9a-f]+>?[:,]?\s*", "", line)
    return line[:_LONGEST_MESSAGE].strip()


def _words(text: str) -> str:
    """Return the message without ids and addresses: a site or its users chose them, and they may read like causes."""
    text = re.sub(r"^\s*(?:ERROR:\s*)?\[[^\]]+\] [^\s:]+: ", "", text)
    return re.sub(r"[a-zA-Z][\w+.-]*://\S+", "", text)


def _of_status(status: int, *, media_phase: bool) -> Reason:
    """Return the reason for an HTTP status.

    A 403 for a page is final with the given cookies. A 403 for media that the page has just offered is an expired or
    throttled link, and asking for the page again may help.
    """
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
    # Bounded and cleaned, since the time of the patterns below grows with the square of a long word's length. yt-dlp
    # overwrites a line of its progress by a carriage return, which ends no line.
    text = storable_text(text.replace("\r", " "), max_characters=_LONGEST_READ, keep_line_ends=True)
    named = isinstance(error, (LookupError, TypeError, AttributeError, AssertionError, ValueError))
    return f"{type(error).__name__}: {text}" if named else text


def error_chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield the error and all its causes: yt-dlp keeps them in `exc_info` or `cause`, Python in its own attributes."""
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
