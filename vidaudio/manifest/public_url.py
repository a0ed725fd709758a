"""Public forms of URLs, without secrets, for sources, messages and tables that are passed on.

A URL may hold a password (`https://user:password@host/`) or a signature (`?X-Amz-Signature=...`). The fetcher needs
them and reads them from the manifest's column `url`. Everything else that is derived from a URL is derived from its
public form. Two signed URLs of one video differ only in their signatures, so they have the same public form.
"""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import PurePosixPath
from urllib.parse import quote, unquote, unquote_plus

# Names of signatures and related parameters: they never distinguish one video from another.
_SIGNATURES = re.compile(
    r"x-(amz|goog|oss|cos|obs|bce|ms|tos)-.+|x-oss-process-sign|q-(sign|ak|header|url-param|key|signature).*"
    r"|(aws|google|oss)?accesskeyid|googleaccessid|key-pair-id|sig|sign|signature|hmac|hdn(ts|ea|tl)|lsig|s_token"
    r"|akamai.?token|verify.?token|cdn.?token|wssecret|txsecret|auth_sig|auth_?signature|oauth_.+|hash_?sign"
)
# Names of keys: their values are secret, and in some URLs only the value identifies the video.
_CREDENTIALS = re.compile(
    r".*(token|passw|passphrase|secret|credential|sess(ion)?_?-?id|session_?-?key).*"
    r"|(.*[_-])?key|(access|api|auth|licen[cs]e|private|resource|rl|secret|share|sign|stream)key"
    r"|sid|session|ticket|pw|pwd|pass|auth|authorization|jwt|bearer"
)
# Hashes, which are signatures if the URL also has an expiry time.
_HASHES = re.compile(r"md5|sha1|sha256|hash|h|st")
_EXPIRY = re.compile(r"expire[sd]?|expiry|expiration|exp|e|valid(to|until)")
# Parameters that a signature covers or limits; in a URL without a signature they are ordinary parameters.
_COMPANIONS = re.compile(
    r"expire[sd]?|expiry|expiration|exp|e|t|ts|st|se|sp|sv|sr|ss|srt|spr|sip|skoid|sktid|skt|ske|sks|skv|saoid|policy"
    r"|nonce|date|timestamp|time|valid(from|to|until)|nva|nvb|acl|algorithm|wstime|txtime|ip"
)
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
# Akamai's signed path, whose list of patterns may itself hold slashes.
_SIGNED_PATH = re.compile(r"/[a-z0-9_-]+=(?:[^?#~]{0,1000}~){1,20}hmac=[^/?#]*", re.IGNORECASE)
# A URL in the path of another URL, as in archives.
_USER_IN_PATH = re.compile(r"(?<=/)([a-z][a-z0-9+.-]*:/{1,2})[^/?#@]*:[^/?#@]*@", re.IGNORECASE)
# Nesting depth of URLs inside the parameters of URLs.
_DEEPEST = 3
_QUERY_OR_FRAGMENT = re.compile(r"([?#])([^?#]*)")
# A slash in a password would end the host early, and the password's beginning would look like a port.
_USER = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*:)?//(?:[^/?#]*@|[^/?#@\[\]]*:(?!\d*(?:[/?#]|$))[^@]*@)")
# A path or file name in a parameter named `key`: S3 calls the names of objects keys.
_FILE_NAME = re.compile(r".*(/|%2f|\.[a-z][a-z0-9]{1,4}$).*", re.IGNORECASE)
_IDENTIFYING = frozenset({"v", "id", "vid", "video", "videoid", "video_id", "file", "filename", "name", "path", "clip"})
_HASH_LENGTH = 10


def public_url(url: str) -> str:
    """Return a URL without password, keys and signatures; a URL without secrets is returned as it is.

    If only a key distinguishes the URL's video from others of its site, a hash of the key replaces it. URLs in the
    values of parameters are treated the same way.
    """
    return _public(url, _DEEPEST)


def _public(url: str, depth: int) -> str:
    bare = _USER.sub(lambda match: f"{match[1] or ''}//", url)
    own = re.split(r"[?#]", bare, maxsplit=1)[0]
    removed: list[str] = []
    head = _path_without_secrets(own, removed)
    public = head + "".join(
        _without_secrets(mark, text, removed, depth) for mark, text in _QUERY_OR_FRAGMENT.findall(bare[len(own) :])
    )
    if removed and not _names_a_video(public):
        digest = base64.b32encode(hashlib.sha256("&".join([head, *removed]).encode("utf-8", "surrogatepass")).digest())
        public += f"~{digest.decode().lower()[:_HASH_LENGTH]}"
    return public


def public_source(source: str) -> str:
    """Return a source (`site:video`) without the secrets of a URL in it."""
    site, colon, video = source.partition(":")
    return f"{site}{colon}{public_url(video)}" if _URL.match(video) else source


def _path_without_secrets(head: str, removed: list[str]) -> str:
    """Return the part of a URL before its query, without secret parameters (`;jsessionid=...`) and signed segments."""
    head = _USER_IN_PATH.sub(r"\1", head)
    if "=" not in head:
        return head
    pieces = re.split(r"([/;])", _SIGNED_PATH.sub("", head))
    kept = pieces[:1]
    for mark, piece in zip(pieces[1::2], pieces[2::2], strict=True):
        name, equals, _ = piece.partition("=")
        name = unquote_plus(name).strip().lower()
        if equals and (_SIGNATURES.fullmatch(name) or _CREDENTIALS.fullmatch(name)):
            removed.append(piece)
        else:
            kept += [mark, piece]
    return "".join(kept)


def _without_secrets(mark: str, text: str, removed: list[str], depth: int) -> str:
    """Return a query or fragment without its secret parameters; credentials among them are added to `removed`."""
    if "=" not in text:
        return mark + text
    pieces = re.split(r"([&;])", text)
    parameters = [(pieces[n - 1] if n else "", pieces[n]) for n in range(0, len(pieces), 2)]
    names = [unquote_plus(p.partition("=")[0]).strip().lower().removesuffix("[]") for _, p in parameters]
    hashed = any(map(_HASHES.fullmatch, names)) and any(map(_EXPIRY.fullmatch, names))
    signed = hashed or any(map(_SIGNATURES.fullmatch, names))
    kept: list[str] = []
    for (separator, parameter), name in zip(parameters, names, strict=True):
        if _SIGNATURES.fullmatch(name) or (signed and _COMPANIONS.fullmatch(name)):
            continue
        if hashed and (_HASHES.fullmatch(name) or _EXPIRY.fullmatch(name)):
            continue
        value = parameter.partition("=")[2]
        if _CREDENTIALS.fullmatch(name) and not (name == "key" and _FILE_NAME.fullmatch(value)):
            removed += [] if signed else [parameter]
            continue
        kept.append((separator if kept else "") + _with_public_value(parameter, depth))
    return mark + "".join(kept) if kept else ""


def _with_public_value(parameter: str, depth: int) -> str:
    """Return a parameter; if its value is a URL, with the value in its public form."""
    name, equals, value = parameter.partition("=")
    inner = unquote(value)
    if not depth or not _URL.match(inner):
        return parameter
    public = _public(inner, depth - 1)
    if public == inner:
        return parameter
    return f"{name}{equals}{public if inner == value else quote(public, safe='')}"


def _names_a_video(public: str) -> bool:
    """Return whether the rest of a URL identifies a video among those of its site: by a file name, number or id."""
    head, _, query = public.partition("?")
    last = PurePosixPath(re.sub(r"^[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*", "", head.partition("#")[0])).name
    if PurePosixPath(last).suffix or any(character.isdigit() for character in last):
        return True
    parameters = [parameter.partition("=") for parameter in re.split(r"[&;#]", query)]
    return any(name.lower() in _IDENTIFYING or re.search(r"\d", value) for name, _, value in parameters if value)
