"""The video files of a folder."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

from vidaudio.errors import ManifestError

# In order of preference where one name comes with several endings.
VIDEO_EXTENSIONS = (
    ".mp4", ".mkv", ".webm", ".mov", ".m4v", ".avi", ".mpg", ".mpeg", ".ts", ".flv", ".3gp", ".wmv", ".ogv",
)  # fmt: skip


def scan_videos(folder: str | Path) -> list[str]:
    """Paths of all video files below a folder, relative to it, with `/` between, sorted by code point.

    Endings count in any case. Names that begin with a dot are passed over (macOS lays `._name.mp4` beside a file).
    Links to folders are followed, each folder once.

    Raises:
        ManifestError: The folder is missing, is a file, or cannot be read.
    """
    root = Path(folder)
    if not root.is_dir():
        raise ManifestError(f"{root} is a file, not a folder" if root.exists() else f"there is no folder {root}")
    found: list[str] = []
    seen: set[tuple[int, int]] = set()
    waiting = [""]
    while waiting:
        prefix = waiting.pop()
        here = root / prefix
        try:
            status = here.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(here) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name):
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir():
                        waiting.append(f"{prefix}{entry.name}/")
                    elif has_video_ending(entry.name):
                        found.append(prefix + entry.name)
        except OSError as error:
            raise ManifestError(f"the folder {here} cannot be read: {error.strerror}") from error
    return sorted(found)


def has_video_ending(name: str) -> bool:
    """Whether the last ending of a file name or path is one of `VIDEO_EXTENSIONS`, in any case."""
    return PurePosixPath(name).suffix.lower() in VIDEO_EXTENSIONS


def without_video_ending(name: str) -> str:
    """The name or path without its video ending; another ending stays."""
    return name[: -len(PurePosixPath(name).suffix)] if has_video_ending(name) else name
