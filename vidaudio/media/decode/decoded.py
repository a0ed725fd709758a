"""What decoding a clip is asked for, and what it gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from vidaudio.media.decode.channels import Channel


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
        channel: Of a sound with several: their `mix`, the `left`, `right` or `loudest` one, or a number from 0.
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
        grid_seconds: When each is on screen.
        motion: See `FrameGrid`.
        samples: Mono int16 `[samples]`.
        audio_start_seconds: Time of the first sample.
        video_seconds: When the last picture ends.
        decode_errors: Packets that could not be read or decoded.
        audio_gaps: How often silence was put into the sound, or an overlap cut out.
        time_jumps: How often the file's clock jumped within the clip; what follows was moved to where it belongs.
        filled_seconds: Silence put into gaps of the sound.
        held_seconds: Time in which one picture stayed on screen for over a second.
        audio_channel: `mix` of all channels, `W` of ambisonics, or the number of the one that was taken, from 0.
        tone_mapped: Whether pictures of high dynamic range or wide gamut were converted to BT.709.
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
