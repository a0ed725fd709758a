"""Options and result of decoding a clip."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from vidaudio.media.decode.channels import Channel
from vidaudio.media.facts.motion import MotionSource


@dataclass(frozen=True, slots=True)
class DecodeOptions:
    """What to keep of a clip.

    Attributes:
        frame_size: Side of the square pictures, pixels.
        frames_per_second: Rate of the picture grid; 1 gives pictures at 1-s intervals.
        sample_rate: Sample rate of the mono sound, Hz.
        min_seconds: Least duration of picture and of sound; clips with less of either are dropped.
        max_seconds: Maximum duration; longer spans are cut to it, which bounds memory on endless files.
        decode: `exact` takes the picture on screen at each grid time, `fast` the last one before it that others refer
            to. Both leave out all pictures that are not needed. `whole` decodes all, with the same result as `exact`.
        channel: Channel to take from a sound with several: the `mix`, the `left`, `right` or `loudest` one, or a number
            counted from 0.
    """

    frame_size: int = 224
    frames_per_second: float = 1.0
    sample_rate: int = 16_000
    min_seconds: float = 2.0
    max_seconds: float = 7200.0
    decode: Literal["exact", "fast", "whole"] = "exact"
    channel: Channel = "mix"


@dataclass(frozen=True, slots=True)
class DecodedClip:
    """Pictures and sound of one clip; all times in seconds from the clip's start.

    Attributes:
        images: RGB pictures, uint8 `[size, size, 3]`.
        frame_seconds: True presentation time of each picture.
        grid_seconds: Time at which each picture is on screen; see `FrameGrid`.
        motion: Largest mean absolute difference between consecutive pictures, in grey levels of 255; see `FrameGrid`.
        samples: Mono int16 `[samples]`.
        audio_start_seconds: Time of the first sample.
        video_seconds: Time at which the last picture ends.
        decode_errors: Number of packets that could not be read or decoded.
        audio_gaps: Number of places where silence was inserted into the sound or an overlap was cut out.
        time_jumps: Number of jumps of the file's clock within the clip; what follows a jump was moved to where it
            belongs.
        filled_seconds: Duration of the silence inserted into gaps of the sound.
        held_seconds: Time during which one picture stayed on screen for over a second.
        audio_channel: The channel that was taken: `mix` of all, `W` of ambisonics, or a number counted from 0.
        tone_mapped: Whether pictures of high dynamic range or wide gamut were converted to BT.709.
        motion_envelope: How much the picture moves, 25 values a second; see `vidaudio.media.facts.motion`.
        motion_source: What the motion was taken from: `frames`, or `packets` where frames were left out.
    """

    images: list[np.ndarray]
    frame_seconds: list[float]
    grid_seconds: list[float]
    motion: float
    samples: np.ndarray
    audio_start_seconds: float
    video_seconds: float
    decode_errors: int
    audio_gaps: int
    time_jumps: int = 0
    filled_seconds: float = 0.0
    held_seconds: float = 0.0
    audio_channel: str = "mix"
    tone_mapped: bool = False
    motion_envelope: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    motion_source: MotionSource = "frames"
