"""How s3fs is set up: as many connections as there are readers, and listings read without a guess at a field's form.

Left to itself the driver opens ten connections, so that a store 50 ms away answers no more than two hundred requests a
second, and most of a listing's time goes into working out the form of every file's date, then of its other fields.
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
# As much as the event loop takes from a connection at a time.
PIECE_BYTES = 256 << 10


def s3_options(scheme: str) -> dict[str, Any]:
    """Options for s3fs. What a user's own fsspec configuration says about the same stays as it is.

    Args:
        scheme: Under which the user may have configured it, `s3` or `s3a`.
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
    """Hand on the bytes of an object piece by piece as they come; s3fs would gather all of them, and copy them twice.

    Args:
        fs: s3fs.
        path: Of the object, as s3fs has it.
        offset, length: In bytes; the object may end before.
        write: Is given each piece and its place in the object, in s3fs's own thread.

    Returns:
        Bytes handed on, size of the whole object.

    Raises:
        OSError, BotoCoreError, ClientError: As of s3fs, botocore and aiohttp; some pieces may have come by then.
    """
    bucket, key, _ = fs.split_path(path)
    answer = fs.call_s3("get_object", Bucket=bucket, Key=key, Range=f"bytes={offset}-{offset + length - 1}")
    received = fsspec.asyn.sync(fs.loop, _hand_on, answer["Body"], offset, write)
    # A store that knows no ranges has sent the whole object, and says nothing of one.
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
    """One a process: drivers that share a session are one driver to fsspec, and sessions do not survive a fork."""
    try:
        from aiobotocore.session import AioSession
    except ImportError:
        return None
    session = AioSession()
    session.register_component("response_parser_factory", _parsers())
    _check_listings_quickly(session)
    return session


def _check_listings_quickly(session: Any) -> None:
    """S3 may answer 200 and tell of an error, or break off: the driver reads every answer twice to find that out.

    Of a listing its end tells it.
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
    """aiobotocore's parsers of answers, but for S3 with one that reads the objects of a listing in one go."""
    from aiobotocore.parsers import AioResponseParserFactory, AioRestXMLParser

    class ListingParser(AioRestXMLParser):
        def _handle_structure(self, shape: Any, node: Any) -> dict[str, Any]:
            if shape.name == "Object":
                # Whatever has another form than usual is left to the driver.
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
    """Name and value of one field of a listed object.

    Raises:
        KeyError, ValueError, TypeError: It is not one of the plain ones, or is empty.
    """
    name = element.tag.rpartition("}")[2]
    return name, _PLAIN_FIELDS[name](element.text)


def _text(text: str | None) -> str:
    if text is None:
        raise ValueError("an empty field")
    return text


def parse_time(text: str | float) -> datetime:
    """A time as S3 writes it: ISO 8601 in bodies, RFC 1123 in headers. Whatever else there is, botocore may know."""
    for parse in (datetime.fromisoformat, parsedate_to_datetime) if isinstance(text, str) else ():
        with contextlib.suppress(ValueError):
            return parse(text)
    from botocore.utils import parse_timestamp

    return parse_timestamp(text)


# Of an object in a listing: what S3 says of every one, in the order of its documentation.
_PLAIN_FIELDS: Mapping[str, Callable[[str], Any]] = {
    "Key": _text,
    "LastModified": parse_time,
    "ETag": _text,
    "Size": int,
    "StorageClass": _text,
}
