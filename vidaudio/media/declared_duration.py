"""The duration that a sound file's header declares, which is longer than the sound if the file breaks off."""

from __future__ import annotations

import re
from pathlib import Path

import av
import soundfile

from vidaudio.files import name_for_c
from vidaudio.media.container import open_media

# Containers whose headers count their samples; for others, libavformat only estimates the length from sizes.
_COUNTED = frozenset({"flac", "mov", "mp4"})
# libsndfile logs a sound chunk that is longer than the file: "data : 1152000 (should be 575978)".
_SHORT_CHUNK = re.compile(r"^data\s*: (\d+) \(should be (\d+)\)", re.MULTILINE)
# Programs that do not know the length in advance write 2^32 - 1, or somewhat less than 2^31.
_LENGTH_UNKNOWN = 2**31 - 2**16
# Words in an MP3's first frame after which encoders write the total number of frames.
_COUNTS_OF_FRAMES = (b"Xing", b"Info")
_FRAME_SEARCHED_BYTES = 1024


def announced_seconds(path: str | Path) -> float | None:
    """Return the seconds of sound that a WAV, FLAC, MP3, MP4 or MOV file declares; None if it declares no count."""
    with open(path, "rb") as file:
        head = file.read(12)
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        return _of_wav(path)
    try:
        with open_media(Path(path)) as container:
            kinds = set(container.format.name.split(","))
            stream = container.streams.best("audio")
            counted = kinds & _COUNTED or ("mp3" in kinds and _counts_frames(path))
            if stream is None or not counted or not stream.duration:
                return None
            return float(stream.duration * stream.time_base)
    except (av.FFmpegError, OSError, ValueError):
        return None  # the reader of the file reports what is wrong with it


def looks_like_mp3(path: str | Path) -> bool:
    """Return whether a file begins as MP3 does: with an ID3 tag, or with the sync word of MPEG audio."""
    with open(path, "rb") as file:
        head = file.read(3)
    return head == b"ID3" or (len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0)


def _of_wav(path: str | Path) -> float | None:
    try:
        with soundfile.SoundFile(name_for_c(path)) as file:
            short = _SHORT_CHUNK.search(file.extra_info)
            seconds = file.frames / file.samplerate
    except soundfile.LibsndfileError:
        return None
    if short is None:
        return seconds
    said, there = map(int, short.groups())
    if said >= _LENGTH_UNKNOWN or not there:
        return None
    return seconds * said / there


def _counts_frames(path: str | Path) -> bool:
    with open(path, "rb") as file:
        head = file.read(10)
        tag_bytes = 0
        if head[:3] == b"ID3" and len(head) == 10:
            # The tag's size is stored in four bytes of seven bits and excludes the header's own ten bytes (ID3v2.4,
            # 3.1).
            tag_bytes = 10 + sum(byte << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
        file.seek(tag_bytes)
        frame = file.read(_FRAME_SEARCHED_BYTES)
    return any(word in frame for word in _COUNTS_OF_FRAMES)
