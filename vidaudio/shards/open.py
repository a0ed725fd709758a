"""Opening a store by its URL: a local folder, or an object store through fsspec."""

from __future__ import annotations

import os
from pathlib import Path

from vidaudio.errors import UsageError
from vidaudio.paths import url_meant
from vidaudio.shards.store import LocalStore, Store


def open_store(url: str | os.PathLike[str]) -> Store:
    """Return the store at a local path or an fsspec URL (`s3://bucket/corpus`, `memory://corpus`).

    Raises:
        UsageError: When it is not a valid place: a URL with a missing slash, or one that no driver opens.
    """
    text = os.fspath(url)
    meant = url_meant(text)
    if meant is not None and "://" not in text:
        raise UsageError(f"{text} lacks a slash: {meant} is a URL (a folder here of that name is ./{text})")
    if "://" not in text or text.startswith(("file://", "local://")):
        return LocalStore(Path(text.removeprefix("file://").removeprefix("local://")).expanduser().absolute())
    # Imported here because the two modules import each other.
    from vidaudio.shards.remote import RemoteStore

    return RemoteStore(text)
