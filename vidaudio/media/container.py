"""What cutting and merging need to know of a media file: its streams, its time 0, what it is called.

Time 0 of a file is its container's start time as libavformat reports it, edit lists applied.
"""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from vidaudio.media.decode.clip import CONTAINERS
from vidaudio.media.decode.track_choice import ranked_tracks
from vidaudio.media.ffmpeg import file_argument

# Codecs a WebM may hold; anything else in a Matroska file stays Matroska.
WEBM_CODECS = frozenset({"vp8", "vp9", "av1", "opus", "vorbis"})
# Codecs every player finds in an MP4.
MP4_CODECS = frozenset({"h264", "hevc", "av1", "vp9", "mpeg4", "aac", "mp3", "ac3", "eac3", "opus", "flac", "alac"})


def open_media(path: Path) -> Any:
    """Open a media file and nothing it might name: play lists, scripts and other protocols stay closed.

    Raises:
        av.FFmpegError: It is not a media file that libavformat reads.
    """
    return av.open(
        # The protocol is named, so that no file name (2024-01-01T12:30:00.mp4) is read as one.
        file_argument(path),
        mode="r",
        metadata_errors="replace",
        container_options={"format_whitelist": CONTAINERS, "protocol_whitelist": "file"},
    )


def start_time(container: Any) -> Fraction:
    """Where the file's time 0 lies among its timestamps, seconds."""
    return Fraction(container.start_time or 0, av.time_base)


def main_streams(container: Any) -> list[Any]:
    """The moving picture and the sound that players choose, in this order; cover pictures are neither."""
    return [stream for kind in ("video", "audio") for stream in ranked_tracks(container, kind)[:1]]


def codec_names(streams: list[Any]) -> set[str]:
    """Names of the streams' codecs; a codec this build does not know is the empty name, which fits no container."""
    return {stream.codec_context.name if stream.codec_context else "" for stream in streams}


def muxer_for(format_name: str, codecs: set[str]) -> tuple[str, str]:
    """The muxer and extension that keep the timestamps of a file of this format: its own kind, else Matroska."""
    if "mp4" in format_name.split(","):
        return "mp4", "mp4"
    if format_name == "mpegts":
        return "mpegts", "ts"
    if "matroska" in format_name.split(",") and codecs <= WEBM_CODECS:
        return "webm", "webm"
    return "matroska", "mkv"


def extension_of(path: Path) -> str:
    """The extension a file deserves, from its first bytes; its own suffix decides only where they say nothing.

    Sites name MPEG-TS `.mp4` and plain links have no suffix at all. Only bytes are looked at, so that no parser meets a
    file before the decoder's own process does.
    """
    with path.open("rb") as file:
        head = file.read(512)
    suffix = path.suffix.lower().removeprefix(".")
    if head[4:8] == b"ftyp":
        return suffix if suffix in {"mov", "m4v", "m4a", "3gp"} else "mp4"
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return "webm" if b"webm" in head[:64] else "mkv"
    if head[:1] == b"\x47" and head[188:189] == b"\x47":
        return "ts"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "avi"
    if head[:4] == b"OggS":
        return "ogg"
    if head[:3] == b"FLV":
        return "flv"
    return suffix if re.fullmatch(r"[a-z0-9]{1,5}", suffix) else "bin"
