"""How s3fs is set up: as many connections as there are readers, and times read without a guess at their form.

Left to itself the driver opens ten connections, so that a store 50 ms away answers no more than two hundred requests a
second, and most of a listing's time goes into working out the form of every file's date.
"""

from __future__ import annotations

import contextlib
import functools
import os
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

import fsspec

CONNECTIONS = 64


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


@functools.lru_cache(maxsize=1)
def _session(_process_id: int) -> Any:
    """One a process: drivers that share a session are one driver to fsspec, and sessions do not survive a fork."""
    try:
        from aiobotocore.session import AioSession
    except ImportError:
        return None
    session = AioSession()
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=parse_time)
    return session


def parse_time(text: str | float) -> datetime:
    """A time as S3 writes it: ISO 8601 in bodies, RFC 1123 in headers. Whatever else there is, botocore may know."""
    for parse in (datetime.fromisoformat, parsedate_to_datetime) if isinstance(text, str) else ():
        with contextlib.suppress(ValueError):
            return parse(text)
    from botocore.utils import parse_timestamp

    return parse_timestamp(text)
