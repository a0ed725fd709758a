"""Decoding of a corpus's sounds, FLAC or WAV in memory; their number of bytes bounds the memory that is used.

libsndfile trusts the sample count in a header and takes memory for all samples at once. It also opens two dozen
formats, of which a corpus contains two.
"""

from __future__ import annotations

import contextlib
import io
import struct
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
import soundfile

from vidaudio.text import first_line

FORMATS = ("FLAC", "WAV")
# The shortest FLAC frame has 10 bytes or so and at most 65,535 samples.
SAMPLES_PER_BYTE = 6_554
# Maximum number of samples read of one sound: two hours, to which extraction cuts, at the highest rate. They still fit
# into a WAV file.
MAX_SAMPLES = 7_200 * 192_000
BLOCK_SAMPLES = 1 << 20


class BadSound(ValueError):
    """Error for bytes that are not a sound of a corpus; the text says why."""


def decode_sound(
    data: bytes, samples: int | None = None, *, first: int = 0, count: int | None = None
) -> tuple[np.ndarray, int]:
    """Return a mono sound's samples, int16, and its sample rate in Hz.

    Args:
        data: Content of a tar member.
        samples: Number of samples that the whole sound must have; None if unknown.
        first: First sample to return.
        count: Number of samples to return; None means all from `first` on.

    Raises:
        BadSound: When the bytes are damaged, of another format, or of another length than stated.
    """
    with _opened(data, samples) as file:
        wanted = file.frames - first if count is None else count
        _check_length(wanted)
        if first:
            file.seek(first)
        values = file.read(wanted, dtype="int16")
        rate = file.samplerate
    if len(values) != wanted:
        raise BadSound(f"{first + len(values):,} of its {samples or first + wanted:,} samples decode")
    return values, rate


def write_wav(data: bytes, samples: int, out: BinaryIO) -> None:
    """Write a mono sound as a 16-bit WAV file, block by block, because a small FLAC file can contain hours.

    Args:
        data: Content of a tar member.
        samples: Number of samples that the whole sound must have.
        out: Output file, written from its beginning. After an error, its content is unusable.

    Raises:
        BadSound: When the bytes are damaged, of another format, or of another length than stated.
    """
    with _opened(data, samples) as file:
        _check_length(samples)
        size, rate = 2 * samples, file.samplerate
        head = struct.pack("<4sI4s4sIHHIIHH", b"RIFF", 36 + size, b"WAVE", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16)
        out.write(head + struct.pack("<4sI", b"data", size))
        for first in range(0, samples, BLOCK_SAMPLES):
            wanted = min(BLOCK_SAMPLES, samples - first)
            values = file.read(wanted, dtype="int16")
            if len(values) != wanted:
                raise BadSound(f"{first + len(values):,} of its {samples:,} samples decode")
            out.write(values.astype("<i2", copy=False).tobytes())


@contextlib.contextmanager
def _opened(data: bytes, samples: int | None) -> Iterator[soundfile.SoundFile]:
    """Open a sound with a plausible header; every fault of its bytes becomes a `BadSound`."""
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            if file.format not in FORMATS or file.channels != 1:
                raise BadSound(f"it is {file.format} of {file.channels} channels, and a corpus holds mono FLAC")
            if samples is not None and file.frames != samples:
                raise BadSound(f"{file.frames:,} of its {samples:,} samples decode")
            if file.frames > len(data) * SAMPLES_PER_BYTE:
                raise BadSound(f"its header says that it has {file.frames:,} samples")
            yield file
    except (soundfile.SoundFileError, RuntimeError, TypeError, OverflowError, MemoryError) as error:
        raise BadSound(first_line(error).rstrip(".")) from error


def _check_length(samples: int) -> None:
    if samples > MAX_SAMPLES:
        raise BadSound(f"{samples:,} samples are more than the {MAX_SAMPLES:,} that are read of one sound")
