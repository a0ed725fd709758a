"""The sounds that corpora hold, FLAC or WAV in memory, decoded within the memory that their length allows.

libsndfile believes a header's number of samples, and memory is taken for all of them at once; and it opens two dozen
formats, of which a corpus holds two.
"""

from __future__ import annotations

import io

import numpy as np
import soundfile

FORMATS = ("FLAC", "WAV")
# The shortest FLAC frame has 10 bytes or so and at most 65,535 samples.
SAMPLES_PER_BYTE = 6_554


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
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            if file.format not in FORMATS or file.channels != 1:
                raise BadSound(f"it is {file.format} of {file.channels} channels, and a corpus holds mono FLAC")
            if samples is not None and file.frames != samples:
                raise BadSound(f"{file.frames:,} of its {samples:,} samples decode")
            if file.frames > len(data) * SAMPLES_PER_BYTE:
                raise BadSound(f"its header says that it has {file.frames:,} samples")
            wanted = file.frames - first if count is None else count
            if first:
                file.seek(first)
            values = file.read(wanted, dtype="int16")
            rate = file.samplerate
    except (soundfile.SoundFileError, RuntimeError, TypeError, OverflowError, MemoryError) as error:
        raise BadSound((str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")) from error
    if len(values) != wanted:
        raise BadSound(f"{first + len(values):,} of its {samples or first + wanted:,} samples decode")
    return values, rate
