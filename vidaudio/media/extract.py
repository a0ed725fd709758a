"""Clips to JPEG pictures and FLAC sound, through a decoder process that may die or hang at the cost of one clip.

A clip whose decoder dies is a suspect: it is decoded again, alone in a process of its own, and failed once such a
process has died on it twice. One that overruns its deadline has one more try. Otherwise the process is kept between
clips, since starting one costs as much as decoding a clip.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from vidaudio.media.reasons import Outcome, Reason, State

READ_BYTES = 1 << 20
# Deaths of a process that decoded nothing but the one clip, until they are taken for the clip's doing.
DEATHS_ALONE = 2
NOT_FOR_DECODING = ("jpeg_quality", "deadline_seconds", "memory_gib")
# The child finds this very package wherever it lies, and nothing that lies in the folder it happens to be started from.
PACKAGES = str(Path(__file__).resolve().parents[2])
CHILD = f"import sys; sys.path.append({PACKAGES!r}); from vidaudio.media.child import main; main()"


@dataclass(frozen=True, slots=True)
class ExtractOptions:
    """What is kept of every clip, and how long one may take.

    Attributes:
        frame_size: Side of the square pictures, pixels.
        frames_per_second: Of the picture grid.
        sample_rate: Of the mono sound, Hz.
        min_seconds: Clips with less picture or sound are dropped as too short.
        decode: `exact`: the picture on screen at every grid time; `fast`: the last before it that others refer to.
        jpeg_quality: 1 to 95.
        deadline_seconds: Per clip and try.
        memory_gib: Address space of the decoder; a clip that wants more is failed.
    """

    frame_size: int = 224
    frames_per_second: float = 1.0
    sample_rate: int = 16_000
    min_seconds: float = 2.0
    decode: Literal["exact", "fast"] = "exact"
    jpeg_quality: int = 92
    deadline_seconds: float = 120.0
    memory_gib: float = 4.0

    def decode_options(self) -> dict[str, Any]:
        """The part that the decoder needs."""
        values = asdict(self)
        return {k: v for k, v in values.items() if k not in NOT_FOR_DECODING}


@dataclass(frozen=True, slots=True)
class MediaSpan:
    """A clip in a local file, or in `length` bytes of it from `offset`; seconds on that file's own time line."""

    path: Path
    start_seconds: float
    end_seconds: float | None
    offset: int = 0
    length: int | None = None


@dataclass(frozen=True, slots=True)
class Extracted:
    """What became of one clip: members by extension and facts where it is done."""

    outcome: Outcome
    facts: Mapping[str, Any] = field(default_factory=dict)
    parts: Mapping[str, bytes] = field(default_factory=dict)


class DecoderDied(Exception):
    """The decoder's process ended in the middle of a clip, with this exit code (negative: a signal)."""


class DecoderLate(Exception):
    """The decoder overran the clip's deadline and was killed."""


class Extractor:
    """One decoder process, started when first needed, replaced when it dies. Not to be shared between threads."""

    def __init__(self, options: ExtractOptions | None = None) -> None:
        self.options = options or ExtractOptions()
        self._process: subprocess.Popen | None = None
        self._buffer = bytearray()

    def extract(self, span: MediaSpan, *, alone: bool = False) -> Extracted:
        """Decode and encode one clip. Never raises for bad media, crashes or hangs of the decoder.

        Args:
            span: The clip.
            alone: In a process that has decoded nothing else, and will not.
        """
        if alone:
            self.close()
        deaths = late = 0
        while True:
            # What died may have been broken by a clip before: that proves nothing against this one.
            fresh = self._process is None
            try:
                result = self._ask(span)
            except (DecoderDied, DecoderLate) as error:
                self.close()
                late += isinstance(error, DecoderLate)
                deaths += isinstance(error, DecoderDied) and fresh
                if late == 2:
                    return Extracted(Outcome.failed(Reason.TIMEOUT, str(error)))
                if deaths == DEATHS_ALONE:
                    return Extracted(Outcome.failed(Reason.CRASH, str(error)))
                alone = True
            else:
                if alone:
                    self.close()
                return result

    def close(self) -> None:
        """End the decoder process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None
        self._buffer.clear()

    def __enter__(self) -> Extractor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, span: MediaSpan) -> Extracted:
        process = self._started()
        job = {
            "path": str(span.path),
            "offset": span.offset,
            "length": span.length,
            "start_seconds": span.start_seconds,
            "end_seconds": span.end_seconds,
            "options": self.options.decode_options(),
            "jpeg_quality": self.options.jpeg_quality,
            "deadline_seconds": self.options.deadline_seconds,
            "memory_gib": self.options.memory_gib,
        }
        deadline = time.monotonic() + self.options.deadline_seconds
        try:
            process.stdin.write(json.dumps(job).encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            raise self._death() from None
        header = json.loads(self._read_line(deadline))
        parts = {extension: self._read_exactly(length, deadline) for extension, length in header["parts"]}
        if header["state"] == "done":
            return Extracted(Outcome.done(), header["facts"], parts)
        return Extracted(Outcome(State(header["state"]), Reason(header["reason"]), header["message"]))

    def _started(self) -> subprocess.Popen:
        if self._process is None or self._process.poll() is not None:
            self._buffer.clear()
            environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", CHILD],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
            )
        return self._process

    def _read_line(self, deadline: float) -> bytes:
        while (end := self._buffer.find(b"\n")) < 0:
            self._fill(deadline)
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line

    def _read_exactly(self, length: int, deadline: float) -> bytes:
        while len(self._buffer) < length:
            self._fill(deadline)
        data = bytes(self._buffer[:length])
        del self._buffer[:length]
        return data

    def _fill(self, deadline: float) -> None:
        left = deadline - time.monotonic()
        output = self._process.stdout.fileno()
        if left <= 0 or not select.select([output], [], [], left)[0]:
            raise DecoderLate(f"not decoded within {self.options.deadline_seconds:g} s")
        data = os.read(output, READ_BYTES)
        if not data:
            raise self._death()
        self._buffer += data

    def _death(self) -> DecoderDied:
        code = self._process.wait()
        return DecoderDied(f"the decoder ended with {f'signal {-code}' if code < 0 else f'exit code {code}'}")
