"""The video files of a folder."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from vidaudio.errors import ManifestError
from vidaudio.text import is_utf8, shown_name

# In order of preference where one name comes with several endings.
VIDEO_EXTENSIONS = (
    ".mp4", ".mkv", ".webm", ".mov", ".m4v", ".avi", ".mpg", ".mpeg", ".ts", ".flv", ".3gp", ".wmv", ".ogv",
)  # fmt: skip
# What a downloader leaves of a video when it is interrupted: one stream without its other half (yt-dlp names it by the
# format's id), a file that was being put together.
LEFTOVER = re.compile(r"\.(f(\d+|hls|dash|https?|m3u8|mss|rtmp|ism|audio|video)(-[\w.=-]+)?|temp|part)$", re.IGNORECASE)
# Files beside a video whose download has not come to its end, by what stands behind the video's own name.
_MARKS_OF_UNFINISHED = (".ytdl", ".aria2")
_UNFINISHED = re.compile(r"\.(part(-Frag\d+)?|ytdl|aria2|crdownload|partial)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class FolderScan:
    """What was found below a folder; paths relative to it, with `/` between, sorted by code point.

    Attributes:
        videos: Files with a video's ending.
        leftovers: Files of downloads that were not finished, which count as no videos.
        hidden: Files with a video's ending whose names begin with a dot (macOS lays `._name.mp4` beside a file).
    """

    videos: tuple[str, ...]
    leftovers: tuple[str, ...]
    hidden: tuple[str, ...]


def scan_videos(folder: str | Path) -> list[str]:
    """Paths of the videos below a folder, as `scan_folder` has them."""
    return list(scan_folder(folder).videos)


def scan_folder(folder: str | Path) -> FolderScan:
    """Find all video files below a folder, and what only looks like one.

    Endings count in any case. Folders whose names begin with a dot are passed over. Links to folders are followed, each
    folder once.

    Raises:
        ManifestError: The folder is missing, is a file, or cannot be read.
    """
    root = Path(folder)
    if not root.is_dir():
        raise ManifestError(f"{root} is a file, not a folder" if root.exists() else f"there is no folder {root}")
    files: list[str] = []
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
                    if not entry.is_dir():
                        files.append(prefix + entry.name)
                    elif not entry.name.startswith("."):
                        waiting.append(f"{prefix}{entry.name}/")
        except OSError as error:
            raise ManifestError(f"the folder {here} cannot be read: {error.strerror}") from error
    return _sorted_out(sorted(files))


def _sorted_out(files: list[str]) -> FolderScan:
    there = set(files)
    videos, leftovers, hidden = [], [], []
    for file in files:
        name = file.rpartition("/")[2]
        if name.startswith("."):
            if has_video_ending(name):
                hidden.append(file)
        elif _UNFINISHED.search(name):
            leftovers.append(file)
        elif has_video_ending(name):
            unfinished = any(file + mark in there for mark in _MARKS_OF_UNFINISHED)
            (leftovers if unfinished or is_leftover(name) else videos).append(file)
    return FolderScan(tuple(videos), tuple(leftovers), tuple(hidden))


def is_leftover(name: str) -> bool:
    """Whether a video file's name is that of a download that was not finished."""
    return LEFTOVER.search(without_video_ending(name)) is not None


def check_folder_name(folder: Path) -> None:
    """Refuse a folder whose path is not UTF-8: no table can hold the paths of its files.

    Raises:
        ManifestError: It is not.
    """
    if not is_utf8(str(folder)):
        raise ManifestError(f"the name of the folder {shown_name(str(folder))} is not UTF-8; rename it")


def has_video_ending(name: str) -> bool:
    """Whether the last ending of a file name or path is one of `VIDEO_EXTENSIONS`, in any case."""
    return PurePosixPath(name).suffix.lower() in VIDEO_EXTENSIONS


def without_video_ending(name: str) -> str:
    """The name or path without its video ending; another ending stays."""
    return name[: -len(PurePosixPath(name).suffix)] if has_video_ending(name) else name
