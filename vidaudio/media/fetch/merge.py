"""Merging of picture and sound that a site serves as two files, without shifting one against the other.

FFmpeg shifts every input so that it starts at 0. That is wrong for two tracks of one timeline, where sound may really
start later than the picture. It is right for bare sound files, which have no timeline at all. The containers decide
which of the two cases applies.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import av
import ffmpeg

from vidaudio.media.container import MP4_CODECS, WEBM_CODECS, codec_names, main_streams, open_media
from vidaudio.media.decode.clip import CONTAINERS
from vidaudio.media.fetch.cut import MP4_TIMESCALE
from vidaudio.media.ffmpeg import FfmpegError, file_argument, run_ffmpeg
from vidaudio.text import first_line

# Containers whose timestamps count from the beginning of the video, and containers whose timestamps start anywhere.
_FROM_ZERO = frozenset({"mp4", "matroska", "webm", "mov", "ogg"})
_FROM_ANYWHERE = frozenset({"mpegts"})


class CannotMerge(Exception):
    """Two tracks that cannot be merged; the message says why."""


@dataclass(frozen=True, slots=True)
class _Probe:
    formats: frozenset[str]
    codecs: frozenset[str]


def merge_tracks(video: Path, audio: Path, folder: Path) -> Path:
    """Copy the picture of one file and the sound of another into one new file in `folder`.

    Returns:
        `merged.mp4`, `.webm` or `.mkv`, whichever holds both codecs.

    Raises:
        CannotMerge: When one of the files is unreadable, or FFmpeg refuses; the message is FFmpeg's last line.
    """
    picture, sound = _probe(video), _probe(audio)
    codecs = picture.codecs | sound.codecs
    both_webm = "webm" in picture.formats and "webm" in sound.formats
    if codecs <= WEBM_CODECS and (both_webm or not codecs <= MP4_CODECS):
        extension = "webm"
    else:
        extension = "mp4" if codecs <= MP4_CODECS else "mkv"
    merged = folder / f"merged.{extension}"

    options = {"c": "copy", "fflags": "+bitexact", "map_metadata": -1}
    if extension == "mp4":
        options["movie_timescale"] = MP4_TIMESCALE
    share_clock = any(picture.formats & kind and sound.formats & kind for kind in (_FROM_ZERO, _FROM_ANYWHERE))
    if picture.formats & _FROM_ANYWHERE and share_clock:
        options["avoid_negative_ts"] = "make_zero"  # shifts both tracks together to the file's beginning
    whitelists = {"protocol_whitelist": "file", "format_whitelist": CONTAINERS}
    inputs = [ffmpeg.input(file_argument(path), **whitelists) for path in (video, audio)]
    command = ffmpeg.output(inputs[0]["v:0"], inputs[1]["a:0"], file_argument(merged), **options)
    try:
        run_ffmpeg(command.global_args("-copyts") if share_clock else command)
    except FfmpegError as error:
        raise CannotMerge(str(error)) from error
    return merged


def _probe(path: Path) -> _Probe:
    try:
        with open_media(path) as container:
            codecs = codec_names(main_streams(container))
            return _Probe(frozenset(container.format.name.split(",")), frozenset(codecs))
    except (av.FFmpegError, OSError) as error:
        raise CannotMerge(first_line(error, without_paths=True)) from error
