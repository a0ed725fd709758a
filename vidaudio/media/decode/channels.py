"""Selection of the channels that become the one kept channel.

Usually all channels are mixed by FFmpeg's rule for their layout. Such a mix is not always what is heard. In ambisonics,
the first channel, W, is what an omnidirectional microphone hears, and the other channels are directions. Channels of
opposite sign cancel each other. FFmpeg cannot mix a layout for which it has no rule.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

import av
import numpy as np
from av.audio.plane import AudioPlane

Channel = int | Literal["mix", "left", "right", "loudest"]

# Value of `audio_channel` where W was taken.
AMBISONIC_W = "W"
# A mix whose power over a second is below this share of its loudest channel's (-17 dB) has lost that channel.
_CANCELLED_POWER = 0.02
# Seconds whose power is below this share of the loudest second's (-30 dB) are ignored.
AUDIBLE_POWER = 1e-3
# Sound below -70 dBFS is digital silence with, at most, dither.
SILENT_POWER = 1e-7
# PyAV gives access to at most this many planes of a frame.
_MOST_PLANES = 8
_SCALES = {"u8": 2.0**7, "s16": 2.0**15, "s32": 2.0**31, "s64": 2.0**63, "flt": 1.0, "dbl": 1.0}
_TYPES: dict[str, type[np.generic]]
_TYPES = {"u8": np.uint8, "s16": np.int16, "s32": np.int32, "s64": np.int64, "flt": np.float32, "dbl": np.float64}
_LOW_FREQUENCY = frozenset({"LFE", "LFE2"})


class SoundSink(Protocol):
    """Receiver of decoded blocks of sound."""

    def push(self, frame: av.AudioFrame, seconds: float) -> None:
        """Take the next block, whose first sample is heard at `seconds` from the clip's start."""
        ...

    def passed(self) -> bool:
        """Return whether no later block can matter."""
        ...


class ChannelMissing(ValueError):
    """Error for a sound that does not have the wanted channel."""


def is_ambisonic(layout: av.AudioLayout) -> bool:
    """Return whether the channels are spherical harmonics and not loudspeakers."""
    return layout.name.startswith("ambisonic")


def channel_number(channel: Channel, layout: av.AudioLayout, *, ambisonic: bool = False) -> int | None:
    """Return the number of the channel to take from a sound of this layout, counted from 0; None to mix all.

    Args:
        channel: The wanted channel. `loudest` is not accepted, because a layout does not show levels.
        layout: Channel layout of the sound.
        ambisonic: Whether the file declares the sound ambisonic; the decoder's own layout may not repeat that.

    Raises:
        ChannelMissing: When the layout does not have a channel of this number.
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
    """Return a block with one channel of a sound; with the mean of all if `number` is None.

    Low-frequency channels are left out of the mean, unless there are no others.
    """
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


def plane_values(plane: AudioPlane, kind: type[np.generic]) -> np.ndarray:
    """Return the values of a plane, padding included, without a copy."""
    return np.frombuffer(plane, kind)  # type: ignore[call-overload] # PyAV's stubs omit the buffer protocol


def channel_values(frame: av.AudioFrame) -> np.ndarray:
    """Return a block's samples, float32 `[samples, channels]`, full scale 1."""
    packed = av.AudioResampler(format="flt").resample(frame)
    count = frame.layout.nb_channels
    return np.concatenate([plane_values(p.planes[0], np.float32)[: p.samples * count] for p in packed]).reshape(
        -1, count
    )


class LevelMeter:
    """Level meter for each channel of a sound; low-frequency channels, which no mix contains, count as silent.

    Args:
        end_seconds: End of the clip; nothing is measured from here on.
        every: Interval in blocks. Blocks in between are measured only if they last a second or begin a new one.
    """

    def __init__(self, end_seconds: float = float("inf"), every: int = 1) -> None:
        self._end_seconds, self._every = end_seconds, every
        self._blocks = self._beyond_end = self._channels = 0
        self._layout = ""
        self._low: list[int] = []
        # Sums of squares and numbers of samples, by whole seconds from the clip's start.
        self._sums: dict[int, np.ndarray] = {}
        self._samples: dict[int, int] = {}

    @property
    def powers(self) -> np.ndarray:
        """Mean square of each channel, full scale 1; empty if nothing was measured."""
        return self._of(list(self._sums))

    def by_second(self) -> dict[int, np.ndarray]:
        """Return the mean square of each channel, full scale 1, for every whole second that was measured."""
        return {second: self._of([second]) for second in self._sums}

    def _of(self, seconds: Sequence[int]) -> np.ndarray:
        sums = np.zeros(self._channels)
        for second in seconds:
            sums[: len(self._sums[second])] += self._sums[second]
        return sums / max(1, sum(self._samples[second] for second in seconds))

    def push(self, frame: av.AudioFrame, seconds: float) -> None:
        """Measure one block."""
        if seconds >= self._end_seconds:
            self._beyond_end += 1
            return
        self._blocks += 1
        rate = frame.sample_rate
        # A short block may be skipped if its second has samples: those that begin in a second represent it as well as
        # those that reach into it.
        if (self._blocks - 1) % self._every and math.floor(seconds) in self._samples and frame.samples < rate:
            return
        channels, cuts = frame.layout.nb_channels, _second_cuts(seconds, frame.samples, rate)
        self._channels = max(self._channels, channels)
        if frame.layout.name != self._layout:
            self._layout, self._low = frame.layout.name, _low_frequency(frame.layout)
        for (second, begin, end), sums in zip(cuts, _square_sums(frame, channels, cuts), strict=True):
            if len(self._low) < channels:
                sums[self._low] = 0.0
            whole = np.zeros(self._channels)
            for part in (sums, self._sums.get(second, ())):
                whole[: len(part)] += part
            self._sums[second] = whole
            self._samples[second] = self._samples.get(second, 0) + end - begin

    def passed(self) -> bool:
        """Return whether 8 blocks lay at or after the clip's end."""
        return self._beyond_end >= 8


def _low_frequency(layout: av.AudioLayout) -> list[int]:
    """Return the numbers of the low-frequency channels."""
    names = [channel.name for channel in layout.channels] if layout.nb_channels <= _MOST_PLANES else []
    return [number for number, name in enumerate(names) if name in _LOW_FREQUENCY]


def has_cancelled(mixed: Mapping[int, float], loudest: Mapping[int, float], channels: int) -> bool:
    """Return whether a mix has lost its loudest channel in any second in which that channel is audible.

    Args:
        mixed: Mean square of the mix for each whole second, full scale 1.
        loudest: Mean square of the loudest channel for each whole second, full scale 1.
        channels: Number of mixed channels. A single audible channel has 1 / channels**2 of its power in the mean of
            all. A fourth of that is less than any mix without cancellation leaves.
    """
    share = min(_CANCELLED_POWER, 0.25 / channels**2)
    audible = max(SILENT_POWER, AUDIBLE_POWER * max(loudest.values(), default=0.0))
    return any(
        power > audible and mixed[second] < max(share * power, SILENT_POWER)
        for second, power in loudest.items()
        if second in mixed
    )


def powers_by_second(samples: np.ndarray, sample_rate: int, start_seconds: float) -> dict[int, float]:
    """Return the mean square of an int16 sound, full scale 1, for each whole clip second that is at least half full."""
    cuts = _second_cuts(start_seconds, len(samples), sample_rate) if len(samples) else []
    powers = {second: samples[begin:end].astype(np.float32) for second, begin, end in cuts}
    return {
        second: float(values @ values) / len(values) / 32768**2
        for second, values in powers.items()
        if len(values) >= sample_rate / 2
    }


def _second_cuts(seconds: float, samples: int, sample_rate: int) -> list[tuple[int, int, int]]:
    """Return each whole second that a block overlaps, with its first sample and the one after its last in the block."""
    first, last = math.floor(seconds), math.floor(seconds + (samples - 1) / sample_rate)
    inner = [min(samples, max(0, round((second - seconds) * sample_rate))) for second in range(first + 1, last + 1)]
    return [
        (first + number, begin, end)
        for number, (begin, end) in enumerate(itertools.pairwise([0, *inner, samples]))
        if end > begin
    ]


def _square_sums(frame: av.AudioFrame, channels: int, cuts: Sequence[tuple[int, int, int]]) -> list[np.ndarray]:
    """Return the sum of squares of each channel, full scale 1, for every cut of a block."""
    kind = frame.format.name.removesuffix("p")
    if not frame.format.is_planar:
        values = plane_values(frame.planes[0], _TYPES[kind])[: frame.samples * channels].reshape(-1, channels)
    elif channels > _MOST_PLANES:
        kind, values = "flt", channel_values(frame)
    else:
        planes = [plane_values(plane, _TYPES[kind])[: frame.samples] for plane in frame.planes]
        if kind == "flt":
            return [np.array([float(p[a:b] @ p[a:b]) for p in planes]) for _, a, b in cuts]
        return [np.array([_square_sum(p[a:b], kind) for p in planes]) for _, a, b in cuts]
    return [_square_sum(values[a:b], kind) for _, a, b in cuts]


def _square_sum(values: np.ndarray, kind: str) -> np.ndarray:
    values = values.astype(np.float64)
    if kind == "u8":
        values -= _SCALES[kind]
    return (values**2).sum(axis=0) / _SCALES[kind] ** 2
