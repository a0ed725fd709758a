"""Sounds of the page: 16-bit FLAC, which every current browser plays and which is lossless after the rounding.

All sounds are encoded anew, so that no title, tool or date in a file's header reveals its system.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np

from vidaudio.errors import MediaError

PEAK_DBFS = -1.0
RMS_DBFS = -23.0
MOST_CHANNELS = 2
PICTURE_PIXELS = 640


class Level(StrEnum):
    """Loudness matching: none, the same peak for all sounds, or the same mean power for all sounds."""

    AS_IS = "as-is"
    PEAK = "peak"
    RMS = "rms"


@dataclass(frozen=True, slots=True)
class Sound:
    """A sound in memory.

    Attributes:
        samples: Samples, float64 [L, C], full scale 1.
        sample_rate: Sample rate, Hz.
    """

    samples: np.ndarray
    sample_rate: int

    @property
    def seconds(self) -> float:
        """Return the duration in seconds."""
        return len(self.samples) / self.sample_rate

    @property
    def peak(self) -> float:
        """Return the largest absolute sample."""
        return float(np.abs(self.samples).max())

    @property
    def rms(self) -> float:
        """Return the root mean square over all samples and channels."""
        return float(np.sqrt(np.mean(np.square(self.samples))))


def read_sound(path: Path) -> Sound:
    """Read a sound file.

    Raises:
        MediaError: When the file is not a sound, is empty, has values that are not finite, or has more than two
            channels.
    """
    import soundfile

    from vidaudio.media.decode.unstated_length import FlacWithoutLength, read_sound_file

    try:
        found = read_sound_file(path, dtype="float64")
    except (soundfile.LibsndfileError, FlacWithoutLength, RuntimeError) as error:
        raise MediaError(f"{path} cannot be read as a sound: {error}") from None
    samples, sample_rate = found.samples, found.sample_rate
    if not len(samples):
        raise MediaError(f"{path} is empty: there is nothing to listen to.")
    if samples.shape[1] > MOST_CHANNELS:
        raise MediaError(f"{path} has {samples.shape[1]} channels: mono and stereo can be listened to.")
    if not np.isfinite(samples).all():
        raise MediaError(f"{path} holds values that are no numbers.")
    return Sound(samples, sample_rate)


def match_levels(sounds: Mapping[str, Sound], level: Level) -> dict[str, Sound]:
    """Scale the sounds of one item, by system, to the same level.

    `rms` scales all of them to -23 dBFS. If that raises a peak above -1 dBFS, all sounds of the item are turned down by
    the same factor, so that their levels stay equal. Silence stays silence.
    """
    if level is Level.AS_IS:
        return dict(sounds)
    goal = 10 ** ((PEAK_DBFS if level is Level.PEAK else RMS_DBFS) / 20)
    sizes = {name: sound.peak if level is Level.PEAK else sound.rms for name, sound in sounds.items()}
    gains = {name: goal / size if size > 0 else 1.0 for name, size in sizes.items()}
    loudest = max(gains[name] * sound.peak for name, sound in sounds.items())
    common = min(1.0, 10 ** (PEAK_DBFS / 20) / loudest) if loudest > 0 else 1.0
    return {name: Sound(sound.samples * (gains[name] * common), sound.sample_rate) for name, sound in sounds.items()}


def encode_flac(sound: Sound) -> bytes:
    """Encode a sound as 16-bit FLAC; samples above full scale are clipped."""
    import soundfile

    values = np.round(np.clip(sound.samples, -1.0, 32767 / 32768) * 32768).astype(np.int16)
    sink = io.BytesIO()
    soundfile.write(sink, values, sound.sample_rate, format="FLAC", subtype="PCM_16")
    return sink.getvalue()


def encode_picture(path: Path) -> bytes:
    """Encode an image as a JPEG of at most 640 pixels per side, without its metadata.

    Raises:
        MediaError: When the file is not an image.
    """
    from vidaudio.media.pictures import read_picture

    picture = read_picture(path)
    picture.thumbnail((PICTURE_PIXELS, PICTURE_PIXELS))
    sink = io.BytesIO()
    picture.save(sink, "JPEG", quality=90)
    return sink.getvalue()
