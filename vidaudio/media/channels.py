"""Which channels of a sound become the one that is kept.

Usually all, mixed by FFmpeg's rule for their layout. A mix is not always what is heard: of ambisonics the first
channel, W, is what an omnidirectional microphone hears, and the others are directions; channels of opposite sign
cancel each other; and a layout that FFmpeg has no rule for cannot be mixed by it at all.
"""

from __future__ import annotations

from typing import Literal, Protocol

import av
import numpy as np

Channel = int | Literal["mix", "left", "right", "loudest"]

# What `audio_channel` says of a sound where W was taken.
AMBISONIC_W = "W"
# A mix this much quieter than its loudest channel, in power, has lost it: -20 dB.
CANCELLED_POWER = 0.01
# The same before the resampler has taken away what it does not keep: then it is only a suspicion.
SUSPECTED_POWER = 0.03
# Sound below -70 dBFS is digital silence with, at most, dither.
SILENT_POWER = 1e-7
# Only so many planes of a frame are known to PyAV.
_MOST_PLANES = 8
_SCALES = {"u8": 2.0**7, "s16": 2.0**15, "s32": 2.0**31, "s64": 2.0**63, "flt": 1.0, "dbl": 1.0}
_TYPES = {"u8": np.uint8, "s16": np.int16, "s32": np.int32, "s64": np.int64, "flt": np.float32, "dbl": np.float64}
_LOW_FREQUENCY = frozenset({"LFE", "LFE2"})


class SoundSink(Protocol):
    """What decoded blocks of sound go to."""

    def push(self, frame: av.AudioFrame, seconds: float) -> None:
        """Take the next block, whose first sample is heard at `seconds` from the clip's start."""
        ...

    def passed(self) -> bool:
        """Return whether no later block can matter."""
        ...


class ChannelMissing(ValueError):
    """The sound has no such channel."""


def is_ambisonic(layout: av.AudioLayout) -> bool:
    """Return whether the channels are spherical harmonics and not loudspeakers."""
    return layout.name.startswith("ambisonic")


def channel_number(channel: Channel, layout: av.AudioLayout, *, ambisonic: bool = False) -> int | None:
    """Return the number of the channel to take from a sound of this layout, from 0; None to mix all.

    Args:
        channel: What is asked for, but not `loudest`, which the layout does not tell.
        layout: Of the sound.
        ambisonic: Whether the file says that it is, which a decoder's own layout may not repeat.

    Raises:
        ChannelMissing: The layout has fewer channels.
    """
    count = layout.nb_channels
    if channel == "mix":
        return 0 if ambisonic or is_ambisonic(layout) else None
    if isinstance(channel, int):
        if channel >= count:
            raise ChannelMissing(f"channel {channel} is wanted, and the sound has {count}, counted from 0")
        return channel
    names = [c.name for c in layout.channels] if count <= _MOST_PLANES else []
    side, wanted = (0, ("FL", "DL")) if channel == "left" else (1, ("FR", "DR"))
    return next((number for number, name in enumerate(names) if name in wanted), min(side, count - 1))


def one_channel(frame: av.AudioFrame, number: int | None) -> av.AudioFrame:
    """Return a block of one channel of a sound; of the mean of all where the number is None."""
    values = channel_values(frame)
    if number is None:
        names = [c.name for c in frame.layout.channels] if values.shape[1] <= _MOST_PLANES else []
        full = [n for n in range(values.shape[1]) if n >= len(names) or names[n] not in _LOW_FREQUENCY]
        taken = values[:, full or slice(None)].mean(axis=1)
    else:
        taken = values[:, number]
    block = av.AudioFrame.from_ndarray(np.ascontiguousarray(taken, np.float32)[None], format="flt", layout="mono")
    block.sample_rate = frame.sample_rate
    return block


def channel_values(frame: av.AudioFrame) -> np.ndarray:
    """Return a block's samples, float32 `[samples, channels]`, full scale 1."""
    packed = av.AudioResampler(format="flt").resample(frame)
    count = frame.layout.nb_channels
    return np.concatenate([np.frombuffer(p.planes[0], np.float32)[: p.samples * count] for p in packed]).reshape(
        -1, count
    )


class LevelMeter:
    """Measures how loud each channel of a sound is.

    Args:
        end_seconds: Nothing is measured from here on.
        every: Only every so-many-th block is looked at.
    """

    def __init__(self, end_seconds: float = float("inf"), every: int = 1) -> None:
        self._end_seconds, self._every = end_seconds, every
        self._blocks = self._beyond_end = self._samples = 0
        self._sums = np.zeros(0)

    @property
    def powers(self) -> np.ndarray:
        """Mean square of each channel, full scale 1; empty where nothing was measured."""
        return self._sums / max(1, self._samples)

    def push(self, frame: av.AudioFrame, seconds: float) -> None:
        """Measure one block."""
        if seconds >= self._end_seconds:
            self._beyond_end += 1
            return
        self._blocks += 1
        if (self._blocks - 1) % self._every:
            return
        channels = frame.layout.nb_channels
        if channels > len(self._sums):
            self._sums = np.pad(self._sums, (0, channels - len(self._sums)))
        self._sums[:channels] += _square_sums(frame, channels)
        self._samples += frame.samples

    def passed(self) -> bool:
        """Return whether the clip's end has been reached."""
        return self._beyond_end >= 8


def _square_sums(frame: av.AudioFrame, channels: int) -> list[float] | np.ndarray:
    kind = frame.format.name.removesuffix("p")
    if not frame.format.is_planar:
        values = np.frombuffer(frame.planes[0], _TYPES[kind])[: frame.samples * channels].reshape(-1, channels)
        return _square_sum(values, kind)
    if channels > _MOST_PLANES:
        return _square_sum(channel_values(frame), "flt")
    sums = []
    for plane in frame.planes:
        values = np.frombuffer(plane, _TYPES[kind])[: frame.samples]
        sums.append(float(values @ values) if kind == "flt" else _square_sum(values, kind))
    return sums


def _square_sum(values: np.ndarray, kind: str) -> np.ndarray:
    values = values.astype(np.float64)
    if kind == "u8":
        values -= _SCALES[kind]
    return (values**2).sum(axis=0) / _SCALES[kind] ** 2
