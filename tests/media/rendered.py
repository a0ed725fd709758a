"""Tiny media that tell their own time, rendered here, and the readers of what they tell.

Every picture shows its presentation time in milliseconds as blocks of luma with a checksum, in its centre square. The
sound is a row of short tone bursts, one every half second, each of its own pitch: a burst that is found says which one
it is, and how far it is from its place. Both survive lossy codecs, a resize and a downmix.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import ffmpeg
import numpy as np
import soundfile

from vidaudio.media.decode.clip import DecodedClip
from vidaudio.media.ffmpeg import run_ffmpeg

SECONDS = 6.0
FPS = 25
SAMPLE_RATE = 48_000
BURST_EVERY = 0.5
BURST_FIRST = 0.25
BURST_SECONDS = 0.03
# The worst that sound may be off its place.
SOUND_TOLERANCE = 0.005
_COLUMNS, _ROWS = 5, 4
_TIME_BITS, _CHECK_BITS = 16, 4

H264 = {"vcodec": "libx264", "preset": "ultrafast", "bf": 2, "g": 50, "pix_fmt": "yuv420p"}
VP8 = {"vcodec": "libvpx", "deadline": "realtime", "cpu-used": 8, "b:v": "1M", "g": 50, "pix_fmt": "yuv420p"}
VP9 = {"vcodec": "libvpx-vp9", "deadline": "realtime", "cpu-used": 8, "b:v": "1M", "g": 50, "pix_fmt": "yuv420p"}
MPEG4 = {"vcodec": "mpeg4", "q:v": 3, "bf": 2, "g": 50, "pix_fmt": "yuv420p"}
AAC = {"acodec": "aac", "b:a": "96k"}
OPUS = {"acodec": "libopus", "b:a": "96k"}
PCM = {"acodec": "pcm_s16le"}


class UnreadablePicture(AssertionError):
    """The blocks of a picture do not agree with their checksum: it is not a picture rendered here, or is damaged."""


def clock_picture(seconds: float, width: int = 128, height: int = 96) -> np.ndarray:
    """A grey picture [height, width] that shows its time in its centre square."""
    milliseconds = round(seconds * 1000)
    assert 0 <= milliseconds < 1 << _TIME_BITS, "a picture can tell times below 65 s"
    value = milliseconds | _check(milliseconds) << _TIME_BITS
    bits = (value >> np.arange(_COLUMNS * _ROWS)) & 1
    side = min(width, height)
    rows = np.arange(side) * _ROWS // side
    columns = np.arange(side) * _COLUMNS // side
    picture = np.full((height, width), 125, np.uint8)
    top, left = (height - side) // 2, (width - side) // 2
    picture[top : top + side, left : left + side] = (40 + 170 * bits.reshape(_ROWS, _COLUMNS))[rows][:, columns]
    return picture


def picture_seconds(image: np.ndarray) -> float:
    """The time that a square picture [size, size, 3] tells."""
    size = image.shape[0]
    luma = image.astype(float).mean(axis=2)
    centres = [
        luma[round((r + 0.3) * size / _ROWS) : round((r + 0.7) * size / _ROWS), :][
            :, round((c + 0.3) * size / _COLUMNS) : round((c + 0.7) * size / _COLUMNS)
        ].mean()
        for r in range(_ROWS)
        for c in range(_COLUMNS)
    ]
    value = int(((np.array(centres) > 125) << np.arange(_COLUMNS * _ROWS)).sum())
    milliseconds = value & (1 << _TIME_BITS) - 1
    if value >> _TIME_BITS != _check(milliseconds):
        raise UnreadablePicture(f"blocks of luma {np.round(centres)}")
    return milliseconds / 1000


def _check(value: int) -> int:
    # Never 0 for 0, so that black and grey pictures do not read as a time.
    return (value ^ value >> 4 ^ value >> 8 ^ value >> 12 ^ 0b1010) & (1 << _CHECK_BITS) - 1


def burst_times(seconds: float = SECONDS) -> np.ndarray:
    """The middle of every burst."""
    return np.arange(BURST_FIRST, seconds - BURST_SECONDS, BURST_EVERY)


def bursts(seconds: float = SECONDS, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
    """The sound of every clock video, float [samples]."""
    sound = np.zeros(round(seconds * sample_rate))
    times = np.arange(len(sound)) / sample_rate
    for number, middle in enumerate(burst_times(seconds)):
        near = np.abs(times - middle) < BURST_SECONDS / 2
        sound[near] += 0.5 * _burst(times[near] - middle, number).real
    return sound


def _burst(from_middle: np.ndarray, number: int) -> np.ndarray:
    frequency = 600 + 150 * (number % 16)  # below what the lowest sample rate holds
    envelope = np.cos(np.pi * from_middle / BURST_SECONDS) ** 2
    return envelope * np.exp(2j * np.pi * frequency * from_middle)


def heard_bursts(
    samples: np.ndarray, sample_rate: int, start_seconds: float, times: Iterable[tuple[int, float]]
) -> dict[int, float]:
    """How late each burst is heard, seconds, by its number; one that is not there is left out.

    Args:
        samples: Mono int16.
        sample_rate: Of the samples.
        start_seconds: The time of the first sample.
        times: Numbers of bursts, and when each should be heard on the same clock.
    """
    reach = 0.2
    half = round(BURST_SECONDS / 2 * sample_rate)
    sound = np.pad(samples / 32768, half)  # a burst cut by an end is looked for too
    late: dict[int, float] = {}
    for number, middle in times:
        pattern = _burst(np.arange(-half, half + 1) / sample_rate, number)
        first = round((middle - reach - start_seconds) * sample_rate)
        last = round((middle + reach - start_seconds) * sample_rate) + 2 * half
        first, last = max(0, first), min(len(sound), last)
        if last - first < len(pattern):
            continue
        match = np.abs(np.correlate(sound[first:last], pattern, mode="valid"))
        best = int(np.argmax(match))
        # Half as loud as rendered: codecs and downmixes change the level, another pitch correlates far less.
        if match[best] > 0.25 * 0.5 * (np.abs(pattern) ** 2).sum():
            late[number] = start_seconds + (first + best) / sample_rate - middle
    return late


def render(
    path: Path,
    *,
    seconds: float = SECONDS,
    fps: float | Fraction = FPS,
    size: tuple[int, int] = (128, 96),
    sample_rate: int = SAMPLE_RATE,
    channels: int = 1,
    picture: Callable[[float], np.ndarray] | None = None,
    video_options: dict[str, Any] | None = None,
    sound_options: dict[str, Any] | None = None,
    video_filters: dict[str, dict[str, str]] | None = None,
    with_video: bool = True,
    with_sound: bool = True,
    **encoding: Any,
) -> Path:
    """Write a clock video.

    Args:
        path: Its name decides the container.
        picture: Grey [height, width] or RGB [height, width, 3] for a time; by default the clock.
        video_options: Of the picture's input, such as `itsoffset`.
        sound_options: Of the sound's input.
        video_filters: Names of filters and their options, in order.
        encoding: Codecs and options of the output.
    """
    width, height = size
    draw = picture or (lambda t: clock_picture(t, width, height))
    inputs = []
    if with_video:
        pictures = np.stack([draw(float(number / fps)) for number in range(round(seconds * fps))])
        raw = path.with_name(path.name + ".raw")
        raw.write_bytes(pictures.tobytes())
        video = ffmpeg.input(
            str(raw),
            format="rawvideo",
            pix_fmt="gray" if pictures.ndim == 3 else "rgb24",
            s=f"{pictures.shape[2]}x{pictures.shape[1]}",
            framerate=str(fps),
            **(video_options or {}),
        ).video
        for name, options in (video_filters or {}).items():
            video = video.filter(name, **options)
        inputs.append(video)
    if with_sound:
        wav = path.with_name(path.name + ".wav")
        sound = np.repeat(bursts(seconds, sample_rate)[:, None], channels, axis=1)
        soundfile.write(wav, sound, sample_rate, subtype="PCM_16")
        inputs.append(ffmpeg.input(str(wav), **(sound_options or {})).audio)
    run_ffmpeg(ffmpeg.output(*inputs, str(path), **encoding))
    return path


def remux(source: Path, target: Path, change: Callable[[Any], Any] | None = None, **options: str) -> Path:
    """Copy packets into another container; `change` may alter a packet, or drop it by answering None."""
    with av.open(str(source)) as old, av.open(str(target), "w", options=options) as new:
        streams = {s.index: new.add_stream_from_template(s) for s in old.streams if s.type in ("video", "audio")}
        for packet in old.demux():
            if packet.size == 0 or packet.stream.index not in streams:
                continue
            if packet.dts is None:  # Matroska stores none: the first pictures of a stream with reordering have none
                packet.dts = packet.pts - 3 * packet.duration
            stream = streams[packet.stream.index]
            changed = change(packet) if change else packet
            if changed is not None:
                changed.stream = stream
                new.mux(changed)
    return target


def assert_in_sync(
    clip: DecodedClip,
    *,
    zero: float = 0.0,
    seconds: float = SECONDS,
    fps: float = FPS,
    sample_rate: int = 16_000,
    sound_seconds: float | None = None,
    missing_sound: tuple[float, float] | None = None,
) -> None:
    """Every picture and every burst of a clock clip is where its recorded time says.

    Args:
        zero: The rendered time that is 0 on the clip's clock.
        seconds: How long the clip is to be.
        fps: Of the picture, for its tolerance.
        sound_seconds: The rendered length of the sound, if not all of `zero + seconds`.
        missing_sound: Rendered times between which no burst is expected.
    """
    assert len(clip.frame_seconds) == len(clip.images) == len(clip.grid_seconds) > 0
    for image, at in zip(clip.images, clip.frame_seconds, strict=True):
        assert image.shape == (224, 224, 3)
        told = picture_seconds(image) - zero
        assert abs(told - at) <= 0.5 / fps, f"the picture of {told:.3f} s is recorded at {at:.3f} s"
    last = zero + seconds if sound_seconds is None else sound_seconds
    first_sample, last_sample = clip.audio_start_seconds, clip.audio_start_seconds + len(clip.samples) / sample_rate
    expected = {
        number: middle - zero
        for number, middle in enumerate(burst_times(60.0))
        if max(first_sample + zero, zero) + BURST_SECONDS <= middle <= min(last, last_sample + zero) - BURST_SECONDS
        and not (missing_sound and missing_sound[0] - BURST_SECONDS < middle < missing_sound[1] + BURST_SECONDS)
    }
    late = heard_bursts(clip.samples, sample_rate, clip.audio_start_seconds, expected.items())
    assert late.keys() == expected.keys() != set(), f"not heard: {sorted(expected.keys() - late.keys())}"
    wrong = {number: round(seconds, 4) for number, seconds in late.items() if abs(seconds) > SOUND_TOLERANCE}
    assert not wrong, f"seconds late, by number of burst: {wrong}"
