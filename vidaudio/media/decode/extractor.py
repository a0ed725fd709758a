"""Extraction of clips as JPEG pictures and FLAC sound, in a decoder process: a crash or hang costs only one clip.

A clip whose decoder dies is decoded again, alone in a process of its own. It is failed once such a process has died on
it twice. A clip that overruns its deadline gets one more try. Otherwise the process is kept between clips, because
starting one costs as much as decoding a clip.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from vidaudio.media.decode.channels import Channel
from vidaudio.media.outcomes import Outcome, Reason, State
from vidaudio.media.worker_process import PACKAGES, WorkerDied, WorkerLate, WorkerProcess

# A clip is failed after this many deaths of a process that decoded nothing but this clip.
DEATHS_ALONE = 2
NOT_FOR_DECODING = ("jpeg_quality", "deadline_seconds", "memory_gib")
# The child imports this same package wherever it is installed, and nothing from its working directory.
CHILD = f"import sys; sys.path.append({PACKAGES!r}); from vidaudio.media.decode.worker import main; main()"


@dataclass(frozen=True, slots=True)
class ExtractOptions:
    """What to keep of every clip, and how long one may take.

    Attributes:
        frame_size: Side of the square pictures, pixels.
        frames_per_second: Rate of the picture grid.
        sample_rate: Sample rate of the mono sound, Hz.
        min_seconds: Least duration of picture and of sound; clips with less of either are dropped as too short.
        decode: `exact` takes the picture on screen at each grid time, `fast` the last one before it that others refer
            to. `whole` decodes all pictures and measures motion from them instead of from packet sizes.
        jpeg_quality: JPEG quality, 1 to 95.
        deadline_seconds: Time limit for each try of a clip.
        memory_gib: Limit of the decoder's address space, GiB; a clip that needs more is failed.
        channel: Channel to take from a sound with several: the `mix`, the `left`, `right` or `loudest` one, or a number
            counted from 0.
    """

    frame_size: int = 224
    frames_per_second: float = 1.0
    sample_rate: int = 16_000
    min_seconds: float = 2.0
    decode: Literal["exact", "fast", "whole"] = "exact"
    jpeg_quality: int = 92
    deadline_seconds: float = 120.0
    memory_gib: float = 4.0
    channel: Channel = "mix"

    def decode_options(self) -> dict[str, Any]:
        """Return the options that the decoder needs."""
        values = asdict(self)
        return {k: v for k, v in values.items() if k not in NOT_FOR_DECODING}


@dataclass(frozen=True, slots=True)
class MediaSpan:
    """A clip in a local file, or in a byte range of such a file.

    Attributes:
        path: Path of the file.
        start_seconds: Start of the clip on the file's own time line.
        end_seconds: End of the clip on the file's own time line; None means the end of the file.
        offset: First byte of the range.
        length: Length of the range in bytes; None means to the end of the file.
    """

    path: Path
    start_seconds: float
    end_seconds: float | None
    offset: int = 0
    length: int | None = None


@dataclass(frozen=True, slots=True)
class Extracted:
    """Result of one clip.

    Attributes:
        outcome: Whether the clip is done, and why not.
        facts: How it was decoded, such as its duration; empty unless it is done.
        parts: Members of the tar by extension.
        measured: What was measured of its sound and its pictures, the two envelopes as the bytes of float16 values.
    """

    outcome: Outcome
    facts: Mapping[str, Any] = field(default_factory=dict)
    parts: Mapping[str, bytes] = field(default_factory=dict)
    measured: Mapping[str, Any] = field(default_factory=dict)


class Extractor(WorkerProcess):
    """One decoder process, started when first needed and replaced when it dies; must not be shared between threads."""

    what = "the decoder"

    def __init__(self, options: ExtractOptions | None = None) -> None:
        super().__init__()
        self.options = options or ExtractOptions()

    def extract(self, span: MediaSpan, *, alone: bool = False) -> Extracted:
        """Decode and encode one clip; bad media, crashes and hangs of the decoder never raise an error.

        Args:
            span: The clip to decode.
            alone: Whether to use a process that decodes no other clip before or after this one.
        """
        if alone:
            self.close()
        deaths = late = 0
        while True:
            # If the process had decoded earlier clips, one of those may have broken it: its death proves nothing about
            # this clip.
            fresh = self._process is None
            try:
                result = self._ask(span)
            except (WorkerDied, WorkerLate) as error:
                self.close()
                late += isinstance(error, WorkerLate)
                deaths += isinstance(error, WorkerDied) and fresh
                if late == 2:
                    too_slow = f"not decoded within {self.options.deadline_seconds:g} s"
                    return Extracted(Outcome.failed(Reason.TIMEOUT, too_slow))
                if deaths == DEATHS_ALONE:
                    return Extracted(Outcome.failed(Reason.CRASH, str(error)))
                alone = True
            else:
                if alone:
                    self.close()
                return result

    def _code(self) -> str:
        return CHILD

    def _ask(self, span: MediaSpan) -> Extracted:
        self._started()
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
        self._send(job)
        header = json.loads(self._read_line(deadline))
        parts = {extension: self._read_exactly(length, deadline) for extension, length in header["parts"]}
        if header["state"] == "done":
            envelopes = {name: self._read_exactly(length, deadline) for name, length in header["envelopes"]}
            return Extracted(Outcome.done(), header["facts"], parts, header["measured"] | envelopes)
        return Extracted(Outcome(State(header["state"]), Reason(header["reason"]), header["message"]))
