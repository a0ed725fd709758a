"""URLs without their secrets: what a list's URL may say in a source, a message, a table that travels.

A URL may hold a password (`https://user:password@host/`) or a signature (`?X-Amz-Signature=...`). The fetcher needs
them and reads them from the manifest's column `url`. Everything else that is made of a URL is made of this form of it.
Two signed URLs of one video differ in their signatures alone, so they have one public form.
"""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import PurePosixPath
from urllib.parse import unquote_plus

# Names of signatures and what belongs to them: they never tell one video from another.
_SIGNATURES = re.compile(
    r"x-(amz|goog|oss|cos|obs|bce|ms|tos)-.+|x-oss-process-sign|q-(sign|ak|header|url-param|key|signature).*"
    r"|(aws|google|oss)?accesskeyid|googleaccessid|key-pair-id|sig|sign|signature|hmac|hdn(ts|ea|tl)|lsig|s_token"
    r"|akamai.?token|verify.?token|cdn.?token|wssecret|txsecret|auth_sig|auth_?signature|oauth_.+|hash_?sign"
)
# Names of keys: what they hold is secret, and in some URLs it is also all that names the video.
_CREDENTIALS = re.compile(
    r".*(token|password|passwd|passphrase|secret|credentials?|apikey|api_key|api-key|session_?id|session_?key|auth_?key)"
    r"|key|pw|pwd|pass|auth|authorization|jwt|bearer"
)
# What a signature covers or limits; in a URL without a signature these are ordinary parameters.
_COMPANIONS = re.compile(
    r"expire[sd]?|expiry|expiration|exp|e|t|ts|st|se|sp|sv|sr|ss|srt|spr|sip|skoid|sktid|skt|ske|sks|skv|saoid|policy"
    r"|nonce|date|timestamp|time|valid(from|to|until)|nva|nvb|acl|algorithm|wstime|txtime|ip"
)
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_QUERY_OR_FRAGMENT = re.compile(r"([?#])([^?#]*)")
# A password with a slash in it ends the host early, and makes a port of its beginning.
_USER = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*:)?//(?:[^/?#]*@|[^/?#@\[\]]*:(?!\d*(?:[/?#]|$))[^@]*@)")
# A path or the name of a file under the name of a key: S3 calls the names of objects so.
_FILE_NAME = re.compile(r".*(/|%2f|\.[a-z][a-z0-9]{1,4}$).*", re.IGNORECASE)
_IDENTIFYING = frozenset({"v", "id", "vid", "video", "videoid", "video_id", "file", "filename", "name", "path", "clip"})
_HASH_LENGTH = 10


def public_url(url: str) -> str:
    """Return a URL without password, keys and signatures; one that has none of them is returned as it is.

    Where a key is all that tells a URL's video from others of its site, a hash of the key takes its place.
    """
    bare = _USER.sub(lambda match: f"{match[1] or ''}//", url)
    head = re.split(r"[?#]", bare, maxsplit=1)[0]
    removed: list[str] = []
    public = head + "".join(
        _without_secrets(mark, text, removed) for mark, text in _QUERY_OR_FRAGMENT.findall(bare[len(head) :])
    )
    if removed and not _names_a_video(public):
        digest = base64.b32encode(hashlib.sha256("&".join([head, *removed]).encode("utf-8", "surrogatepass")).digest())
        public += f"~{digest.decode().lower()[:_HASH_LENGTH]}"
    return public


def public_source(source: str) -> str:
    """Return a source (`site:video`) without the secrets of a URL in it."""
    site, colon, video = source.partition(":")
    return f"{site}{colon}{public_url(video)}" if _URL.match(video) else source


def _without_secrets(mark: str, text: str, removed: list[str]) -> str:
    """A query or a fragment without its secret parameters; the credentials among them are added to `removed`."""
    if "=" not in text:
        return mark + text
    pieces = re.split(r"([&;])", text)
    parameters = [(pieces[n - 1] if n else "", pieces[n]) for n in range(0, len(pieces), 2)]
    names = [unquote_plus(parameter.partition("=")[0]).strip().lower() for _, parameter in parameters]
    signed = any(_SIGNATURES.fullmatch(name) for name in names)
    kept = []
    for (separator, parameter), name in zip(parameters, names, strict=True):
        if _SIGNATURES.fullmatch(name) or (signed and _COMPANIONS.fullmatch(name)):
            continue
        value = parameter.partition("=")[2]
        if _CREDENTIALS.fullmatch(name) and not (name == "key" and _FILE_NAME.fullmatch(value)):
            removed += [] if signed else [parameter]
            continue
        kept.append((separator if kept else "") + parameter)
    return mark + "".join(kept) if kept else ""


def _names_a_video(public: str) -> bool:
    """Whether what is left of a URL tells one video of a site from another: a file's name, a number, an id."""
    head, _, query = public.partition("?")
    last = PurePosixPath(re.sub(r"^[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*", "", head.partition("#")[0])).name
    if PurePosixPath(last).suffix or any(character.isdigit() for character in last):
        return True
    parameters = [parameter.partition("=") for parameter in re.split(r"[&;#]", query)]
    return any(name.lower() in _IDENTIFYING or re.search(r"\d", value) for name, _, value in parameters if value)
