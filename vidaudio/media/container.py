"""Properties of a media file that cutting and merging need: its streams, its time 0, its format and extension.

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

# Codecs that a WebM file may contain; a Matroska file with any other codec stays Matroska.
WEBM_CODECS = frozenset({"vp8", "vp9", "av1", "opus", "vorbis"})
# Codecs that every player supports in an MP4 file.
MP4_CODECS = frozenset({"h264", "hevc", "av1", "vp9", "mpeg4", "aac", "mp3", "ac3", "eac3", "opus", "flac", "alac"})


def open_media(path: Path) -> Any:
    """Open a media file, but nothing that it may refer to: play lists, scripts and other protocols are refused.

    Raises:
        av.FFmpegError: When it is not a media file that libavformat reads.
    """
    return av.open(
        # The explicit protocol keeps a file name (2024-01-01T12:30:00.mp4) from being read as one.
        file_argument(path),
        mode="r",
        metadata_errors="replace",
        container_options={"format_whitelist": CONTAINERS, "protocol_whitelist": "file"},
    )


def start_time(container: Any) -> Fraction:
    """Return the file's time 0 among its time stamps, seconds."""
    return Fraction(container.start_time or 0, av.time_base)


def main_streams(container: Any) -> list[Any]:
    """Return the moving picture and the sound that players choose, in this order, without cover pictures."""
    return [stream for kind in ("video", "audio") for stream in ranked_tracks(container, kind)[:1]]


def codec_names(streams: list[Any]) -> set[str]:
    """Return the names of the streams' codecs; a codec unknown to this build is the empty name, which fits nothing."""
    return {stream.codec_context.name if stream.codec_context else "" for stream in streams}


def muxer_for(format_name: str, codecs: set[str]) -> tuple[str, str]:
    """Return the muxer and extension that keep the time stamps of a file: its own format's, otherwise Matroska's.

    Args:
        format_name: Format of the file as libavformat names it, possibly several names separated by commas.
        codecs: Names of the codecs in the file.
    """
    if "mp4" in format_name.split(","):
        return "mp4", "mp4"
    if format_name == "mpegts":
        return "mpegts", "ts"
    if "matroska" in format_name.split(",") and codecs <= WEBM_CODECS:
        return "webm", "webm"
    return "matroska", "mkv"


def extension_of(path: Path) -> str:
    """Return a file's extension according to its first bytes; its own suffix decides only if the bytes show no format.

    Sites name MPEG-TS files `.mp4`, and plain links have no suffix at all. Only bytes are examined, so that no parser
    reads a file before the decoder process does.
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
