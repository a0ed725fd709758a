"""Windows: which pictures and which stretch of sound of a clip make one training example.

A window is centred on a picture of the grid, so that picture and sound belong together whatever start times the
container states: positions come from the recorded presentation times, never from frame counts.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vidaudio.errors import UsageError
from vidaudio.stream.index import TrainingIndex

ROWS_AT_ONCE = 8192
# CLIPSep's window: 65,535 samples at 16 kHz, one sample less than this.
DEFAULT_SECONDS = 4.096


@dataclass(frozen=True, slots=True)
class WindowShape:
    """The shape of an example; it belongs to the system, not to the corpus.

    Attributes:
        frames: Number of pictures, odd; the middle one is the centre.
        frame_spacing_seconds: Time between two pictures, seconds.
        samples: Length of the sound around the centre in samples, whatever the corpus's rate; None if not given.
        max_padding_seconds: How far a window may extend beyond an end of the sound, seconds; it is filled with zeros
            there (CLIPSep's crops extend by up to 0.55 s). If the sound is shorter than a window, its end is followed
            by its beginning instead, as in CLIPSep's loader.
        seconds: Length of the sound in seconds, for a corpus of any rate; None if not given. Without `samples` and
            `seconds`, a window is as long as CLIPSep's, 4.096 s: 65,535 samples at 16 kHz, 196,607 at 48 kHz.

    Raises:
        UsageError: When a value is invalid, or both `samples` and `seconds` are given.
    """

    frames: int = 3
    frame_spacing_seconds: float = 1.0
    samples: int | None = None
    max_padding_seconds: float = 0.55
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.samples is not None and self.seconds is not None:
            raise UsageError("state a window's length in samples or in seconds, not in both")
        for name, fits, wanted in (
            ("samples", self.samples is None or self.samples >= 1, "1 or more"),
            ("seconds", self.seconds is None or 0 < self.seconds < math.inf, "more than 0"),
            ("frame_spacing_seconds", 0 < self.frame_spacing_seconds < math.inf, "more than 0"),
            ("max_padding_seconds", self.max_padding_seconds >= 0, "0 or more"),
        ):
            if not fits:
                raise UsageError(f"{name} of a window must be {wanted}, not {getattr(self, name)!r}")

    @property
    def length_samples(self) -> int:
        """Return the length in samples, of a shape that states it or that `at` has returned."""
        assert self.samples is not None, "the length depends on the sample rate: see `at`"
        return self.samples

    def at(self, sample_rate: int) -> WindowShape:
        """Return the shape with its length in samples, for sound of a rate in Hz."""
        if self.samples is not None:
            return self
        if self.seconds is not None:
            return replace(self, samples=max(1, round(self.seconds * sample_rate)), seconds=None)
        return replace(self, samples=round(DEFAULT_SECONDS * sample_rate) - 1)


@dataclass(frozen=True, slots=True)
class Window:
    """One example's part of a sample.

    Attributes:
        frames: Numbers of the pictures in the sample.
        first_sample: First sample of the sound; negative if the window begins before the sound.
        samples: Length of the sound in samples.
    """

    frames: tuple[int, ...]
    first_sample: int
    samples: int


def grid_step(shape: WindowShape, frames_per_second: float) -> int:
    """Return the number of grid places from one picture of a window to the next.

    Raises:
        UsageError: When the pictures were taken on a grid that does not fit the shape.
    """
    step = shape.frame_spacing_seconds * frames_per_second
    if shape.frames < 1 or shape.frames % 2 == 0 or abs(step - round(step)) > 1e-6 or round(step) < 1:
        raise UsageError(
            f"windows of {shape.frames} pictures {shape.frame_spacing_seconds:g} s apart do not fit pictures at "
            f"{frames_per_second:g} per second: the number must be odd, the spacing a multiple of the grid"
        )
    return round(step)


def valid_centres(
    shape: WindowShape, step: int, rate: int, *, picture: np.ndarray, pictures: Any, seconds: np.ndarray, samples: Any
) -> np.ndarray:
    """Return which pictures leave room for the window's other pictures and its sound, as booleans.

    Args:
        shape: Shape of the window, with its length in samples.
        step: Grid places from one picture of the window to the next.
        rate: Sample rate of the sound, Hz.
        picture: Number of each picture in its clip.
        pictures: Number of pictures in each picture's clip.
        seconds: Time of each picture, seconds from the first sample of its clip's sound.
        samples: Length of the clip's sound for each picture, samples.
    """
    reach = shape.frames // 2 * step
    half_seconds = shape.length_samples / 2 / rate
    over = np.maximum(half_seconds - seconds, seconds + half_seconds - samples / rate)
    # Half a sample of tolerance: a limit of exactly 0.55 s means 0.55 s.
    return (picture >= reach) & (picture < pictures - reach) & (over <= shape.max_padding_seconds + 0.5 / rate)


class Windows:
    """The windows of an index's samples, computed on demand: nothing is stored per sample.

    Attributes:
        why_none: What a sample without a window is, in words.
    """

    why_none = "too short"

    def __init__(self, index: TrainingIndex, shape: WindowShape) -> None:
        self.shape = shape.at(index.sample_rate)
        self._step = grid_step(shape, index.frames_per_second)
        self._rate = index.sample_rate
        self._grid, self._offsets = index.lists("grid_seconds")
        self._start = index.column("audio_start_seconds")
        self._samples = index.column("samples")
        self._let_pages_go = index.release_pages

    @functools.cached_property
    def usable(self) -> np.ndarray:
        """Row numbers of the samples that have a window, increasing; one number per sample, so for small corpora."""
        found = [begin + np.flatnonzero(self.has_window(begin, end)) for begin, end in self._stretches()]
        return np.concatenate(found) if found else np.zeros(0, np.int64)

    @functools.cached_property
    def too_short(self) -> int:
        """Number of samples without a window."""
        return sum(int((~self.has_window(begin, end)).sum()) for begin, end in self._stretches())

    def has_window(self, first: int, end: int) -> np.ndarray:
        """Return which of the rows `first .. end - 1` have a window, bool `[end - first]`."""
        offsets = self._offsets[first : end + 1].astype(np.int64)
        pictures = np.diff(offsets)
        rows = np.repeat(np.arange(end - first), pictures)
        allowed = valid_centres(
            self.shape,
            self._step,
            self._rate,
            picture=np.arange(len(rows)) - (offsets - offsets[0])[rows],
            pictures=pictures[rows],
            seconds=self._grid[offsets[0] : offsets[-1]] - self._start[first:end][rows],
            samples=self._samples[first:end][rows],
        )
        return np.bincount(rows[allowed], minlength=end - first) > 0

    def count(self, row: int) -> int:
        """Return the number of windows of a sample."""
        return len(self._centres(row))

    def at(self, row: int, number: int) -> Window:
        """Return the sample's window number `number` in order of time, from 0."""
        return self._around(row, self._centres(row)[number])

    def random(self, row: int, rng: np.random.Generator) -> Window:
        """Draw a window uniformly over the sample's centres (CLIPSep, training)."""
        centres = self._centres(row)
        return self._around(row, centres[int(rng.integers(len(centres)))])

    def middle(self, row: int) -> Window:
        """Return the window whose centre is nearest to picture T // 2 of T (CLIPSep, evaluation)."""
        half = int(self._offsets[row + 1] - self._offsets[row]) // 2
        return self._around(row, min(self._centres(row), key=lambda centre: abs(centre - half)))

    def _centres(self, row: int) -> list[int]:
        """Return the pictures of a sample that may be the centre of a window, by the rule of `valid_centres`.

        In plain Python: a sample has about ten pictures, and the overhead of NumPy calls would be larger than this
        loop.
        """
        grid = self._grid[self._offsets[row] : self._offsets[row + 1]].tolist()
        start, seconds = float(self._start[row]), int(self._samples[row]) / self._rate
        half, reach = self.shape.length_samples / 2 / self._rate, self.shape.frames // 2 * self._step
        limit = self.shape.max_padding_seconds + 0.5 / self._rate
        found = []
        for centre in range(reach, len(grid) - reach):
            at = grid[centre] - start
            if half - at <= limit and at + half - seconds <= limit:
                found.append(centre)
        return found

    def _around(self, row: int, centre: int) -> Window:
        reach = self.shape.frames // 2
        frames = tuple(centre + k * self._step for k in range(-reach, reach + 1))
        seconds = self._grid[self._offsets[row] + centre] - self._start[row]
        first = round(float(seconds) * self._rate) - self.shape.length_samples // 2
        return Window(frames, first, self.shape.length_samples)

    def _stretches(self) -> Iterator[tuple[int, int]]:
        """Yield the bounds of all rows, `ROWS_AT_ONCE` rows at a time, to keep memory small."""
        rows = len(self._offsets) - 1
        for begin in range(0, rows, ROWS_AT_ONCE):
            yield begin, min(begin + ROWS_AT_ONCE, rows)
            self._let_pages_go()
