"""Checks of the names of a corpus's files, applied before they become paths.

Tables, descriptions and indexes name files, and a corpus may have been made by another person. A valid name is
relative, has no `..`, and contains nothing that has a special meaning to a file system or a terminal.
"""

from __future__ import annotations

import re

from vidaudio.errors import CorpusError

MAX_PART_BYTES = 255
MAX_NAME_BYTES = 1024
_DRIVE = re.compile(r"[A-Za-z]:")


def is_name_part(part: str) -> bool:
    """Return whether a text can be the name of one file or folder of a corpus."""
    if part in ("", ".", "..") or "/" in part or "\\" in part or not part.isprintable():
        return False
    try:
        return len(part.encode()) <= MAX_PART_BYTES
    except UnicodeEncodeError:
        return False


def is_tar_name(name: object) -> bool:
    """Return whether a value from a table or an index can be the name of a tar in the same folder."""
    return isinstance(name, str) and name.endswith(".tar") and not name.startswith(".") and is_name_part(name)


def check_name(name: str, corpus: str) -> str:
    """Return a name below a corpus's folder unchanged if it is valid; the empty name is the folder itself.

    Args:
        name: Name of a file or folder: parts joined by `/`.
        corpus: Name of the corpus in messages.

    Raises:
        CorpusError: When the name is invalid or could lead out of the corpus.
    """
    if name == "":
        return name
    # A trailing slash names a folder.
    parts = name.removesuffix("/").split("/")
    if not all(map(is_name_part, parts)) or _DRIVE.match(name) or len(name.encode()) > MAX_NAME_BYTES:
        raise CorpusError(f"{name[:200]!r} is not a name inside the corpus {corpus}")
    return name
