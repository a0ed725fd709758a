"""One clip to pictures and sound: one open, one pass over the packets, true presentation times.

Time 0 of a file is its container's start time as players take it, edit lists applied. A clip is a span of that time
line; everything recorded is relative to the clip's own start.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import BinaryIO, Literal

import av
import numpy as np
from av.stream import Disposition

from vidaudio.media.ahead import Unpredictable
from vidaudio.media.frames import FrameGrid
from vidaudio.media.reasons import Outcome, Reason
from vidaudio.media.sound import SoundTrack
from vidaudio.media.span import MEDIA_ERRORS, SpanDecoder

# Containers that hold media themselves. Play lists and scripts (hls, dash, concat) name other files and stay closed.
CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,live_flv,asf,ogg,wav,mp3,flac,aac,rm,mxf,dv,"
    "h264,hevc,m4v,gif,nut,vob,wtv,ivf,amr,aiff,au,w64,caf,swf"
)


@dataclass(frozen=True, slots=True)
class DecodeOptions:
    """What is kept of a clip.

    Attributes:
        frame_size: Side of the square pictures, pixels.
        frames_per_second: Of the picture grid; 1 gives pictures at 1-s intervals.
        sample_rate: Of the mono sound, Hz.
        min_seconds: Clips with less picture or less sound than this are dropped.
        max_seconds: Longer spans are cut to this; bounds memory on endless files.
        decode: `exact` takes the picture on screen at every grid time, `fast` the last before it that others refer to.
            Both decode no picture that they can do without; `whole` decodes all, to the same result as `exact`.
    """

    frame_size: int = 224
    frames_per_second: float = 1.0
    sample_rate: int = 16_000
    min_seconds: float = 2.0
    max_seconds: float = 7200.0
    decode: Literal["exact", "fast", "whole"] = "exact"


@dataclass(frozen=True, slots=True)
class DecodedClip:
    """Pictures and sound of one clip; all times in seconds from the clip's start."""

    images: list[np.ndarray]
    frame_seconds: list[float]
    grid_seconds: list[float]
    motion: float
    samples: np.ndarray
    audio_start_seconds: float
    video_seconds: float
    decode_errors: int
    audio_gaps: int


def decode_clip(
    file: str | BinaryIO, start_seconds: float, end_seconds: float | None, options: DecodeOptions
) -> DecodedClip | Outcome:
    """Decode `[start_seconds, end_seconds)` of a file's own time line (None: to its end).

    Returns the clip, or the outcome that says why there is none. Raises nothing for bad media but a MemoryError where
    decoding it takes more than there is.
    """
    if isinstance(file, str) and not os.access(file, os.R_OK):
        return Outcome.failed(Reason.NOT_FOUND, "there is no such file, or it may not be read")
    may_seek, may_skip = True, options.decode != "whole"
    while True:
        try:
            container = _open(file)
        except MEDIA_ERRORS as error:
            return Outcome.dropped(Reason.CORRUPT, f"cannot be opened: {_first_line(error)}")
        with container:
            try:
                return _decode_open(container, start_seconds, end_seconds, options, may_seek, may_skip)
            except _Unseekable:
                may_seek = False
            except Unpredictable:
                may_skip = False


class _Unseekable(Exception):
    """It was sought in vain: the file is to be opened anew and read from its beginning."""


def _open(file: str | BinaryIO):
    if not isinstance(file, str):
        file.seek(0)
    return av.open(
        # The protocol is named, so that no file name is read as one.
        f"file:{file}" if isinstance(file, str) else file,
        mode="r",
        metadata_errors="replace",
        container_options={"format_whitelist": CONTAINERS, "protocol_whitelist": "file"},
    )


def _decode_open(
    container, start_seconds: float, end_seconds: float | None, options: DecodeOptions, may_seek: bool, may_skip: bool
) -> DecodedClip | Outcome:
    """As `decode_clip`; raises where the file is to be opened anew, and not sought in or decoded whole."""
    video = _best_video(container)
    audio = container.streams.best("audio")
    if video is None:
        return Outcome.dropped(Reason.NO_VIDEO, "no moving picture in the file")
    if audio is None:
        return Outcome.dropped(Reason.NO_AUDIO, "no sound in the file")
    if audio.codec_context is None or video.codec_context is None:
        missing, reason = (("picture", Reason.NO_VIDEO), ("sound", Reason.NO_AUDIO))[video.codec_context is not None]
        return Outcome.dropped(reason, f"no decoder for the {missing}")
    video.codec_context.thread_count = 1

    span = options.max_seconds if end_seconds is None else min(end_seconds - start_seconds, options.max_seconds)
    aspect = float(video.sample_aspect_ratio or 1)
    grid = FrameGrid(1.0 / options.frames_per_second, options.frame_size, span, aspect if 0.1 < aspect < 10 else 1.0)
    track = SoundTrack(options.sample_rate, span)
    decoder = SpanDecoder(container, video, audio, start_seconds)
    if may_seek and not decoder.seek():
        raise _Unseekable
    if may_skip and decoder.tells_ahead:
        decoder.look_ahead(grid.step_seconds, exact=options.decode == "exact")
    decoder.run(grid, track)
    try:
        grid.finish()
        samples, audio_start = track.finish()
    except MEDIA_ERRORS as error:
        return Outcome.dropped(Reason.CORRUPT, f"cannot be converted: {_first_line(error)}")

    broken = f" after {decoder.errors} unreadable packets" if decoder.errors else ""
    for what, decoded in (("picture", decoder.pictures), ("sound", decoder.blocks)):
        # After a jump none may have come because the track ends before the clip: that is no fault of the file.
        if not decoded and (decoder.errors or not decoder.sought):
            return Outcome.dropped(Reason.CORRUPT, f"no {what} could be decoded{broken}")
    sound_seconds = len(samples) / options.sample_rate
    shortest = min(grid.seconds, sound_seconds)
    if shortest < options.min_seconds or not grid.images or not len(samples):
        what = "sound" if sound_seconds < grid.seconds else "picture"
        return Outcome.dropped(
            Reason.TOO_SHORT, f"{shortest:.2f} s of {what}, at least {options.min_seconds:g} s are wanted{broken}"
        )
    return DecodedClip(
        images=grid.images,
        frame_seconds=grid.frame_seconds,
        grid_seconds=grid.grid_seconds,
        motion=grid.motion,
        samples=samples,
        audio_start_seconds=audio_start,
        video_seconds=grid.end_seconds,
        decode_errors=decoder.errors,
        audio_gaps=track.gaps,
    )


def _best_video(container):
    """The stream players show: never a cover picture."""
    moving = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    best = container.streams.best("video")
    return best if best in moving else (moving[0] if moving else None)


def _first_line(error: BaseException) -> str:
    """The reason alone: paths in it would differ between runs."""
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0]
