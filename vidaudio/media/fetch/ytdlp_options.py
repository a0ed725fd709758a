"""Preflight checks of the yt-dlp options of a recipe, before anything is fetched.

yt-dlp accepts any key and ignores unknown ones, so a mistyped `proxi` would fetch without a proxy.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import ipaddress
import re
import socket
from collections.abc import Iterable
from pathlib import Path

from vidaudio.errors import RecipeError
from vidaudio.media.fetch.types import FetchOptions
from vidaudio.media.fetch.ytdlp_allowed import ALLOWED_YTDLP_OPTIONS, check_allowed

# Options that must be text; with any other type, yt-dlp would fail in the middle of a run.
_TEXTS = frozenset({"proxy", "geo_verification_proxy", "source_address", "cookiefile", "username", "password"})
# Options that have another name on yt-dlp's command line.
_ELSEWHERE = {
    "user_agent": "it goes into http_headers, as in {User-Agent: ...}",
    "referer": "it goes into http_headers, as in {Referer: ...}",
    "add_headers": "they go into http_headers, as in {Accept-Language: ...}",
    "cookies": "the file goes into cookiefile",
    "cookies_from_browser": "the browser goes into cookiesfrombrowser, as in [firefox]",
}
_PROXIES = re.compile(r"(https?|socks4a?|socks5h?)://\S+")


def check_ytdlp(options: FetchOptions, *, files_are_here: bool = True) -> None:
    """Check that yt-dlp accepts these options and extractors.

    Args:
        options: Options as recipes have them.
        files_are_here: False if other machines read the files and send the requests.

    Raises:
        RecipeError: When an option, value or extractor is not accepted; names it, and the nearest known name.
    """
    for name, value in options.ytdlp.items():
        if name not in _known_options():
            hint = _ELSEWHERE.get(name) or _nearest(name, _usable_options())
            raise RecipeError(f"download.ytdlp: yt-dlp has no option {name} ({hint})")
        if name in _TEXTS and value is not None and not isinstance(value, str):
            raise RecipeError(f"download.ytdlp.{name} wants text, not {_shown(name, value)}")
    check_allowed(options.ytdlp)
    proxy = options.ytdlp.get("proxy")
    if proxy and not _PROXIES.fullmatch(proxy):
        raise RecipeError("download.ytdlp.proxy wants an address such as http://host:8080 or socks5h://host:1080")
    _check_source_address(options.ytdlp.get("source_address"), is_here=files_are_here)
    cookies = options.ytdlp.get("cookiefile")
    if cookies and files_are_here and not Path(cookies).is_file():
        raise RecipeError(f"download.ytdlp.cookiefile: there is no file {cookies}")
    for name in options.extractors:
        _check_extractor(name)
    _try(options, with_cookies=files_are_here)


def _check_source_address(address: str | None, *, is_here: bool) -> None:
    """Check that this machine has the address: otherwise every source would fail as if its site were unreachable."""
    if address is None:
        return
    try:
        family = socket.AF_INET6 if ipaddress.ip_address(address).version == 6 else socket.AF_INET
    except ValueError:
        raise RecipeError(
            f"download.ytdlp.source_address wants an IP address of this machine, not {address!r}"
        ) from None
    if not is_here:
        return
    try:
        with socket.socket(family) as own:
            own.bind((address, 0))
    except OSError as error:
        raise RecipeError(
            f"download.ytdlp.source_address: this machine cannot send from {address} ({error.strerror})"
        ) from None


def check_site_names(names: Iterable[str], extractors: Iterable[str] = ()) -> None:
    """Check that a rate limit of its own could apply to each of these sites: hosts, or yt-dlp's names of sites.

    Raises:
        RecipeError: When a name is neither.
    """
    bare = [name for name in names if "." not in name and ":" not in name]
    if not bare:
        return
    from yt_dlp.extractor import gen_extractor_classes

    classes = [*gen_extractor_classes(), *map(_check_extractor, extractors)]
    known = {extractor.IE_NAME.partition(":")[0].lower() for extractor in classes}
    for name in bare:
        if name not in known:
            raise RecipeError(
                f"download.rate.sites: yt-dlp has no site {name} ({_nearest(name, sorted(known))}); "
                "other sites go by their host, as in media.example.org"
            )


@functools.cache
def _known_options() -> frozenset[str]:
    import yt_dlp
    from yt_dlp.downloader.common import FileDownloader

    documented = re.findall(r"^ {4}(\w+):", f"{yt_dlp.YoutubeDL.__doc__}\n{FileDownloader.__doc__}", re.MULTILINE)
    return frozenset({*yt_dlp.parse_options([]).ydl_opts, *documented})


def _usable_options() -> list[str]:
    return sorted(_known_options() & ALLOWED_YTDLP_OPTIONS)


def _shown(name: str, value: object) -> str:
    """Return a value for a message; a number that was meant as a password is not repeated."""
    return f"a {type(value).__name__}" if "password" in name else repr(value)


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=2)
    return f"did you mean {' or '.join(near)}?" if near else "its names are those of yt_dlp.YoutubeDL's parameters"


def _check_extractor(name: str) -> type:
    from yt_dlp.extractor.common import InfoExtractor

    module_name, _, class_name = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise RecipeError(f"download.extractors: {module_name} cannot be imported here: {error}") from error
    found = getattr(module, class_name, None)
    if isinstance(found, type) and issubclass(found, InfoExtractor):
        return found
    there = [key for key, kind in vars(module).items() if isinstance(kind, type) and issubclass(kind, InfoExtractor)]
    near = difflib.get_close_matches(class_name, there, n=1, cutoff=0.3)
    hint = f"did you mean {near[0]}?" if near else "it has no extractors at all"
    raise RecipeError(f"download.extractors: {module_name} has no yt-dlp extractor {class_name} ({hint})")


def _try(options: FetchOptions, *, with_cookies: bool) -> None:
    """Make a downloader as a worker will, since yt-dlp may refuse a value or fail to read the cookies."""
    from yt_dlp.cookies import CookieLoadError
    from yt_dlp.utils import YoutubeDLError

    from vidaudio.media.fetch.ytdlp import make_downloader

    try:
        downloader = make_downloader(options)
        try:
            if with_cookies and {"cookiefile", "cookiesfrombrowser"} & set(options.ytdlp):
                downloader.cookiejar  # noqa: B018  # read on first use
        finally:
            downloader.close()
    except (ValueError, TypeError, KeyError, AttributeError, YoutubeDLError, CookieLoadError) as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise RecipeError(f"download.ytdlp: yt-dlp refuses these options: {text}") from error
