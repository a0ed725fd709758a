"""Symbolic links in a local corpus: followed inside it, never out of it.

A corpus may come from somebody else, in an archive that holds links. Followed, such a link would have a file of this
machine read as if it were the corpus's, or deleted by `remove`. So a link that leads out of the corpus is refused, for
reading, writing and deleting alike. The corpus's folder itself may be a link, since the user names it. Whoever keeps a
stage's folder on another disk says where links may lead: in the environment, where no corpus can say it.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from vidaudio.shards.corruption import CorruptFileError

LINKS_VARIABLE = "VIDAUDIO_LINKED_FOLDERS"


class NotFollowed(CorruptFileError):
    """A file of a corpus is a link out of it, or no regular file: a device, a pipe."""


def check_inside(root: Path, name: str, *, entry: bool = False) -> Path:
    """Return the path of a file below `root`, which may not exist.

    Args:
        root: The corpus's folder.
        name: A name that `check_name` has passed.
        entry: Only the directory entry is meant, not what a link under that name leads to: to delete or replace it.

    Raises:
        NotFollowed: A link on the way leads out of `root` and of the folders that the user allows.
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
    """Whether `path`, links followed, lies outside `root` and the folders that the user allows."""
    real = os.path.realpath(path)
    if os.path.islink(real):
        return True  # a circle of links
    allowed = [os.path.realpath(root), *_allowed_folders()]
    return not any(real == folder or real.startswith(folder.rstrip(os.sep) + os.sep) for folder in allowed)


def _allowed_folders() -> list[str]:
    named = os.environ.get(LINKS_VARIABLE, "").split(os.pathsep)
    return [os.path.realpath(os.path.expanduser(folder)) for folder in named if folder]


def open_regular(path: Path, name: str) -> int:
    """Open a file for reading, without waiting for the other end of what turns out to be a pipe.

    Args:
        path: Of the file.
        name: In the corpus.

    Raises:
        NotFollowed: It is no regular file.
        FileNotFoundError: It does not exist.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _no_file(path, name)
    return descriptor


def check_regular(path: Path, name: str) -> None:
    """Refuse what is neither a file nor a folder; what does not exist passes.

    Raises:
        NotFollowed: It is a device, a pipe or a socket.
    """
    try:
        mode = path.stat().st_mode
    except OSError:
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise _no_file(path, name)


def _no_file(path: Path, name: str) -> NotFollowed:
    return NotFollowed(name, f"{path} is no regular file, and a corpus holds nothing else; delete it")
