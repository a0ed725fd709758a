"""Decoder of one span of an open file in one pass: where to begin, which packets to decode, when each frame is shown.

Decoding begins early enough for the span's first picture and sound to be right, counts what cannot be decoded, and ends
as soon as both have passed the span's end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import av

from vidaudio.media.decode import frame_skipping
from vidaudio.media.decode.channels import SoundSink
from vidaudio.media.decode.frame_skipping import CannotSkipFrames, FrameSkipper
from vidaudio.media.decode.frames import FrameGrid
from vidaudio.media.decode.timeline import ClockWatch, TimeLine, longest_gap_seconds, ticks_to_seconds
from vidaudio.media.facts.motion import MotionSource, MotionTrack

# Decoding starts this long before the clip, because sound codecs need a few packets to settle. It starts farther back
# if that is not before the clip's first picture (without an index, containers seek to a place between key frames).
PREROLL_SECONDS = (0.25, 3.0, 15.0, 60.0)
# MPEG program streams stamp few pictures: after a seek, the time stamps of the first second are guessed.
PREROLL_SECONDS_UNSTAMPED = PREROLL_SECONDS[1:]
# If this many packets contain no sound, looking farther back for it is not worth the time.
PROBED_PACKETS = 500
# A file with this many errors in a row is given up.
MAX_ERRORS_IN_A_ROW = 200
MEDIA_ERRORS = (av.FFmpegError, ValueError, OSError)
# A picture that stays on screen for longer counts as held.
HELD_SECONDS = 1.0


class ClockJumped(Exception):
    """Signal that the file's clock may jump: all of its packets must be read before it is decoded."""


def read_packets(container: Any, streams: Sequence[Any]) -> Iterator[av.Packet]:
    """Yield the packets of a file to its end, skipping what cannot be read."""
    errors_in_a_row = 0
    packets = container.demux(streams)
    while errors_in_a_row < MAX_ERRORS_IN_A_ROW:
        try:
            packet = next(packets)
        except (StopIteration, IndexError):
            return
        except MEDIA_ERRORS:
            errors_in_a_row += 1
            packets = container.demux(streams)
            continue
        errors_in_a_row = 0
        yield packet


class SpanDecoder:
    """Decoder that passes the pictures and the sound of one span of an open file to a grid and a sink, in one pass.

    Args:
        container: Opened media file.
        video: Video stream to decode.
        audio: Audio stream to decode.
        start_seconds: Start of the span, seconds from the file's time 0.
        time_line: Time line of the file if its packets have been read. If None, a jump of the clock raises
            `ClockJumped`.
        encoder_delay: Encoder delay of the sound, seconds; it is subtracted from the sound's time stamps.
        sound_only: Whether to leave out the pictures.
        motion: Collector of what shows the span's motion.

    Attributes:
        errors: Number of packets that could not be read or decoded.
        pictures: Number of decoded frames, also outside the span.
        blocks: Number of decoded sound blocks, also outside the span.
        sought: Whether reading began elsewhere than at the file's beginning.
        held_seconds: Time in the span during which a picture stayed for more than `HELD_SECONDS`.
    """

    def __init__(
        self,
        container,
        video,
        audio,
        start_seconds: float,
        *,
        time_line: TimeLine | None = None,
        encoder_delay: float = 0.0,
        sound_only: bool = False,
        motion: MotionTrack | None = None,
    ) -> None:
        self.errors = self.pictures = self.blocks = 0
        self.sought = False
        self.held_seconds = 0.0
        self._container, self._video, self._audio = container, video, audio
        self._time_line, self._sound_only, self._motion = time_line, sound_only, motion
        self._counted = {video.index: 0, audio.index: 0}
        self._encoder_delay = encoder_delay
        self._last_video_dts: int | None = None
        self._span_end = float("inf")
        self._file_start = (container.start_time or 0) / av.time_base
        self._zero = self._file_start + start_seconds
        self._held_ticks = HELD_SECONDS / float(video.time_base)
        rate = video.guessed_rate
        self._frame_seconds = float(1 / rate) if rate else 0.04
        # If a time stamp is missing, the block follows the one before it.
        self._next_video = self._next_audio = self._file_start
        # AVI stamps packets in decoding order: pictures come out later than they are to be shown, by a constant.
        self._decoding_order = container.format.name == "avi"
        self._first_video_dts: int | None = None
        self._reordering: int | None = None
        self._skipper: FrameSkipper | None = None

    @property
    def tells_ahead(self) -> bool:
        """Whether packets of this codec in this container give enough information to leave pictures out."""
        unstamped = self._container.format.name in frame_skipping.UNSTAMPED_CONTAINERS
        return self._video.codec_context.name in frame_skipping.CODECS and not unstamped

    @property
    def motion_source(self) -> MotionSource:
        """What the span's motion can be taken from: its frames, or its packets where frames are left out."""
        return "frames" if self._skipper is None else "packets"

    def look_ahead(self, step_seconds: float, *, exact: bool) -> None:
        """Decode from here on only the pictures that a grid of this spacing (in seconds) needs."""
        self._skipper = FrameSkipper(step_seconds, self._zero, exact=exact)

    def seek(self) -> bool:
        """Seek to where the span's first picture and sound can be decoded: never later, rarely much earlier.

        Returns:
            False if the file must be read from its beginning; the container may then no longer be at its beginning.
        """
        unstamped = self._container.format.name == "mpeg"
        for number, preroll in enumerate(PREROLL_SECONDS_UNSTAMPED if unstamped else PREROLL_SECONDS):
            if self._zero - preroll <= self._file_start:
                return number == 0
            if self._decoding_order and self._reordering is None:
                # The delay can only be seen at the file's beginning: after a seek, decoders skip what refers to earlier
                # pictures.
                next((self._reordered(f) for f in self._frames() if isinstance(f, av.VideoFrame)), None)
            try:
                self._container.seek(round((self._zero - preroll) * av.time_base), backward=True)
                # If sound begins late even with the second preroll, it begins late in the file itself.
                early_enough = self._begins_before_span({"video", "audio"} if number < 2 else {"video"})
                self._container.seek(round((self._zero - preroll) * av.time_base), backward=True)
            except (*MEDIA_ERRORS, IndexError):
                return False  # reading from the beginning is slower but just as right
            if early_enough:
                self.sought = True
                self._last_video_dts = None
                return True
        return False

    def run(self, grid: FrameGrid, track: SoundSink) -> None:
        """Decode until grid and track have passed the end of the span, or nothing more can be read.

        Raises:
            CannotSkipFrames: When only the needed pictures are decoded and the file does not allow it.
            ClockJumped: When the file's clock may jump, and no time line was given.
        """
        collected = False
        self._span_end = self._zero + grid.span_seconds
        for frame in self._frames():
            try:
                if isinstance(frame, av.VideoFrame):
                    self._show(frame, grid)
                else:
                    self._play(frame, track)
            except MemoryError:  # FFmpeg's is also one of MEDIA_ERRORS, but says nothing about the file's content
                raise
            except MEDIA_ERRORS:  # a pixel format or a channel layout that cannot be converted
                self.errors += 1
            if collected := (self._sound_only or grid.passed()) and track.passed():
                break
        if self._skipper is not None:
            self._skipper.finish(at_end=not collected)
            grid.extend(self._skipper.end_seconds)

    def _show(self, frame: av.VideoFrame, grid: FrameGrid) -> None:
        self.pictures += 1
        if self._skipper is not None:
            self._skipper.shown(frame)
        time_base = frame.time_base
        duration = self._frame_seconds
        if frame.duration and time_base is not None:
            duration = max(0.0, ticks_to_seconds(frame.duration, time_base))
        pts = self._reordered(frame) if self._decoding_order else frame.pts
        seconds = self._next_video if pts is None or time_base is None else ticks_to_seconds(pts, time_base)
        self._next_video = seconds + duration
        if self._motion is not None and self._skipper is None:
            self._motion.add_frame(frame, seconds - self._zero)
        grid.push(frame, seconds - self._zero, duration)

    def _play(self, frame: av.AudioFrame, track: SoundSink) -> None:
        self.blocks += 1
        seconds = self._next_audio if (time := frame.time) is None else time - self._encoder_delay
        self._next_audio = seconds + frame.samples / frame.sample_rate
        if self._next_audio > self._zero:
            track.push(frame, seconds - self._zero)

    def _frames(self) -> Iterator[av.VideoFrame | av.AudioFrame]:
        """Yield all frames that can be decoded from here on, and count what cannot be decoded."""
        errors_in_a_row = 0
        start = None if self.sought else self._file_start
        watch = ClockWatch((self._video, self._audio), start, longest_gap_seconds(self._container))
        packets = self._container.demux(self._video, self._audio)
        while errors_in_a_row < MAX_ERRORS_IN_A_ROW:
            try:
                packet = next(packets)
            except (StopIteration, IndexError):  # PyAV raises it at the end of a file in which streams appeared midway
                return
            except MEDIA_ERRORS:
                self.errors += 1
                errors_in_a_row += 1
                packets = self._container.demux(self._video, self._audio)
                continue
            if packet.size and self._time_line is None and watch.jumps(packet):
                raise ClockJumped
            stream = packet.stream.index
            is_video = stream == self._video.index
            self._place(packet, stream, is_video=is_video)
            try:
                if is_video and self._sound_only:
                    continue
                frames = (
                    self._needed_frames(packet, self._skipper)
                    if self._skipper is not None and is_video
                    else packet.decode()
                )
            except MemoryError:
                raise
            except MEDIA_ERRORS:
                self.errors += 1
                errors_in_a_row += 1
                continue
            if frames:
                errors_in_a_row = 0
            yield from frames

    def _place(self, packet: av.Packet, stream: int, *, is_video: bool) -> None:
        """Put a packet of a stream on the file's time line, and record what its time stamps show."""
        if packet.size:
            number = self._counted[stream]
            self._counted[stream] = number + 1
            if self._time_line is not None:
                self._time_line.move(packet, number)
        if not is_video:
            return
        shown = packet.dts if packet.pts is None else packet.pts
        if self._motion is not None and packet.size and shown is not None:
            seconds = ticks_to_seconds(shown, packet.time_base) - self._zero
            self._motion.add_packet(
                seconds,
                packet.size,
                key=packet.is_keyframe,
                disposable=packet.is_disposable,
                reordered_seconds=0.0 if packet.dts is None else float((shown - packet.dts) * packet.time_base),
            )
        if self._first_video_dts is None and packet.is_keyframe:
            self._first_video_dts = packet.dts
        last, dts = self._last_video_dts, packet.dts
        if dts is not None:
            self._last_video_dts = dts
            if last is not None and dts - last > self._held_ticks:
                begin, end = (float(ticks * packet.time_base) for ticks in (last, dts))
                self.held_seconds += max(0.0, min(end, self._span_end) - max(begin, self._zero))

    def _needed_frames(self, packet: av.Packet, skipper: FrameSkipper) -> list[av.VideoFrame]:
        """Return the pictures that come out once this packet is read, without unneeded ones that can be left out."""
        ends = packet.size == 0
        decided = skipper.drain() if ends else skipper.push(packet)
        frames: list[av.VideoFrame] = []
        try:
            for waiting, needed in decided:
                self._video.codec_context.skip_frame = "DEFAULT" if needed else "NONREF"
                frames += waiting.decode()
            return frames + packet.decode() if ends else frames
        except MEDIA_ERRORS as error:
            raise CannotSkipFrames("damaged pictures change those after them") from error

    def _reordered(self, frame: av.VideoFrame) -> int | None:
        if frame.dts is None:
            return None
        if self._reordering is None:
            self._reordering = frame.dts - (frame.dts if self._first_video_dts is None else self._first_video_dts)
        return frame.dts - self._reordering

    def _begins_before_span(self, missing: set[str]) -> bool:
        """Return whether the first media of each kind in `missing` come no later than the span; sound may be absent."""
        for number, packet in enumerate(self._container.demux(self._video, self._audio)):
            kind = packet.stream.type
            if kind == "video" and kind in missing:
                times = [frame.pts * frame.time_base for frame in packet.decode() if frame.pts is not None]
            else:
                times = [] if packet.pts is None else [packet.pts * packet.time_base]
            if times and kind in missing:
                if times[0] > self._zero:
                    return False
                missing.remove(kind)
            if not missing or (number > PROBED_PACKETS and "video" not in missing):
                return True
        return "video" not in missing
