"""Segments: which stretch of a clip's sound and which of its pictures go into one training sample.

A clip goes in whole unless its sound is long, as whole videos are: then it is cut into overlapping segments, so that a
loader never reads megabytes for four seconds and every window of the clip still lies inside one segment.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

# Two neighbours share this much, more than a window of 4.096 s: no centre is lost at a cut.
OVERLAP_SECONDS = 4.5
# What `window: middle` and `window: N` write: CLIPSep's example, 3 pictures and 65,535 samples at 16 kHz.
WINDOW_FRAMES = 3
WINDOW_SECONDS = 65_535 / 16_000


@dataclass(frozen=True, slots=True)
class Segment:
    """A sample of a clip.

    Attributes:
        suffix: Added to the clip's id to make the sample's key; empty for a whole clip.
        start_sample, samples: Of the clip's sound; None for all of it as it stands.
        first_frame, frames: Of the clip's pictures.
    """

    suffix: str
    start_sample: int | None
    samples: int
    first_frame: int
    frames: int

    @property
    def whole(self) -> bool:
        return self.start_sample is None


def whole_segments(
    samples: int, sample_rate: int, audio_start_seconds: float, grid_seconds: Sequence[float], max_seconds: float
) -> list[Segment]:
    """The clip whole, or in segments of at most `max_seconds` with `OVERLAP_SECONDS` in common."""
    limit = int(max_seconds * sample_rate)
    if samples <= limit:
        return [Segment("", None, samples, 0, len(grid_seconds))]
    step = limit - int(OVERLAP_SECONDS * sample_rate)
    segments = []
    for number, start in enumerate(range(0, samples - int(OVERLAP_SECONDS * sample_rate), step)):
        stop = min(start + limit, samples)
        begin_seconds = audio_start_seconds + start / sample_rate
        end_seconds = audio_start_seconds + stop / sample_rate
        inside = [n for n, s in enumerate(grid_seconds) if begin_seconds <= s < end_seconds]
        if inside:
            segments.append(Segment(f"-s{number:04d}", start, stop - start, inside[0], len(inside)))
    return segments


def window_segments(
    clip_id: str,
    sample_rate: int,
    audio_start_seconds: float,
    grid_seconds: Sequence[float],
    window: str | int,
    seed: int,
) -> list[Segment]:
    """Exactly `WINDOW_FRAMES` pictures and `WINDOW_SECONDS` of sound around the middle, or around N drawn centres."""
    half = WINDOW_FRAMES // 2
    centres = range(half, len(grid_seconds) - half)
    if not centres:
        return []
    if window == "middle":
        chosen = [min(centres, key=lambda c: abs(c - len(grid_seconds) // 2))]
    else:
        chosen = sorted(random.Random(f"{seed}:{clip_id}").sample(centres, min(int(window), len(centres))))
    samples = round(WINDOW_SECONDS * sample_rate)
    segments = []
    for number, centre in enumerate(chosen):
        start = round((grid_seconds[centre] - audio_start_seconds) * sample_rate) - samples // 2
        segments.append(Segment(f"-w{number:04d}", start, samples, centre - half, WINDOW_FRAMES))
    return segments
