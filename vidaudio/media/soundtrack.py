"""Soundtracks of whole media files: reading as samples, replacement by another sound, and one picture per second.

This module is for single files that a user names; `media.decode.extractor` reads corpora. Time 0 is the container's. A
sound that begins later than the picture is returned with silence at its beginning, so that a sound put back stays in
sync.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import ffmpeg
from PIL import Image

from vidaudio.errors import MediaError
from vidaudio.media.container import main_streams, open_media, start_time
from vidaudio.media.decode.clip import CONTAINERS
from vidaudio.media.decode.frames import FrameGrid
from vidaudio.media.decode.span import read_packets
from vidaudio.media.decode.timeline import TimeLine, read_time_line
from vidaudio.media.ffmpeg import FfmpegError, file_argument, plainly_named, run_ffmpeg
from vidaudio.text import first_line

# Suffixes of files with a picture, each with FFmpeg's container name and a sound codec that players of it support.
VIDEO_FORMATS = {
    ".mp4": ("mp4", "aac"),
    ".m4v": ("mp4", "aac"),
    ".mov": ("mov", "aac"),
    ".mkv": ("matroska", "aac"),
    ".webm": ("webm", "libopus"),
}
SOUND_BITRATE = "192k"
_WHITELISTS = {"protocol_whitelist": "file", "format_whitelist": CONTAINERS}


def write_soundtrack(path: str | Path, wav: Path) -> None:
    """Decode a media file's sound, at its own rate and with its channels, into a WAV file of 32-bit floats.

    Raises:
        MediaError: When the file is not a media file, has no sound, or its sound cannot be decoded.
    """
    index = _stream_index(path, "audio")
    if index is None:
        raise MediaError(f"{path} holds no sound")
    try:
        with plainly_named(Path(path)) as source, plainly_named(wav) as target:
            sound = ffmpeg.input(file_argument(source), **_WHITELISTS)[str(index)]
            sound = sound.filter("aresample", **{"async": 1, "first_pts": 0})
            run_ffmpeg(ffmpeg.output(sound, file_argument(target), format="wav", acodec="pcm_f32le", rf64="auto"))
    except FfmpegError as error:
        raise MediaError(f"the sound of {path} cannot be decoded ({error.told})") from error


def check_picture_fits(video: str | Path, out: str | Path) -> None:
    """Check that a video's picture can be copied into a file with the suffix of `out`, one of `VIDEO_FORMATS`.

    Raises:
        MediaError: When the video is not a media file, has no moving picture, or its codec does not fit such a file. In
            the last case, the message names the suffixes that fit.
    """
    index = _stream_index(video, "video")
    if index is None:
        raise MediaError(f"{out} is to be a video, and {video} has no picture; end it in .wav or .flac")
    with open_media(Path(video)) as container:
        context = container.streams[index].codec_context
        codec = context.codec.canonical_name if context is not None else "unknown"
    suffix = Path(out).suffix.lower()
    fitting = [other for other, (muxer, _) in VIDEO_FORMATS.items() if codec in _holds(muxer)]
    if fitting and suffix not in fitting:
        raise MediaError(
            f"{out}: the picture of {video} is {codec}, which a {suffix} file cannot hold; end it in "
            f"{' or '.join(fitting)}"
        )


def _holds(muxer: str) -> set[str]:
    """Return the names of the codecs that a container format can contain."""
    with av.open(io.BytesIO(), "w", format=muxer) as container:
        return container.supported_codecs


def replace_soundtrack(video: str | Path, wav: Path, out: Path, suffix: str) -> None:
    """Write a video's picture, copied packet by packet, with another sound, which is encoded.

    Args:
        video: Path of the video whose picture is kept.
        wav: Path of the sound, which begins at the video's time 0.
        out: Path of the file to write, with any name.
        suffix: Suffix that determines the container, one of `VIDEO_FORMATS`.

    Raises:
        MediaError: When there is no picture, or such a file cannot contain its codec.
    """
    index = _stream_index(video, "video")
    if index is None:
        raise MediaError(f"{video} has no picture to go with the sound; write a sound file, such as out.wav")
    container, codec = VIDEO_FORMATS[suffix]
    options = {"format": container, "vcodec": "copy", "acodec": codec, "audio_bitrate": SOUND_BITRATE}
    try:
        with plainly_named(Path(video)) as source, plainly_named(wav) as other, plainly_named(out) as target:
            picture = ffmpeg.input(file_argument(source), **_WHITELISTS)[str(index)]
            sound = ffmpeg.input(file_argument(other), **_WHITELISTS)["a:0"]
            run_ffmpeg(ffmpeg.output(picture, sound, file_argument(target), **options))
    except FfmpegError as error:
        raise MediaError(
            f"the picture of {video} cannot be put into a {suffix} file ({error.told}); try .mkv, which holds most"
        ) from error


@dataclass(frozen=True, slots=True)
class VideoPictures:
    """Pictures of a video, one per second.

    Attributes:
        images: The pictures, upright and square.
        times: Time at which each is on screen, seconds from the video's time 0.
        seconds: End of the last picture, seconds.
    """

    images: list[Image.Image]
    times: list[float]
    seconds: float


def read_video_pictures(path: str | Path, size: int, *, most_seconds: float = float("inf")) -> VideoPictures:
    """Return a video's pictures at 0, 1, 2 ... seconds.

    Args:
        path: Path of the video.
        size: Side of the pictures, pixels.
        most_seconds: Where reading ends; the video's length is then this.

    Raises:
        MediaError: When the file has no video, or none of its pictures can be decoded.
    """
    index = _stream_index(path, "video")
    if index is None:
        raise MediaError(f"{path} has no moving picture")
    try:
        with open_media(Path(path)) as container:
            streams = main_streams(container)
            # Without the time line, a clock jump of an hour would become an hour of pictures.
            line = read_time_line(container, streams, read_packets(container, streams))
        with open_media(Path(path)) as container:
            stream = container.streams[index]
            stream.thread_type = "AUTO"
            aspect = float(stream.sample_aspect_ratio or 1)
            grid = FrameGrid(1.0, size, most_seconds, aspect if 0.1 < aspect < 10 else 1.0)
            zero, rate = float(start_time(container)), stream.guessed_rate
            for frame in _placed_frames(container, stream, line):
                if frame.time is not None:
                    grid.push(frame, frame.time - zero, float(1 / rate) if rate else 0.04)
                if grid.passed():
                    break
            grid.finish()
    except (av.FFmpegError, OSError, ValueError) as error:
        raise MediaError(f"the pictures of {path} cannot be decoded ({_reason(error)})") from error
    if not grid.images:
        raise MediaError(f"no picture of {path} could be decoded")
    return VideoPictures([Image.fromarray(image) for image in grid.images], grid.grid_seconds, grid.end_seconds)


def video_pictures(path: str | Path, size: int, *, most: int | None = None) -> list[Image.Image]:
    """Return a video's pictures at 0, 1, 2 ... seconds, upright and square.

    Args:
        path: Path of the video.
        size: Side of the pictures, pixels.
        most: Maximum number of pictures, taken from the middle of the video; None means all.

    Raises:
        MediaError: When the file has no video, or none of its pictures can be decoded.
    """
    images = read_video_pictures(path, size).images
    if most is None or most >= len(images):
        return images
    first = (len(images) - most) // 2
    return images[first : first + most]


def _placed_frames(container: Any, stream: Any, line: TimeLine) -> Iterator[av.VideoFrame]:
    """Yield a stream's frames on the file's joined time line."""
    number = 0
    for packet in container.demux(stream):
        if packet.size:
            line.move(packet, number)
            number += 1
        yield from packet.decode()


def _stream_index(path: str | Path, kind: str) -> int | None:
    """Return the number of the stream that players choose; None if there is none of that kind."""
    if Path(path).is_dir():
        raise MediaError(f"{path} is a folder; name a file in it")
    if not Path(path).is_file():
        raise MediaError(f"there is no file {path}")
    try:
        with open_media(Path(path)) as container:
            return next((stream.index for stream in main_streams(container) if stream.type == kind), None)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise MediaError(f"{path} is not a sound file that can be read, nor a video ({_reason(error)})") from error


def _reason(error: Exception) -> str:
    return first_line(error, without_paths=True)
