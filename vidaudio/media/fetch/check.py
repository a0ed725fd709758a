"""Downloaded files looked at before they are believed: media at all, and whole by what they say of themselves.

Servers answer 200 with an error page, a page of JSON, half of a body. The decoder would take that for a fault of the
video; found here, it is one of the transfer, which may pass. Packets are read and nothing is decoded.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av

from vidaudio.media.container import main_streams, open_media, start_time
from vidaudio.media.fetch.declared_size import ends_inside, missing_bytes

# What a header may announce beyond the last packet: containers round, and tracks end at different times.
TOLERANCE_SECONDS = 1.0
TOLERANCE_SHARE = 0.05
# Containers whose header states a duration; of the others libavformat guesses one from rate and size.
_STATE_DURATION = frozenset({"mp4", "matroska", "avi", "flv", "flac", "asf"})
_HEAD_BYTES = 1024
_HTML = (b"<!doctype html", b"<html", b"<head", b"<body", b"<script", b"<title")


@dataclass(frozen=True, slots=True)
class MediaFault:
    """What is wrong with a downloaded file.

    Attributes:
        message: For people.
        is_certain: The file contradicts itself. Otherwise it is only suspicious: a second transfer settles it.
        seconds_there: Of the time line, from the file's time 0, that all its tracks cover; None where it is no media.
        seconds_announced: What its header states; None where it states nothing.
    """

    message: str
    is_certain: bool = True
    seconds_there: float | None = None
    seconds_announced: float | None = None

    def holds(self, end_seconds: float | None) -> bool:
        """Whether a clip that ends at this time of the file (None: with the file) is in it all the same."""
        if self.seconds_there is None:
            return False
        if not self.is_certain:
            return True
        if end_seconds is None:
            announced = self.seconds_announced or 0.0
            return self.seconds_there > 0 and self.seconds_there >= (1 - TOLERANCE_SHARE) * announced > 0
        return self.seconds_there >= end_seconds - TOLERANCE_SECONDS / 10


def find_fault(path: Path) -> MediaFault | None:
    """Return what is wrong with a downloaded file; None where nothing is.

    Raises:
        OSError: It cannot be read from our own disk.
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
        return MediaFault(f"what the server sent does not open as media: {_first_line(error)}")
    if not tracks.ends:
        return MediaFault("what the server sent has neither picture nor sound")
    if not any(tracks.ends.values()):
        return MediaFault("what the server sent has headers and no media")
    return _cut_short(path, tracks)


def page_kind(head: bytes) -> str:
    """Return what text the first bytes of a body are (`a web page`, `JSON` ...); empty where they may be media."""
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
    """Whether bytes are printable UTF-8; its last character may be cut."""
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3 or error.start == 0:
            return False
        text = head[: error.start].decode()
    return all(character.isprintable() or character in "\t\r\n\f" for character in text)


@dataclass(frozen=True, slots=True)
class _Tracks:
    """Where picture and sound end, seconds from the file's time 0: measured and announced, by kind."""

    ends: dict[str, float]
    announced: dict[str, float]
    file_announced: float
    broken: str


def _read_tracks(path: Path) -> _Tracks:
    """Read all packets of the picture and the sound that a decoder would take.

    Raises:
        av.FFmpegError, ValueError: It does not open.
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
            broken = _first_line(error)
        names = {stream.index: "picture" if stream.type == "video" else "sound" for stream in streams}
        announced = {names[stream.index]: _announced_end(container, stream, float(start)) for stream in streams}
        states = bool(_STATE_DURATION & set(container.format.name.split(",")))
        whole = (container.duration or 0) / av.time_base if states else 0.0
        return _Tracks({names[number]: end for number, end in ends.items()}, announced, whole, broken)


def _announced_end(container: Any, stream: Any, start: float) -> float:
    """Where a header says that a track ends, seconds from the file's time 0; 0 where it does not say."""
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


def _first_line(error: BaseException) -> str:
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0]
