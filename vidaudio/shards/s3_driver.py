"""Setup of s3fs: as many connections as there are readers, and fast parsing of listings.

By default the driver opens ten connections, so that a store 50 ms away answers at most two hundred requests a second.
Most of the time of a listing goes into guessing the format of every file's date, then of its other fields.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

import fsspec
import fsspec.asyn

CONNECTIONS = 64
# Bytes that the event loop reads from a connection at a time.
PIECE_BYTES = 256 << 10


def s3_options(scheme: str) -> dict[str, Any]:
    """Return options for s3fs. The user's own fsspec configuration takes precedence.

    Args:
        scheme: Scheme under which the user may have configured the driver, `s3` or `s3a`.
    """
    configured = fsspec.config.conf.get(scheme, {})
    options: dict[str, Any] = {
        "config_kwargs": {"max_pool_connections": CONNECTIONS, **configured.get("config_kwargs", {})}
    }
    if not {"session", "profile"} & configured.keys():
        options["session"] = _session(os.getpid())
    return options


def receive_range(
    fs: Any, path: str, offset: int, length: int, write: Callable[[bytes, int], object]
) -> tuple[int, int]:
    """Pass on the bytes of an object piece by piece as they arrive; s3fs would collect them all and copy them twice.

    Args:
        fs: The s3fs file system.
        path: Path of the object, in the form of s3fs.
        offset: First byte of the range.
        length: Length of the range in bytes; the object may end before.
        write: Called with each piece and its place in the object, in s3fs's own thread.

    Returns:
        Number of bytes passed on, size of the whole object in bytes.

    Raises:
        OSError, BotoCoreError, ClientError: When s3fs, botocore or aiohttp fails; some pieces may have been passed on.
    """
    bucket, key, _ = fs.split_path(path)
    answer = fs.call_s3("get_object", Bucket=bucket, Key=key, Range=f"bytes={offset}-{offset + length - 1}")
    received = fsspec.asyn.sync(fs.loop, _hand_on, answer["Body"], offset, write)
    # A store without support for ranges has sent the whole object, without a Content-Range.
    size = answer.get("ContentRange", "").rpartition("/")[2]
    return received, int(size) if size.isdigit() else received


async def _hand_on(body: Any, offset: int, write: Callable[[bytes, int], object]) -> int:
    place = offset
    try:
        while piece := await body.read(PIECE_BYTES):
            write(piece, place)
            place += len(piece)
    finally:
        body.close()
    return place - offset


@functools.lru_cache(maxsize=1)
def _session(_process_id: int) -> Any:
    """Return one session per process, since sessions do not survive a fork.

    fsspec treats drivers that share a session as one driver.
    """
    try:
        from aiobotocore.session import AioSession
    except ImportError:
        return None
    session = AioSession()
    session.register_component("response_parser_factory", _parsers())
    _check_listings_quickly(session)
    return session


def _check_listings_quickly(session: Any) -> None:
    """Make the driver check a listing by its end only.

    S3 may answer 200 and report an error in the body, or break off. To detect that, the driver parses every answer
    twice. For a listing, the end of the body is enough.
    """
    from botocore import handlers

    thorough = getattr(handlers, "_handle_200_error", None)
    if thorough is None:
        return

    def check(operation_model: Any, response_dict: Any, **others: Any) -> None:
        listing = operation_model.name == "ListObjectsV2" and isinstance(response_dict.get("body"), bytes)
        if not (listing and response_dict["body"].rstrip().endswith(b"</ListBucketResult>")):
            thorough(operation_model=operation_model, response_dict=response_dict, **others)

    session.unregister("before-parse.s3.*", thorough)
    session.register("before-parse.s3.*", check)


def _parsers() -> Any:
    """Return aiobotocore's parsers of answers; the one for S3 reads the objects of a listing directly."""
    from aiobotocore.parsers import AioResponseParserFactory, AioRestXMLParser

    class ListingParser(AioRestXMLParser):
        def _handle_structure(self, shape: Any, node: Any) -> dict[str, Any]:
            if shape.name == "Object":
                # Objects of an unusual form are left to the driver.
                with contextlib.suppress(KeyError, ValueError, TypeError):
                    return dict(map(_field, node))
            return super()._handle_structure(shape, node)

    class Parsers(AioResponseParserFactory):
        def create_parser(self, protocol_name: str) -> Any:
            if protocol_name == "rest-xml":
                return ListingParser(timestamp_parser=parse_time)
            return super().create_parser(protocol_name)

    return Parsers()


def _field(element: Any) -> tuple[str, Any]:
    """Return the name and value of one field of a listed object.

    Raises:
        KeyError, ValueError, TypeError: When the field is not one of `_PLAIN_FIELDS`, or is empty.
    """
    name = element.tag.rpartition("}")[2]
    return name, _PLAIN_FIELDS[name](element.text)


def _text(text: str | None) -> str:
    if text is None:
        raise ValueError("an empty field")
    return text


def parse_time(text: str | float) -> datetime:
    """Return a time that S3 wrote: ISO 8601 in bodies, RFC 1123 in headers. Other forms are left to botocore."""
    if isinstance(text, str):
        for parse in (datetime.fromisoformat, parsedate_to_datetime):
            with contextlib.suppress(ValueError):
                return parse(text)
    from botocore.utils import parse_timestamp

    return parse_timestamp(text)


# Fields that S3 states of every object in a listing, in the order of its documentation.
_PLAIN_FIELDS: Mapping[str, Callable[[str], Any]] = {
    "Key": _text,
    "LastModified": parse_time,
    "ETag": _text,
    "Size": int,
    "StorageClass": _text,
}
