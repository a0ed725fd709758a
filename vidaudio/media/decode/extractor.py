"""Clips to JPEG pictures and FLAC sound, through a decoder process that may die or hang at the cost of one clip.

A clip whose decoder dies is a suspect: it is decoded again, alone in a process of its own, and failed once such a
process has died on it twice. One that overruns its deadline has one more try. Otherwise the process is kept between
clips, since starting one costs as much as decoding a clip.
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

# Deaths of a process that decoded nothing but the one clip, until they are taken for the clip's doing.
DEATHS_ALONE = 2
NOT_FOR_DECODING = ("jpeg_quality", "deadline_seconds", "memory_gib")
# The child finds this very package wherever it lies, and nothing that lies in the folder it happens to be started from.
CHILD = f"import sys; sys.path.append({PACKAGES!r}); from vidaudio.media.decode.worker import main; main()"


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
        channel: Of a sound with several: their `mix`, the `left`, `right` or `loudest` one, or a number from 0.
    """

    frame_size: int = 224
    frames_per_second: float = 1.0
    sample_rate: int = 16_000
    min_seconds: float = 2.0
    decode: Literal["exact", "fast"] = "exact"
    jpeg_quality: int = 92
    deadline_seconds: float = 120.0
    memory_gib: float = 4.0
    channel: Channel = "mix"

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


class Extractor(WorkerProcess):
    """One decoder process, started when first needed, replaced when it dies. Not to be shared between threads."""

    what = "the decoder"

    def __init__(self, options: ExtractOptions | None = None) -> None:
        super().__init__()
        self.options = options or ExtractOptions()

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
            return Extracted(Outcome.done(), header["facts"], parts)
        return Extracted(Outcome(State(header["state"]), Reason(header["reason"]), header["message"]))
