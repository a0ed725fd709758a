"""Allowlist of the yt-dlp options that a recipe may set: how sites are asked, and nothing else.

yt-dlp has options that write files under names from the web, run programs or load code (`print_to_file`, `netrc_cmd`,
`plugin_dirs` ...), and every release may add more. A recipe may come from another person, so options are allowed one by
one, grouped by kind. Any option that is not in the list is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vidaudio.errors import RecipeError

ALLOWED_BY_KIND: dict[str, frozenset[str]] = {
    "the way to the sites": frozenset(
        {"proxy", "geo_verification_proxy", "source_address", "http_headers", "geo_bypass", "geo_bypass_country"}
        | {"geo_bypass_ip_block", "nocheckcertificate", "prefer_insecure", "legacyserverconnect"}
        | {"client_certificate", "client_certificate_key", "client_certificate_password"}
    ),
    "who asks": frozenset(
        {"cookiefile", "cookiesfrombrowser", "username", "password", "twofactor", "videopassword", "usenetrc"}
        | {"netrc_location", "ap_mso", "ap_username", "ap_password"}
    ),
    "how fast": frozenset(
        {"ratelimit", "throttledratelimit", "sleep_interval", "max_sleep_interval", "sleep_interval_requests"}
        | {"http_chunk_size", "buffersize", "noresizebuffer", "concurrent_fragment_downloads", "extractor_retries"}
    ),
    "what extractors do": frozenset(
        {"extractor_args", "allowed_extractors", "force_generic_extractor", "js_runtimes", "remote_components"}
        | {"dynamic_mpd", "hls_split_discontinuity", "format_sort", "prefer_free_formats"}
    ),
}
ALLOWED_YTDLP_OPTIONS = frozenset().union(*ALLOWED_BY_KIND.values())


def check_allowed(options: Mapping[str, Any]) -> None:
    """Check that a recipe's options for yt-dlp only say how sites are asked.

    Raises:
        RecipeError: When an option is not allowed; names the first such option and the allowed kinds.
    """
    for name in options:
        if name not in ALLOWED_YTDLP_OPTIONS:
            kinds = "; ".join(f"{kind} ({', '.join(sorted(names))})" for kind, names in ALLOWED_BY_KIND.items())
            raise RecipeError(
                f"download.ytdlp: the option {name!r} is not allowed, since options may write files, run programs or "
                f"change what is fetched; a recipe may set {kinds}"
            )
    runtimes = options.get("js_runtimes")
    for name, settings in runtimes.items() if isinstance(runtimes, Mapping) else ():
        if settings:
            raise RecipeError(
                f"download.ytdlp.js_runtimes: {name} is looked for on the PATH; a recipe names no program to run, "
                f"write {name}: {{}}"
            )
