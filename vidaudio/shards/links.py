"""Checks of symbolic links in a local corpus: links inside the corpus are followed, links out of it are refused.

A corpus may come from another person, in an archive that contains links. If such a link were followed, a file of this
machine would be read as a file of the corpus, or deleted by `remove`. So a link that leads out of the corpus is refused
for reading, writing and deleting alike. The corpus's folder itself may be a link, since the user names it. Users who
keep a stage's folder on another disk allow its target in an environment variable, which no corpus can set.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from vidaudio.shards.corruption import CorruptFileError

LINKS_VARIABLE = "VIDAUDIO_LINKED_FOLDERS"


class NotFollowed(CorruptFileError):
    """A file of a corpus that is a link out of the corpus, or not a regular file (a device, a pipe)."""


def check_inside(root: Path, name: str, *, entry: bool = False) -> Path:
    """Return the path of a file below `root`; the file need not exist.

    Args:
        root: Folder of the corpus.
        name: Name that `check_name` has accepted.
        entry: Whether the path is for deleting or replacing the directory entry itself, not the target of a link.

    Raises:
        NotFollowed: When a link in the path leads out of `root` and of the folders that the user allows.
    """
    path = root / name
    looked_at = path.parent if entry and name else path
    if leaves(root, looked_at):
        raise NotFollowed(
            name,
            f"{path} is behind a link to {os.path.realpath(looked_at)}, outside the corpus, and is not followed. Put "
            f"the files themselves there; where the link is your own, allow its target: {LINKS_VARIABLE}=FOLDER",
        )
    return path


def leaves(root: Path, path: Path) -> bool:
    """Return whether `path`, with links followed, lies outside `root` and the folders that the user allows."""
    real = os.path.realpath(path)
    if os.path.islink(real):
        return True  # a cycle of links
    allowed = [os.path.realpath(root), *_allowed_folders()]
    return not any(real == folder or real.startswith(folder.rstrip(os.sep) + os.sep) for folder in allowed)


def _allowed_folders() -> list[str]:
    named = os.environ.get(LINKS_VARIABLE, "").split(os.pathsep)
    return [os.path.realpath(os.path.expanduser(folder)) for folder in named if folder]


def open_regular(path: Path, name: str) -> int:
    """Open a regular file for reading, and return its descriptor; a pipe does not block the call.

    Args:
        path: Path of the file.
        name: Name of the file in the corpus, for the message.

    Raises:
        NotFollowed: When it is not a regular file.
        FileNotFoundError: When it does not exist.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _no_file(path, name)
    return descriptor


def check_regular(path: Path, name: str) -> None:
    """Refuse anything that is neither a file nor a folder; a missing path passes.

    Raises:
        NotFollowed: When it is a device, a pipe or a socket.
    """
    try:
        mode = path.stat().st_mode
    except OSError:
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise _no_file(path, name)


def _no_file(path: Path, name: str) -> NotFollowed:
    return NotFollowed(name, f"{path} is no regular file, and a corpus holds nothing else; delete it")
