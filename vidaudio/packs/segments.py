"""Segments: the parts of a clip's sound and pictures that form training samples.

A clip is one sample unless its sound is long, as that of whole videos is. Long sound is cut into overlapping segments:
a loader then does not read megabytes for four seconds, and every window of the clip is still inside one segment.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from vidaudio.stream.windows import WindowShape, grid_step, valid_centres

# Overlap of neighbouring segments: longer than a window of 4.096 s, so that no centre is lost at a cut.
OVERLAP_SECONDS = 4.5
# Window of `window: middle` and `window: drawn`: CLIPSep's example, 3 pictures 1 s apart and 65,535 samples at 16 kHz.
WINDOW = WindowShape(samples=65_535)
WINDOW_SECONDS = WINDOW.length_samples / 16_000


@dataclass(frozen=True, slots=True)
class Segment:
    """The part of a clip that forms one sample.

    Attributes:
        suffix: Text appended to the clip's id to form the sample's key; empty for a whole clip.
        start_sample, samples: First sample and number of samples of the clip's sound; `start_sample` is None for a
            whole clip, whose sound is used unchanged.
        first_frame, frames: First picture and number of pictures of the clip.
    """

    suffix: str
    start_sample: int | None
    samples: int
    first_frame: int
    frames: int

    @property
    def whole(self) -> bool:
        """Whether the segment is the whole clip."""
        return self.start_sample is None


def whole_segments(
    samples: int, sample_rate: int, audio_start_seconds: float, grid_seconds: Sequence[float], max_seconds: float
) -> list[Segment]:
    """Return the whole clip, or segments of at most `max_seconds` that overlap by `OVERLAP_SECONDS`."""
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
    samples: int,
    sample_rate: int,
    audio_start_seconds: float,
    grid_seconds: Sequence[float],
    frames_per_second: float,
    window: str | int,
    seed: int,
) -> list[Segment]:
    """Return segments with exactly the pictures and sound of `WINDOW`, around the middle or around N drawn centres.

    The centres are those that a loader finds in the whole clip. On a grid finer than the window's, the pictures in
    between are included, so that the sample keeps the corpus's grid.
    """
    shape = replace(WINDOW, samples=round(WINDOW_SECONDS * sample_rate))
    step = grid_step(shape, frames_per_second)
    seconds = np.asarray(grid_seconds, float) - audio_start_seconds
    pictures = np.arange(len(seconds))
    allowed = valid_centres(
        shape, step, sample_rate, picture=pictures, pictures=len(seconds), seconds=seconds, samples=samples
    )
    centres = pictures[allowed].tolist()
    if not centres:
        return []
    if window == "middle":
        chosen = [min(centres, key=lambda c: abs(c - len(grid_seconds) // 2))]
    else:
        chosen = sorted(random.Random(f"{seed}:{clip_id}").sample(centres, min(int(window), len(centres))))
    reach = shape.frames // 2 * step
    segments = []
    for number, centre in enumerate(chosen):
        start = round(float(seconds[centre]) * sample_rate) - shape.length_samples // 2
        segments.append(Segment(f"-w{number:04d}", start, shape.length_samples, centre - reach, 2 * reach + 1))
    return segments
