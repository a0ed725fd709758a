"""What one source may do on the network while it is fetched: every request asks here first.

A visit checks where a request leads, waits until the site's budget grants it, counts it, and passes on what the site
answers about its load. A source that takes too long is ended from outside: its sockets are shut, since a server that
drips a byte a second never lets a read time out. Waiting for the budget is not the source's time.
"""

from __future__ import annotations

import email.utils
import logging
import math
import socket
import threading
import time
from collections.abc import Mapping
from typing import Self

import urllib3.exceptions
from urllib3.util import parse_url
from yt_dlp.networking.exceptions import RequestError

from vidaudio.media.fetch.addresses import PrivateAddress, check_named, check_resolved, is_public
from vidaudio.media.fetch.bounded_body import PAGE_BYTES
from vidaudio.media.fetch.rate_limit import RateLimiter, RateLimiterUnreachable
from vidaudio.media.fetch.reasons import Refused
from vidaudio.media.fetch.types import Traffic
from vidaudio.media.outcomes import Reason

# A source that a site has asked to slow down this often is put back: trying on is for later, when the pause is over.
REFUSALS_A_VISIT = 2
# Longest sleep before looking again whether the site has been paused meanwhile.
_NAP_SECONDS = 1.0
_REFUSALS = {429: Reason.RATE_LIMITED, 503: Reason.SERVER_ERROR}
_log = logging.getLogger(__name__)
_log.addHandler(logging.NullHandler())


class RequestBlocked(Refused, RequestError):
    """A request that is not sent. yt-dlp neither repeats it nor takes it for a broken connection."""

    def __init__(self, reason: Reason, message: str) -> None:
        RequestError.__init__(self, message)
        self.reason = reason


class FetchSession:
    """One source's requests, from its page to the last byte. Used by the threads that yt-dlp starts for it, too.

    Attributes:
        site: Whose budget pays; set when the extractor is known.
        expired: True once the deadline has passed.
        lost: Set when the budget could not be reached: whatever then came of the source says nothing about it.
    """

    def __init__(
        self,
        rate_limiter: RateLimiter,
        traffic: Traffic,
        *,
        deadline_seconds: float,
        allow_private: bool,
        max_bytes: int,
        stop: threading.Event | None = None,
    ) -> None:
        self.site = ""
        self.expired = False
        self.lost: RateLimiterUnreachable | None = None
        self.allow_private = allow_private
        self.deadline_seconds = deadline_seconds
        self._max_bytes, self._bytes = max_bytes, 0
        self._rate_limiter, self._traffic = rate_limiter, traffic
        self._stop = stop or threading.Event()
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._refusal: Reason | None = None
        self._refusals = 0
        self._waiting, self._waiting_since, self._waited = 0, 0.0, 0.0
        self._timer: threading.Timer | None = None
        self._over = False

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        self._set_timer(self.deadline_seconds)
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._over = True
            self._sockets.clear()
            if self._timer is not None:
                self._timer.cancel()
            self._traffic.waited_seconds += self._waited

    def authorize(self, url: str, *, direct: bool) -> None:
        """Wait until this request may be sent, and count it as sent.

        Args:
            url: Where to, with the scheme.
            direct: No proxy is between; then we resolve the host, and every address must be public.

        Raises:
            DoorClosed: It may not be sent; carries the reason for the whole source.
        """
        self._check_place(url, direct)
        self._start_waiting()
        try:
            while True:
                self._check_time()
                wait = self._rate_limiter.try_acquire(self.site)
                if not wait:
                    break
                self._stop.wait(min(wait, _NAP_SECONDS))
        except RateLimiterUnreachable as error:
            raise self._without_rate_limiter(error) from error
        except OSError as error:
            raise RequestBlocked(Reason.DISK, f"the budget of {self.site} cannot be kept: {error}") from error
        finally:
            self._stop_waiting()
        with self._lock:
            self._traffic.requests[self.site] = self._traffic.requests.get(self.site, 0) + 1

    def record_response(self, status: int, headers: Mapping[str, str]) -> None:
        """What was answered to an admitted request."""
        try:
            if status not in _REFUSALS:
                self._rate_limiter.report_ok(self.site)
                return
            pause = self._rate_limiter.report_throttled(self.site, retry_after_seconds(headers.get("Retry-After")))
        except RateLimiterUnreachable as error:
            raise self._without_rate_limiter(error) from error
        except OSError as error:
            raise RequestBlocked(Reason.DISK, f"the budget of {self.site} cannot be kept: {error}") from error
        _log.info("%s answered %d and is paused for %.0f s", self.site, status, pause)
        with self._lock:
            self._traffic.refused += 1
            self._refusals += 1
            self._refusal = _REFUSALS[status]

    def record_no_response(self) -> None:
        """Nothing was answered to an admitted request: the connection broke."""
        try:
            self._rate_limiter.report_no_response(self.site)
        except RateLimiterUnreachable as error:
            raise self._without_rate_limiter(error) from error
        except OSError as error:
            raise RequestBlocked(Reason.DISK, f"the budget of {self.site} cannot be kept: {error}") from error

    def announced(self, length_bytes: int) -> None:
        """Refuse a body that is larger than the source may be by what its header says.

        Raises:
            DoorClosed: It is.
        """
        if self._bytes + length_bytes > self._max_bytes:
            raise self._too_large()

    def received(self, length_bytes: int) -> None:
        """Count what has come of bodies, decompressed. All of a source's bodies count, those of further tries, too.

        Raises:
            DoorClosed: It is more than the source may be.
        """
        with self._lock:
            self._bytes += length_bytes
        if self._bytes > self._max_bytes:
            raise self._too_large()

    def page_too_large(self) -> RequestBlocked:
        """Return what ends a source whose page or manifest is larger than is read."""
        return RequestBlocked(Reason.TOO_LARGE, f"a page or manifest of more than {PAGE_BYTES >> 20} MiB")

    def connected(self, connection: socket.socket) -> None:
        """Look at whom a name has led to after all: it may be resolved otherwise from one moment to the next."""
        if connection.family not in (socket.AF_INET, socket.AF_INET6):
            return
        peer = str(connection.getpeername()[0])
        if not self.allow_private and not is_public(peer):
            raise _private(f"the name leads to the private address {peer}")

    def close_at_deadline(self, connection: object) -> None:
        """Shut this socket at the deadline."""
        if isinstance(connection, socket.socket):
            with self._lock:
                self._sockets.add(connection)
                expired = self.expired
            if expired:
                _shut(connection)

    def _check_place(self, url: str, direct: bool) -> None:
        if self.allow_private:
            return
        try:
            place = parse_url(url)  # as the connection itself reads it
            if direct:
                check_resolved(place.host or "", place.port or 0)
            else:
                check_named(place.host or "")
        except PrivateAddress as error:
            raise _private(str(error)) from error
        except urllib3.exceptions.LocationParseError as error:
            raise RequestBlocked(Reason.UNSUPPORTED, f"not an address: {error}") from error

    def _check_time(self) -> None:
        if self.expired:
            raise RequestBlocked(Reason.TIMEOUT, f"not fetched within {self.deadline_seconds:g} s")
        if self._stop.is_set():
            raise RequestBlocked(Reason.UNKNOWN, "stopped from outside")
        if self._refusal is not None and self._refusals >= REFUSALS_A_VISIT:
            raise RequestBlocked(self._refusal, "the site asks to slow down; this source is put back")

    def _without_rate_limiter(self, error: RateLimiterUnreachable) -> RequestBlocked:
        self.lost = error
        return RequestBlocked(Reason.NETWORK, str(error))

    def _too_large(self) -> RequestBlocked:
        limit = f"more than {self._max_bytes / (1 << 30):g} GiB to fetch; download.max_source_gib allows more"
        return RequestBlocked(Reason.TOO_LARGE, limit)

    def _start_waiting(self) -> None:
        with self._lock:
            if not self._waiting:
                self._waiting_since = time.monotonic()
            self._waiting += 1

    def _stop_waiting(self) -> None:
        with self._lock:
            self._waiting -= 1
            if not self._waiting:
                self._waited += time.monotonic() - self._waiting_since

    def _remaining(self) -> float:
        now = time.monotonic()
        waited = self._waited + (now - self._waiting_since if self._waiting else 0.0)
        return self.deadline_seconds - (now - self._began - waited)

    def _set_timer(self, seconds: float) -> None:
        self._timer = threading.Timer(seconds, self._look_at_the_clock)
        self._timer.daemon = True
        self._timer.start()

    def _look_at_the_clock(self) -> None:
        with self._lock:
            if self._over:
                return
            remaining = self._remaining()
            if remaining > 0:
                self._set_timer(max(remaining, 0.01))
                return
            self.expired = True
            sockets = list(self._sockets)
        for connection in sockets:
            _shut(connection)


def retry_after_seconds(header: str | None) -> float | None:
    """What Retry-After says, in seconds from now; None where it says nothing that can be read."""
    if not header:
        return None
    try:
        seconds = float(header)
    except ValueError:
        pass
    else:
        return seconds if 0 <= seconds < math.inf else None
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    except ValueError:
        return None


def _private(message: str) -> RequestBlocked:
    return RequestBlocked(Reason.UNSUPPORTED, f"{message}; download.allow_private_addresses lets such through")


def _shut(connection: socket.socket) -> None:
    """End both directions, so that whoever waits for it wakes up. Past TLS, which would wait for a farewell."""
    try:
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
    except OSError:
        _log.debug("a socket was closed before its deadline was enforced")
