"""Search for the video files of a folder."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from vidaudio.errors import ManifestError
from vidaudio.text import is_utf8, shown_name

# In order of preference if one name has several endings.
VIDEO_EXTENSIONS = (
    ".mp4", ".mkv", ".webm", ".mov", ".m4v", ".avi", ".mpg", ".mpeg", ".ts", ".flv", ".3gp", ".wmv", ".ogv",
)  # fmt: skip
# One stream of a video without its other half, named by the format id, as an interrupted yt-dlp leaves it.
_STREAM = re.compile(r"\.f(\d+|hls|dash|https?|m3u8|mss|rtmp|ism|audio|video)(-[\w.=-]+)?$", re.IGNORECASE)
# A file that was being merged or written.
_TEMPORARY = re.compile(r"\.(temp|part)$", re.IGNORECASE)
_SOUND_EXTENSIONS = (".m4a", ".aac", ".mp3", ".opus", ".ogg", ".oga", ".weba", ".mka", ".flac", ".wav", ".ac3", ".eac3")
# Files next to a video whose download is unfinished, by what follows the video's own name.
_MARKS_OF_UNFINISHED = (".ytdl", ".aria2")
_UNFINISHED = re.compile(r"\.(part(-Frag\d+)?|ytdl|aria2|crdownload|partial)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class FolderScan:
    """The files found below a folder: paths relative to the folder, separated by `/`, sorted by code point.

    Attributes:
        videos: Files with a video's ending.
        leftovers: Files of unfinished downloads, which do not count as videos.
        hidden: Files with a video's ending whose names begin with a dot (macOS writes `._name.mp4` next to a file).
    """

    videos: tuple[str, ...]
    leftovers: tuple[str, ...]
    hidden: tuple[str, ...]


def scan_videos(folder: str | Path) -> list[str]:
    """Return the paths of the videos below a folder, as in `FolderScan`."""
    return list(scan_folder(folder).videos)


def scan_folder(folder: str | Path) -> FolderScan:
    """Find all video files below a folder, and files that only look like videos.

    Endings match in any case. Folders whose names begin with a dot are skipped. Links to folders are followed, each
    folder once.

    Raises:
        ManifestError: When the folder is missing, is a file, or cannot be read.
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
    unfinished_stems = _stems_of_downloads(files)
    videos: list[str] = []
    leftovers: list[str] = []
    hidden: list[str] = []
    for file in files:
        name = file.rpartition("/")[2]
        if name.startswith("."):
            if has_video_ending(name):
                hidden.append(file)
        elif _UNFINISHED.search(name):
            leftovers.append(file)
        elif has_video_ending(name):
            unfinished = any(file + mark in there for mark in _MARKS_OF_UNFINISHED)
            (leftovers if unfinished or _is_leftover(file, unfinished_stems) else videos).append(file)
    return FolderScan(tuple(videos), tuple(leftovers), tuple(hidden))


def _is_leftover(path: str, downloads: set[str]) -> bool:
    """Return whether an unfinished download left a video file behind, by its name and its neighbours.

    Args:
        path: Path of the file, below the folder.
        downloads: Paths without endings of videos that a downloader worked on, from `_stems_of_downloads`.
    """
    name = without_video_ending(path)
    if _TEMPORARY.search(name):
        return True
    stream = _STREAM.search(name)
    if stream is None:
        return False
    return _is_format_id(stream) or name[: stream.start()] in downloads


def _is_format_id(stream: re.Match[str]) -> bool:
    """Return whether a name's `.f...` is surely a format id: a protocol, or three digits, as in YouTube's streams.

    `race.f1.mp4` may simply be the first race: then other files must show that it is a stream.
    """
    return not stream[1].isdecimal() or len(stream[1]) == 3


def _stems_of_downloads(files: list[str]) -> set[str]:
    """Return paths without endings of merged videos, of unfinished downloads, and of streams with a format id."""
    stems = set()
    for file in files:
        finished = _UNFINISHED.sub("", file)
        ending = PurePosixPath(finished).suffix.lower()
        stem = finished[: -len(ending)] if ending in (*VIDEO_EXTENSIONS, *_SOUND_EXTENSIONS) else finished
        stem = _TEMPORARY.sub("", stem)
        stream = _STREAM.search(stem)
        if finished != file or (stream is None and ending in VIDEO_EXTENSIONS):
            stems.add(stem if stream is None else stem[: stream.start()])
        elif stream is not None and ending and (_is_format_id(stream) or ending in _SOUND_EXTENSIONS):
            stems.add(stem[: stream.start()])
    return stems


def check_folder_name(folder: Path) -> None:
    """Refuse a folder whose path is not UTF-8: no table can hold the paths of its files.

    Raises:
        ManifestError: When the path is not UTF-8.
    """
    if not is_utf8(str(folder)):
        raise ManifestError(f"the name of the folder {shown_name(str(folder))} is not UTF-8; rename it")


def has_video_ending(name: str) -> bool:
    """Return whether the last ending of a file name or path is one of `VIDEO_EXTENSIONS`, in any case."""
    return PurePosixPath(name).suffix.lower() in VIDEO_EXTENSIONS


def without_video_ending(name: str) -> str:
    """Return the name or path without its video ending; another ending is kept."""
    return name[: -len(PurePosixPath(name).suffix)] if has_video_ending(name) else name
