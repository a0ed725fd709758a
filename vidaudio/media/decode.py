"""One clip to pictures and sound: one open, one pass over the packets, true presentation times.

Time 0 of a file is its container's start time as players take it, edit lists applied. A clip is a span of that time
line; everything recorded is relative to the clip's own start.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import BinaryIO

import av
import numpy as np
from av.stream import Disposition

from vidaudio.media.frames import FrameGrid
from vidaudio.media.reasons import Outcome, Reason
from vidaudio.media.sound import SoundTrack

# Containers that hold media themselves. Play lists and scripts (hls, dash, concat) name other files and stay closed.
CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,live_flv,asf,ogg,wav,mp3,flac,aac,rm,mxf,dv,"
    "h264,hevc,m4v,gif,nut,vob,wtv,ivf,amr,aiff,au,w64,caf,swf"
)
# Decoding starts this long before the clip, since sound codecs need a few packets to settle.
PREROLL_SECONDS = 0.25
# A file this broken is not worth waiting for.
MAX_ERRORS_IN_A_ROW = 200


@dataclass(frozen=True, slots=True)
class DecodeOptions:
    """What is kept of a clip.

    Attributes:
        frame_size: Side of the square pictures, pixels.
        frames_per_second: Of the picture grid; 1 gives pictures at 1-s intervals.
        sample_rate: Of the mono sound, Hz.
        min_seconds: Clips with less picture or less sound than this are dropped.
        max_seconds: Longer spans are cut to this; bounds memory on endless files.
    """

    frame_size: int = 224
    frames_per_second: float = 1.0
    sample_rate: int = 16_000
    min_seconds: float = 2.0
    max_seconds: float = 7200.0


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

    Returns the clip, or the `dropped` outcome that says why there is none. Raises nothing for bad media.
    """
    try:
        container = av.open(
            file,
            mode="r",
            metadata_errors="replace",
            container_options={"format_whitelist": CONTAINERS, "protocol_whitelist": "file"},
        )
    except (av.FFmpegError, OSError, ValueError) as error:
        return Outcome.dropped(Reason.CORRUPT, f"cannot be opened: {_first_line(error)}")
    with container:
        return _decode_open(container, start_seconds, end_seconds, options)


def _decode_open(container, start_seconds: float, end_seconds: float | None, options: DecodeOptions):
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
    zero = (container.start_time or 0) / av.time_base + start_seconds
    aspect = float(video.sample_aspect_ratio or 1)
    grid = FrameGrid(1.0 / options.frames_per_second, options.frame_size, aspect if 0.1 < aspect < 10 else 1.0)
    track = SoundTrack(options.sample_rate, span)
    errors = _decode_packets(container, video, audio, zero, span, grid, track)
    grid.finish(span)
    samples, audio_start = track.finish()

    sound_seconds = len(samples) / options.sample_rate
    broken = f" after {errors} unreadable packets" if errors else ""
    if not grid.images:
        return Outcome.dropped(Reason.CORRUPT if errors else Reason.NO_VIDEO, f"no picture could be decoded{broken}")
    if not len(samples):
        return Outcome.dropped(Reason.CORRUPT if errors else Reason.NO_AUDIO, f"no sound could be decoded{broken}")
    shortest = min(grid.end_seconds, sound_seconds)
    if shortest < options.min_seconds:
        what = "sound" if sound_seconds < grid.end_seconds else "picture"
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
        decode_errors=errors,
        audio_gaps=track.gaps,
    )


def _decode_packets(container, video, audio, zero: float, span: float, grid: FrameGrid, track: SoundTrack) -> int:
    """Feed grid and track until both have passed the end; returns how many packets could not be read."""
    if zero - (container.start_time or 0) / av.time_base > PREROLL_SECONDS:
        # A file that cannot seek is read from its beginning: slower, and just as right.
        try:
            container.seek(int((zero - PREROLL_SECONDS) * av.time_base), backward=True)
        except av.FFmpegError:
            container.seek(0, any_frame=True)
    errors = errors_in_a_row = 0
    frame_seconds = float(1 / video.guessed_rate) if getattr(video, "guessed_rate", None) else 0.04
    last_video = last_audio = -math.inf
    packets = container.demux(video, audio)
    while errors_in_a_row < MAX_ERRORS_IN_A_ROW:
        try:
            packet = next(packets)
            frames = packet.decode()
        except StopIteration:
            break
        except (av.FFmpegError, ValueError, OSError):
            errors += 1
            errors_in_a_row += 1
            continue
        for frame in frames:
            errors_in_a_row = 0
            if isinstance(frame, av.VideoFrame):
                seconds = float(frame.pts * frame.time_base) if frame.pts is not None else last_video + frame_seconds
                last_video = seconds
                duration = float(frame.duration * frame.time_base) if frame.duration else frame_seconds
                if math.isfinite(seconds):
                    grid.push(frame, seconds - zero, duration)
            else:
                length = frame.samples / frame.sample_rate
                seconds = float(frame.pts * frame.time_base) if frame.pts is not None else last_audio
                last_audio = seconds + length
                if math.isfinite(seconds) and seconds + length > zero:
                    track.push(frame, seconds - zero)
        if (grid.passed(span) or last_video - zero > span) and (track.passed() or last_audio - zero > span):
            break
    return errors


def _best_video(container):
    """The stream players show: never a cover picture."""
    moving = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    best = container.streams.best("video")
    return best if best in moving else (moving[0] if moving else None)


def _first_line(error: BaseException) -> str:
    """The reason alone: paths in it would differ between runs."""
    return (getattr(error, "strerror", None) or str(error)).splitlines()[0]
