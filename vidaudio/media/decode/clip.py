"""Decoding of one clip to pictures and sound: one open, one pass over the packets, true presentation times.

Time 0 of a file is its container's start time as players take it, edit lists applied. A clip is a span of that time
line; everything recorded is relative to the clip's own start.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO, TypeVar

import av
import numpy as np

from vidaudio.media.decode.audio_track import SoundTrack, TrackSound
from vidaudio.media.decode.byte_range_file import FilePart
from vidaudio.media.decode.channels import (
    SILENT_POWER,
    Channel,
    LevelMeter,
    SoundSink,
    has_cancelled,
    is_ambisonic,
    powers_by_second,
)
from vidaudio.media.decode.decoded import DecodedClip, DecodeOptions
from vidaudio.media.decode.encoder_delay import encoder_delay_seconds, may_have_header
from vidaudio.media.decode.frame_skipping import CannotSkipFrames
from vidaudio.media.decode.frames import FrameGrid
from vidaudio.media.decode.span import MEDIA_ERRORS, ClockJumped, SpanDecoder, read_packets
from vidaudio.media.decode.timeline import TimeLine, may_be_joined, read_time_line
from vidaudio.media.decode.track_choice import ranked_tracks
from vidaudio.media.facts.motion import MotionTrack
from vidaudio.media.outcomes import Outcome, Reason
from vidaudio.text import first_line

__all__ = ["CONTAINERS", "DecodeOptions", "DecodedClip", "decode_clip"]

# Containers that hold media themselves. Play lists and scripts (hls, dash, concat) name other files and are not opened.
CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,live_flv,asf,ogg,wav,mp3,flac,aac,rm,mxf,dv,"
    "h264,hevc,m4v,gif,nut,vob,wtv,ivf,amr,aiff,au,w64,caf,swf"
)
# Clips of one file come one after another: they share the time line, which takes a pass over all packets.
TIME_LINES_KEPT = 16

_T = TypeVar("_T")
_time_lines: OrderedDict[tuple, TimeLine] = OrderedDict()


def decode_clip(
    file: str | BinaryIO | FilePart, start_seconds: float, end_seconds: float | None, options: DecodeOptions
) -> DecodedClip | Outcome:
    """Decode `[start_seconds, end_seconds)` of a file's own time line, and return the clip or why there is none.

    Args:
        file: Path of a local file, or a seekable binary file.
        start_seconds: Start of the clip, seconds from the file's time 0.
        end_seconds: End of the clip, seconds from the file's time 0; None means the end of the file.
        options: What to keep of the clip.

    Raises:
        MemoryError: When decoding takes more memory than there is; bad media raise nothing else.
    """
    if isinstance(file, str) and not os.access(file, os.R_OK):
        return Outcome.failed(Reason.NOT_FOUND, "there is no such file, or it may not be read")
    span = options.max_seconds if end_seconds is None else min(end_seconds - start_seconds, options.max_seconds)
    try:
        return _ClipDecoder(file, start_seconds, span, options).decode()
    except _NoClip as error:
        return error.outcome


class _NoClip(Exception):
    """Error for a file or span that gives no clip; carries the outcome with the reason."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.message)
        self.outcome = outcome


class _Reopen(Exception):
    """Signal that the file must be opened again and read from its beginning, because something was learned about it."""


@dataclass(slots=True)
class _Learned:
    """What earlier passes over a file have shown about how to decode it.

    Attributes:
        may_seek: Whether reading may begin in the middle.
        may_skip: Whether pictures may be left undecoded.
        clock_jumps: Whether all packets must be read before decoding, because the clock may jump.
        time_line: Time line of the packets; None until all of them have been read.
        empty_tracks: Numbers of streams of which nothing could be decoded.
        encoder_delay: Encoder delay of the sound, seconds; None until the first packet has been read.
    """

    may_seek: bool = True
    may_skip: bool = True
    clock_jumps: bool = False
    time_line: TimeLine | None = None
    empty_tracks: set[int] = field(default_factory=set)
    encoder_delay: float | None = None


class _ClipDecoder:
    """Decoder of one span of one file, which it opens again whenever the file turns out to need other treatment."""

    def __init__(
        self, file: str | BinaryIO | FilePart, start_seconds: float, span_seconds: float, options: DecodeOptions
    ) -> None:
        self._file, self._start, self._span, self._options = file, start_seconds, span_seconds, options
        self._learned = _Learned(may_skip=options.decode != "whole")
        self._mixed = LevelMeter()

    def decode(self) -> DecodedClip:
        """Return the decoded clip, or raise `_NoClip`."""
        channel = self._options.channel
        if channel == "loudest":
            channel = _loudest(self._measured().powers)
        clip = self._opened(lambda container: self._clip(container, channel))
        return self._with_what_was_cancelled(clip) if channel == clip.audio_channel == "mix" else clip

    def _opened(self, work: Callable[[Any], _T]) -> _T:
        """Run `work` on the open file, and again on the file opened anew after each surprise."""
        while True:
            try:
                container = _open(self._file)
            except MEDIA_ERRORS as error:
                raise _no_clip(Reason.CORRUPT, f"cannot be opened: {first_line(error, without_paths=True)}") from error
            with container:
                try:
                    return work(container)
                except _Reopen:
                    continue
                except CannotSkipFrames:
                    self._learned.may_skip = False
                except ClockJumped:
                    self._learned.clock_jumps = True

    def _clip(self, container: Any, channel: Channel) -> DecodedClip:
        video, audio = self._tracks(container)
        options = self._options
        aspect = float(video.sample_aspect_ratio or 1)
        aspect = aspect if 0.1 < aspect < 10 else 1.0
        grid = FrameGrid(1.0 / options.frames_per_second, options.frame_size, self._span, aspect)
        track = SoundTrack(options.sample_rate, self._span, channel, ambisonic=_says_ambisonic(audio))
        motion = MotionTrack()
        decoder = self._span_decoder(container, video, audio, motion=motion)
        if self._learned.may_skip and decoder.tells_ahead:
            decoder.look_ahead(grid.step_seconds, exact=options.decode == "exact")
        decoder.run(grid, track)
        try:
            grid.finish()
            sound = track.finish()
        except MEDIA_ERRORS as error:
            raise _no_clip(Reason.CORRUPT, f"cannot be converted: {first_line(error, without_paths=True)}") from error
        self._mixed = track.meter
        self._check(container, decoder, grid, track, sound)
        line = self._learned.time_line
        return DecodedClip(
            images=grid.images,
            frame_seconds=grid.frame_seconds,
            grid_seconds=grid.grid_seconds,
            motion=grid.motion,
            samples=sound.samples,
            audio_start_seconds=sound.start_seconds,
            video_seconds=grid.end_seconds,
            decode_errors=decoder.errors,
            audio_gaps=sound.gaps,
            time_jumps=sum(0 <= at - self._start < self._span for at in line.jumps) if line else 0,
            filled_seconds=sound.filled_seconds,
            held_seconds=decoder.held_seconds,
            audio_channel=track.audio_channel,
            tone_mapped=grid.tone_mapped,
            motion_envelope=motion.finish(grid.end_seconds, decoder.motion_source),
            motion_source=decoder.motion_source,
        )

    def _check(self, container: Any, decoder: SpanDecoder, grid: FrameGrid, track: SoundTrack, sound: TrackSound):
        """Raise `_NoClip` if something is wrong with the decoded clip."""
        broken = f" after {decoder.errors} unreadable packets" if decoder.errors else ""
        if track.missing_channel and not len(sound.samples):
            raise _no_clip(Reason.NO_AUDIO, track.missing_channel)
        for what, kind, decoded in (("picture", "video", decoder.pictures), ("sound", "audio", decoder.blocks)):
            # After a seek, nothing may come because the track ends before the clip: that is no fault of the file.
            if not decoded and (decoder.errors or not decoder.sought):
                self._take_another_track(container, kind)
                raise _no_clip(Reason.CORRUPT, f"no {what} could be decoded{broken}")
        shortest = min(grid.seconds, sound_seconds := len(sound.samples) / self._options.sample_rate)
        if shortest < self._options.min_seconds or not grid.images or not len(sound.samples):
            what = "sound" if sound_seconds < grid.seconds else "picture"
            wanted = f"at least {self._options.min_seconds:g} s are wanted"
            raise _no_clip(Reason.TOO_SHORT, f"{shortest:.2f} s of {what}, {wanted}{broken}")

    def _tracks(self, container: Any) -> tuple[Any, Any]:
        """Return the picture and the sound track to decode, once everything needed before decoding is known.

        Raises:
            _NoClip: When there is no picture, no sound or no decoder for one of them.
            _Reopen: When the file had to be read for this.
        """
        ranked = [self._ranked(container, "video"), self._ranked(container, "audio")]
        video, audio = (tracks[0] if tracks else None for tracks in ranked)
        if video is None:
            raise _no_clip(Reason.NO_VIDEO, "no moving picture in the file")
        if audio is None:
            raise _no_clip(Reason.NO_AUDIO, "no sound in the file")
        if audio.codec_context is None or video.codec_context is None:
            missing, reason = (("picture", Reason.NO_VIDEO), ("sound", Reason.NO_AUDIO))[
                video.codec_context is not None
            ]
            raise _no_clip(reason, f"no decoder for the {missing}")
        video.codec_context.thread_count = 1
        learned = self._learned
        if learned.encoder_delay is None and may_have_header(audio):
            first = next((packet for packet in read_packets(container, [audio]) if packet.size), None)
            learned.encoder_delay = encoder_delay_seconds(first) if first is not None else 0.0
            raise _Reopen
        # If a clock value may occur twice in the file, a seek to it may land anywhere.
        first_look = learned.clock_jumps or (learned.may_seek and self._start > 0 and may_be_joined(container))
        if learned.time_line is None and first_look:
            learned.time_line = self._time_line(container, video, audio)
            learned.may_seek &= not (learned.time_line.shifts or learned.time_line.stray)
            raise _Reopen
        return video, audio

    def _ranked(self, container: Any, kind: Any) -> list[Any]:
        ranked = ranked_tracks(container, kind)
        return [stream for stream in ranked if stream.index not in self._learned.empty_tracks] or ranked[:1]

    def _take_another_track(self, container: Any, kind: Any) -> None:
        """Make the next pass decode the next track of this kind, if there is one.

        Raises:
            _Reopen: When there is another track.
        """
        first, *others = self._ranked(container, kind)
        if any(stream.codec_context is not None for stream in others):
            self._learned.empty_tracks.add(first.index)
            self._learned.time_line = self._learned.encoder_delay = None
            raise _Reopen

    def _time_line(self, container: Any, video: Any, audio: Any) -> TimeLine:
        key = (_identity(self._file), video.index, audio.index)
        if (known := _time_lines.get(key)) is None:
            streams = [video, audio]
            known = read_time_line(container, streams, read_packets(container, streams))
            _time_lines[key] = known
        _time_lines.move_to_end(key)
        while len(_time_lines) > TIME_LINES_KEPT:
            _time_lines.popitem(last=False)
        return known

    def _span_decoder(
        self, container: Any, video: Any, audio: Any, *, sound_only: bool = False, motion: MotionTrack | None = None
    ) -> SpanDecoder:
        """Return a decoder positioned at the beginning of the span.

        Raises:
            _Reopen: When seeking does not work in the file.
        """
        learned = self._learned
        decoder = SpanDecoder(
            container,
            video,
            audio,
            self._start,
            time_line=learned.time_line,
            encoder_delay=learned.encoder_delay or 0.0,
            sound_only=sound_only,
            motion=motion,
        )
        if learned.may_seek and not decoder.seek():
            learned.may_seek = False
            raise _Reopen
        return decoder

    def _with_what_was_cancelled(self, clip: DecodedClip) -> DecodedClip:
        """Return the clip, with its loudest channel if the mix has lost that channel to channels of opposite sign."""
        channels = len(self._mixed.powers)
        if channels < 2:
            return clip
        rate = self._options.sample_rate
        mixed = powers_by_second(clip.samples, rate, clip.audio_start_seconds)
        silent = all(power < SILENT_POWER for power in mixed.values())
        if not silent and not has_cancelled(mixed, _loudest_by_second(self._mixed), channels):
            return clip
        meter = self._measured()
        if not has_cancelled(mixed, _loudest_by_second(meter), channels):
            return clip
        track = SoundTrack(rate, self._span, _loudest(meter.powers))
        self._hear(track)
        sound = track.finish()
        # Measure again: what the resampler removes was never in the mix.
        kept = powers_by_second(sound.samples, rate, sound.start_seconds)
        if not has_cancelled(mixed, kept, channels):
            return clip
        return replace(
            clip,
            samples=sound.samples,
            audio_start_seconds=sound.start_seconds,
            audio_gaps=sound.gaps,
            filled_seconds=sound.filled_seconds,
            audio_channel=track.audio_channel,
        )

    def _measured(self) -> LevelMeter:
        """Return the levels of each channel, measured over the whole span."""
        meter = LevelMeter(self._span)
        self._hear(meter)
        return meter

    def _hear(self, sink: SoundSink) -> None:
        """Decode only the span's sound into a sink."""

        def hear(container: Any) -> None:
            video, audio = self._tracks(container)
            self._span_decoder(container, video, audio, sound_only=True).run(FrameGrid(1.0, 16, self._span), sink)

        self._opened(hear)


def _open(file: str | BinaryIO | FilePart) -> Any:
    if not isinstance(file, str):
        file.seek(0)
    return av.open(
        # The explicit protocol keeps a file name from being read as one.
        f"file:{file}" if isinstance(file, str) else file,
        mode="r",
        metadata_errors="replace",
        container_options={"format_whitelist": CONTAINERS, "protocol_whitelist": "file"},
    )


def _identity(file: str | BinaryIO | FilePart) -> tuple:
    """Return a key that identifies a file in its current state."""
    if not isinstance(file, str):
        return getattr(file, "identity", (id(file),))
    status = os.stat(file)
    return file, status.st_ino, status.st_size, status.st_mtime_ns


def _says_ambisonic(audio: Any) -> bool:
    """Return whether the container declares the sound ambisonic; the decoder's own layout may not repeat that."""
    return is_ambisonic(audio.codec_context.layout)


def _loudest(powers: np.ndarray) -> int:
    return int(powers.argmax()) if len(powers) else 0


def _loudest_by_second(meter: LevelMeter) -> dict[int, float]:
    """Return the power of the loudest channel in each second."""
    return {second: float(powers.max()) for second, powers in meter.by_second().items()}


def _no_clip(reason: Reason, message: str) -> _NoClip:
    return _NoClip(Outcome.dropped(reason, message))
