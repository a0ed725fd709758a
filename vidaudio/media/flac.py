"""The sounds that corpora hold, FLAC or WAV in memory, decoded within the memory that their length allows.

libsndfile believes a header's number of samples, and memory is taken for all of them at once; and it opens two dozen
formats, of which a corpus holds two.
"""

from __future__ import annotations

import contextlib
import io
import struct
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
import soundfile

FORMATS = ("FLAC", "WAV")
# The shortest FLAC frame has 10 bytes or so and at most 65,535 samples.
SAMPLES_PER_BYTE = 6_554
# Read of one sound: two hours, to which extraction cuts, at the highest rate. Their values fit into a WAV file.
MAX_SAMPLES = 7_200 * 192_000
BLOCK_SAMPLES = 1 << 20


class BadSound(ValueError):
    """Bytes that are no sound of ours; says why."""


def decode_sound(
    data: bytes, samples: int | None = None, *, first: int = 0, count: int | None = None
) -> tuple[np.ndarray, int]:
    """Return a mono sound's values, int16, and its rate in Hz.

    Args:
        data: Of the member of a tar.
        samples: That the whole sound must have, where that is known.
        first, count: Of the values that are wanted; all of them by default.

    Raises:
        BadSound: The bytes are damaged, of another format, or of another length than was said.
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
    """Write a mono sound as a WAV file of 16 bits, a block at a time: a small FLAC file can hold hours.

    Args:
        data: Of the member of a tar.
        samples: That the whole sound must have.
        out: Written to from its beginning; where this raises, what was written is of no use.

    Raises:
        BadSound: As `decode_sound`.
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
    """Open a sound whose header can be believed; every fault of its bytes becomes a `BadSound`."""
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
        raise BadSound((str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")) from error


def _check_length(samples: int) -> None:
    if samples > MAX_SAMPLES:
        raise BadSound(f"{samples:,} samples are more than the {MAX_SAMPLES:,} that are read of one sound")
