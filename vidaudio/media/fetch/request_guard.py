"""Request guard: yt-dlp's own request handler, with a `FetchSession` asked for permission before every request.

All that yt-dlp sends over HTTP (pages, manifests, keys, segments, files) goes through `YoutubeDL.urlopen` to the
handlers of its request director, and from there through an adapter of `requests`, once for each redirect. That adapter
is the guard. Handlers that follow redirects without a way to count them (urllib, curl) are left out, and so is FTP.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator, MutableMapping
from typing import Any, cast

import requests
import urllib3
import urllib3.util
from urllib3.connectionpool import HTTPConnectionPool
from yt_dlp import YoutubeDL
from yt_dlp.networking import RequestDirector
from yt_dlp.networking._requests import RequestsHTTPAdapter, RequestsRH
from yt_dlp.networking._urllib import UrllibRH
from yt_dlp.networking.common import Request, Response
from yt_dlp.networking.exceptions import HTTPError
from yt_dlp.utils.networking import select_proxy

from vidaudio.media.fetch.bounded_body import MeasuredBody, MeasuredResponse
from vidaudio.media.fetch.partial_content import PartialContent, WrongPart
from vidaudio.media.fetch.session import FetchSession, RequestBlocked

# Redirects followed from one address; yt-dlp's own number for urllib.
MAX_REDIRECTS = 10


class RequestGuard:
    """Link between the requests of one `YoutubeDL` and the fetch session they belong to."""

    def __init__(self) -> None:
        self._session: FetchSession | None = None
        self.parts = PartialContent()

    @contextlib.contextmanager
    def opened(self, session: FetchSession) -> Iterator[FetchSession]:
        """Let requests through while one source is fetched."""
        with session:
            self._session, self.parts = session, PartialContent()
            try:
                yield session
            finally:
                self._session = None

    @property
    def session(self) -> FetchSession:
        """Return the current session; without one, no request is allowed."""
        if self._session is None:
            raise RuntimeError("a request outside of any visit")
        return self._session


class GuardedRequestsRH(RequestsRH):
    """yt-dlp's handler over `requests`, whose sessions send through the guarded adapter."""

    guard: RequestGuard

    def _send(self, request: Request) -> Response:
        too_large = self.guard.session.page_too_large
        try:
            return MeasuredResponse(super()._send(request), too_large)
        except HTTPError as error:  # extractors read the pages of some errors
            error.response = MeasuredResponse(error.response, too_large)
            raise

    def _create_instance(self, cookiejar: Any, legacy_ssl_support: bool | None = None) -> requests.Session:
        session = super()._create_instance(cookiejar, legacy_ssl_support)
        adapter = GuardedAdapter(
            self.guard,
            ssl_context=self._make_sslcontext(legacy_ssl_support=legacy_ssl_support),
            source_address=self.source_address,
            max_retries=urllib3.util.retry.Retry(False),
        )
        session.mount("https://", adapter)
        session.mount("http://", adapter)
        session.max_redirects = MAX_REDIRECTS
        return session


class DataRH(UrllibRH):
    """Handler of `data:` URLs, which need no network."""

    _SUPPORTED_URL_SCHEMES = ("data",)


class GuardedAdapter(RequestsHTTPAdapter):
    """Adapter that sends one request without following redirects: the session permits it and records the answer."""

    def __init__(self, guard: RequestGuard, **options: Any) -> None:
        self._owner = guard
        super().__init__(**options)

    def send(
        self, request: requests.PreparedRequest, *args: Any, proxies: Any = None, **kwargs: Any
    ) -> requests.Response:
        """Send one request once the session permits it; check the answer's length and part, and record it."""
        session = self._owner.session
        parts, url = self._owner.parts, request.url or ""
        # requests allows values of bytes too; yt-dlp sends text.
        headers = cast("MutableMapping[str, str]", request.headers)
        parts.prepare(url, headers)
        session.authorize(url, direct=not select_proxy(request.url, proxies or {}))
        try:
            response = super().send(request, *args, proxies=proxies, **kwargs)
        except Exception:
            # Requests that wait for this site's answer must not wait for this request, whatever error it failed with.
            session.record_no_response()
            raise
        session.record_response(response.status_code, response.headers)
        try:
            if request.method != "HEAD":
                session.announced(_content_length(response))
            parts.check(url, response.status_code, headers, response.headers)
        except (RequestBlocked, WrongPart):
            response.close()
            raise
        return response

    def build_response(self, req: requests.PreparedRequest, resp: urllib3.BaseHTTPResponse) -> requests.Response:
        """Return the response, with a body that counts what is read."""
        response = super().build_response(req, resp)
        session = self._owner.session
        response.raw = MeasuredBody(resp, session.received, session.page_too_large)
        return response

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Create the pool manager for direct connections, whose sockets are checked."""
        super().init_poolmanager(*args, **kwargs)
        self._guard(self.poolmanager, direct=True)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> urllib3.ProxyManager:
        """Return the pool manager for a proxy; its sockets are closed at the deadline."""
        known = proxy in self.proxy_manager
        manager = super().proxy_manager_for(proxy, **kwargs)
        if not known:
            self._guard(manager, direct=False)
        return manager

    def _guard(self, manager: urllib3.PoolManager, *, direct: bool) -> None:
        manager.pool_classes_by_scheme = {
            scheme: _guarded(pool, self._owner, direct) for scheme, pool in manager.pool_classes_by_scheme.items()
        }


def _content_length(response: requests.Response) -> int:
    """Return the Content-Length of a response; 0 if the header is missing or unreadable."""
    told = response.headers.get("Content-Length", "")
    # No real length has so many digits, and Python takes long to read them.
    return int(told) if told.isascii() and told.isdigit() and len(told) < 20 else 0


def _guarded(pool: type[HTTPConnectionPool], guard: RequestGuard, direct: bool) -> type[HTTPConnectionPool]:
    """Return a subclass of a connection pool whose sockets are checked (if direct) and closed at the deadline."""
    kind: Any = pool.ConnectionCls

    class Connection(kind):
        def _new_conn(self) -> socket.socket:
            connection = super()._new_conn()
            guard.session.close_at_deadline(connection)
            if direct:
                guard.session.connected(connection)
            return connection

        def getresponse(self, *args: Any, **kwargs: Any) -> Any:
            guard.session.close_at_deadline(self.sock)  # by now wrapped in TLS, or opened by an earlier session
            return super().getresponse(*args, **kwargs)

    return type(f"Guarded{pool.__name__}", (pool,), {"ConnectionCls": Connection})


class GuardedDownloader(YoutubeDL):
    """A `YoutubeDL` whose requests all go through the guard."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.guard = RequestGuard()
        super().__init__(*args, **kwargs)

    def save_cookies(self) -> None:
        """Do nothing: cookie files are never written, since many threads on many machines share the user's file."""

    def build_request_director(self, handlers: Any, preferences: Any = None) -> RequestDirector:
        """Return a director with the guarded handlers only."""
        del handlers  # yt-dlp's own handlers, some of which bypass the guard
        director = super().build_request_director((GuardedRequestsRH, DataRH), preferences)
        for handler in director.handlers.values():
            handler.guard = self.guard
        return director
