"""Fetch session: the network permissions of one source while it is fetched. Every request asks here first.

A session checks where a request leads, waits until the site's rate limiter grants it, counts it, and reports to the
rate limiter what the site answers about its load. A source that takes too long is ended from outside by shutting its
sockets, since a server that sends a byte per second never lets a read time out. Waiting for the rate limiter does not
count towards the source's deadline.
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

# A source that received this many "slow down" answers is put back: it is retried later, when the pause is over.
REFUSALS_PER_SESSION = 2
# Longest sleep before checking again whether the site has been paused meanwhile.
_NAP_SECONDS = 1.0
_REFUSALS = {429: Reason.RATE_LIMITED, 503: Reason.SERVER_ERROR}
_log = logging.getLogger(__name__)
_log.addHandler(logging.NullHandler())


class RequestBlocked(Refused, RequestError):
    """A request that is not sent. yt-dlp neither repeats it nor mistakes it for a broken connection."""

    def __init__(self, reason: Reason, message: str) -> None:
        RequestError.__init__(self, message)
        self.reason = reason


class FetchSession:
    """Requests of one source, from its page to the last byte; also used by yt-dlp's threads for the source.

    Args:
        rate_limiter: Rate limiter that grants every request.
        traffic: Counts to which the session's requests and waiting time are added.
        deadline_seconds: Longest time for the source; waiting for the rate limiter is not counted.
        allow_private: Whether requests may lead to private addresses.
        max_bytes: Largest total size of all bodies, in bytes.
        stop: Event after which no further request is sent; None means never.

    Attributes:
        site: Site whose rate limit applies; set when the extractor is known.
        expired: True once the deadline has passed.
        lost: Set when the rate limiter was unreachable: the result then proves nothing about the source.
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
            url: Address of the request, with the scheme.
            direct: Whether no proxy is used; the host is then resolved here, and each of its addresses must be public.

        Raises:
            RequestBlocked: When the request may not be sent; carries the reason for the whole source.
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
        """Report the answer to a permitted request to the rate limiter."""
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
        """Report a broken connection, without an answer to a permitted request, to the rate limiter."""
        try:
            self._rate_limiter.report_no_response(self.site)
        except RateLimiterUnreachable as error:
            raise self._without_rate_limiter(error) from error
        except OSError as error:
            raise RequestBlocked(Reason.DISK, f"the budget of {self.site} cannot be kept: {error}") from error

    def announced(self, length_bytes: int) -> None:
        """Refuse a body that would make the source too large by the length that its header states.

        Raises:
            RequestBlocked: When the source would be too large.
        """
        if self._bytes + length_bytes > self._max_bytes:
            raise self._too_large()

    def received(self, length_bytes: int) -> None:
        """Count the decompressed bytes of bodies. All bodies of a source count, including those of further tries.

        Raises:
            RequestBlocked: When the source is too large.
        """
        with self._lock:
            self._bytes += length_bytes
        if self._bytes > self._max_bytes:
            raise self._too_large()

    def page_too_large(self) -> RequestBlocked:
        """Return the exception that ends a source whose page or manifest is larger than `PAGE_BYTES`."""
        return RequestBlocked(Reason.TOO_LARGE, f"a page or manifest of more than {PAGE_BYTES >> 20} MiB")

    def connected(self, connection: socket.socket) -> None:
        """Check the address actually connected to: a name may resolve differently from one moment to the next."""
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
            place = parse_url(url)  # as the connection itself parses it
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
        if self._refusal is not None and self._refusals >= REFUSALS_PER_SESSION:
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
    """Return the value of a Retry-After header in seconds from now; None if it is missing or unreadable."""
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
    """Shut both directions, so that waiting threads wake up. TLS is bypassed: it would wait for a closing message."""
    try:
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
    except OSError:
        _log.debug("a socket was closed before its deadline was enforced")
