"""Checks of downloaded files: whether they are media, and complete according to their own headers.

Servers answer 200 with an error page, with JSON or with half a body. Decoding would report that as a fault of the
video. Detected here, it is a fault of the transfer, and a later transfer may succeed. Packets are read; nothing is
decoded.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av

from vidaudio.media.container import main_streams, open_media, start_time
from vidaudio.media.fetch.declared_size import ends_inside, missing_bytes
from vidaudio.text import first_line

# How far a header may exceed the last packet: containers round, and tracks end at different times.
TOLERANCE_SECONDS = 1.0
TOLERANCE_SHARE = 0.05
# Containers whose header states a duration; for others, libavformat estimates a duration from rate and size.
_STATE_DURATION = frozenset({"mp4", "matroska", "avi", "flv", "flac", "asf"})
_HEAD_BYTES = 1024
_HTML = (b"<!doctype html", b"<html", b"<head", b"<body", b"<script", b"<title")


@dataclass(frozen=True, slots=True)
class MediaFault:
    """Fault of a downloaded file.

    Attributes:
        message: Description for people.
        is_certain: True if the file contradicts itself. Otherwise it is only suspicious, and a second transfer decides.
        seconds_there: Time that all its tracks cover, in seconds from the file's time 0. If the only fault is a track
            without packets: the end of the other track. None if the file is not media.
        seconds_announced: Duration that the header states; None if it states none.
    """

    message: str
    is_certain: bool = True
    seconds_there: float | None = None
    seconds_announced: float | None = None

    def holds(self, end_seconds: float | None) -> bool:
        """Return whether the file holds a clip that ends at `end_seconds` of the file (None: at the file's end)."""
        if self.seconds_there is None:
            return False
        if not self.is_certain:
            return True
        if end_seconds is None:
            announced = self.seconds_announced or 0.0
            return self.seconds_there > 0 and self.seconds_there >= (1 - TOLERANCE_SHARE) * announced > 0
        return self.seconds_there >= end_seconds - TOLERANCE_SECONDS / 10


def find_fault(path: Path) -> MediaFault | None:
    """Return the fault of a downloaded file; None if it has none.

    Raises:
        OSError: When the file cannot be read from the local disk.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if not head:
        return MediaFault("the server sent nothing")
    if kind := page_kind(head):
        return MediaFault(f"the server sent {kind} instead of media")
    try:
        tracks = _read_tracks(path)
    except (av.FFmpegError, ValueError) as error:
        return MediaFault(f"what the server sent does not open as media: {first_line(error, without_paths=True)}")
    if not tracks.ends:
        return MediaFault("what the server sent has neither picture nor sound")
    if not any(tracks.ends.values()):
        return MediaFault("what the server sent has headers and no media")
    return _cut_short(path, tracks)


def page_kind(head: bytes) -> str:
    """Return the kind of text that a body begins with (`a web page`, `JSON` ...); empty if it may be media."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text[:20].lower().startswith(_HTML):
        return "a web page"
    if not _is_text(head):
        return ""
    if text.startswith((b"{", b"[")):
        return "JSON"
    if text.startswith(b"<"):
        return "a web page" if b"<html" in text.lower() else "XML"
    return "text"


def _is_text(head: bytes) -> bool:
    """Return whether the bytes are printable UTF-8; the last character may be incomplete."""
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3 or error.start == 0:
            return False
        text = head[: error.start].decode()
    return all(character.isprintable() or character in "\t\r\n\f" for character in text)


@dataclass(frozen=True, slots=True)
class _Tracks:
    """End of the picture and of the sound, in seconds from the file's time 0: measured and announced, by kind."""

    ends: dict[str, float]
    announced: dict[str, float]
    file_announced: float
    broken: str


def _read_tracks(path: Path) -> _Tracks:
    """Read all packets of the picture track and the sound track that a decoder would choose.

    Raises:
        av.FFmpegError, ValueError: When the file does not open.
    """
    with open_media(path) as container:
        streams = main_streams(container)
        if not streams:
            return _Tracks({}, {}, 0.0, "")
        start, ends = start_time(container), dict.fromkeys((stream.index for stream in streams), 0.0)
        broken = ""
        try:
            for packet in container.demux(streams):
                if packet.size and packet.pts is not None and not packet.is_corrupt:
                    end = float((packet.pts + (packet.duration or 0)) * packet.time_base - start)
                    ends[packet.stream.index] = max(ends[packet.stream.index], end)
        except (av.FFmpegError, ValueError) as error:
            broken = first_line(error, without_paths=True)
        names = {stream.index: "picture" if stream.type == "video" else "sound" for stream in streams}
        announced = {names[stream.index]: _announced_end(container, stream, float(start)) for stream in streams}
        states = bool(_STATE_DURATION & set(container.format.name.split(",")))
        whole = (container.duration or 0) / av.time_base if states else 0.0
        return _Tracks({names[number]: end for number, end in ends.items()}, announced, whole, broken)


def _announced_end(container: Any, stream: Any, start: float) -> float:
    """Return the end of a track according to the header, in seconds from the file's time 0; 0 if it states none."""
    if not _STATE_DURATION & set(container.format.name.split(",")) or not stream.duration:
        return 0.0
    return float(((stream.start_time or 0) + stream.duration) * stream.time_base) - start


def _cut_short(path: Path, tracks: _Tracks) -> MediaFault | None:
    there = min(tracks.ends.values())
    announced = max(*tracks.announced.values(), tracks.file_announced) or None
    if missing := missing_bytes(path):
        return MediaFault(f"the file is cut short: {missing:,} bytes are missing", True, there, announced)
    if tracks.broken:
        return MediaFault(f"the file is not readable to its end: {tracks.broken}", True, there, announced)
    for name, end in tracks.ends.items():
        if not end:
            return MediaFault(f"the file has no packet of its {name}", False, max(tracks.ends.values()), announced)
        if _ends_early(end, tracks.announced[name]):
            said = f"the {name} ends at {end:.1f} s of {tracks.announced[name]:.1f} s"
            return MediaFault(f"the file is cut short: {said}", False, there, announced)
    if _ends_early(max(tracks.ends.values()), tracks.file_announced):
        said = f"it ends at {max(tracks.ends.values()):.1f} s of {tracks.file_announced:.1f} s"
        return MediaFault(f"the file is cut short: {said}", False, there, announced)
    if inside := ends_inside(path):
        return MediaFault(f"the file ends in the middle of {inside}", False, there, announced)
    return None


def _ends_early(end: float, announced: float) -> bool:
    return announced - end > max(TOLERANCE_SECONDS, TOLERANCE_SHARE * announced)
