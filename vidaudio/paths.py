"""Places as people type them: a path of this machine, or the URL of a store.

`Path` makes `s3:/bucket` of `s3://bucket`, and so does a slip of the hand. Taken as a path, that is a folder named
`s3:` here, which nobody means; whoever does writes `./s3:/bucket`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from vidaudio.errors import ManifestError, UsageError

# fsspec schemes whose files no other process can see.
OF_ONE_PROCESS = ("memory",)


# Of a single letter is a drive's name; `simplecache::s3` is one file system on another.
_SCHEME = re.compile(r"((?:[a-z][a-z0-9+.-]+::)*[a-z][a-z0-9+.-]+):/+", re.IGNORECASE)


def url_meant(place: str | os.PathLike[str]) -> str | None:
    """The URL that a place is, also where it lacks a slash; None for a path."""
    text = os.fspath(place)
    match = _SCHEME.match(text)
    if match is None:
        return None
    slashes = "///" if match[1].lower() == "file" else "//"
    return f"{match[1]}:{slashes}{text[match.end() :]}"


def path_here(place: str | os.PathLike[str]) -> Path | None:
    """The path of this machine that a place is, by itself or as a `file:` URL; None for the URL of a store."""
    meant = url_meant(place)
    if meant is None:
        path = Path(place)
        # Of `./s3:/bucket`, too, it makes what others take for a URL.
        return path if url_meant(path) is None else path.absolute()
    return Path(meant[len("file://") :]) if meant.lower().startswith("file:") else None


def local_list(place: str | os.PathLike[str]) -> Path:
    """Where a list of videos, or a manifest, lies.

    Raises:
        ManifestError: In a store, where lists are not read or written.
    """
    path = path_here(place)
    if path is None:
        raise ManifestError(f"lists are local files, and {url_meant(place)} is a URL; name a file of this machine")
    return path


def local_folder(place: str | os.PathLike[str]) -> Path:
    """Where a folder of videos is.

    Raises:
        ManifestError: In a store, which is not searched.
    """
    path = path_here(place)
    if path is None:
        raise ManifestError(
            f"videos are looked for in local folders, and {url_meant(place)} is a URL; name a folder here"
        )
    return path


def local_target(place: str | os.PathLike[str], what: str) -> Path:
    """Where a folder is to be written that no store takes.

    Args:
        place: As it was named.
        what: Is written, such as `exports`.

    Raises:
        UsageError: In a store.
    """
    path = path_here(place)
    if path is None:
        raise UsageError(
            f"{what} are written to folders of this machine, and {url_meant(place)} is a URL; name a folder"
        )
    return path


def check_shared(url: str | os.PathLike[str]) -> None:
    """Check that several processes find the same files at a place.

    Raises:
        UsageError: When each process would find its own files.
    """
    text = os.fspath(url)
    if text.partition("://")[0].rpartition("::")[2] in OF_ONE_PROCESS and "://" in text:
        raise UsageError(
            f"{text} is in the memory of one process, and a corpus is built by several; name a folder, or a store that "
            "all of them reach (s3://...)"
        )
