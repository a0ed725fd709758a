"""Windows: which pictures and which stretch of sound one training example sees of a clip.

A window is centred on a picture of the grid, so that sight and sound belong together whatever the container said about
start times: positions come from the recorded presentation times, never from frame counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from vidaudio.errors import CorpusError
from vidaudio.stream.index import TrainingIndex


@dataclass(frozen=True, slots=True)
class WindowShape:
    """The shape of an example; it belongs to the system, not to the corpus.

    Attributes:
        frames: Pictures, odd; the middle one is the centre.
        frame_spacing_seconds: Between them.
        samples: Of sound around the centre.
        max_padding_seconds: A window may run this far over an end of the sound and is filled with zeros there
            (CLIPSep's crops do, by up to 0.55 s).
    """

    frames: int = 3
    frame_spacing_seconds: float = 1.0
    samples: int = 65_535
    max_padding_seconds: float = 0.55


@dataclass(frozen=True, slots=True)
class Window:
    """One example's part of a sample: pictures `frames`, and `samples` of sound from `first_sample` (may be < 0)."""

    frames: tuple[int, ...]
    first_sample: int
    samples: int


def grid_step(shape: WindowShape, frames_per_second: float) -> int:
    """Grid places from one picture of a window to the next.

    Raises:
        CorpusError: The pictures were taken on another grid than the shape needs.
    """
    step = shape.frame_spacing_seconds * frames_per_second
    if shape.frames < 1 or shape.frames % 2 == 0 or abs(step - round(step)) > 1e-6 or round(step) < 1:
        raise CorpusError(
            f"windows of {shape.frames} pictures {shape.frame_spacing_seconds:g} s apart do not fit pictures at "
            f"{frames_per_second:g} per second: the number must be odd, the spacing a multiple of the grid"
        )
    return round(step)


def may_be_centre(
    shape: WindowShape, step: int, rate: int, *, picture: np.ndarray, pictures: Any, seconds: np.ndarray, samples: Any
) -> np.ndarray:
    """Which pictures leave room for the window's other pictures and its sound.

    Args:
        shape, step, rate: Of the window; of its pictures on the grid; of the sound, Hz.
        picture: Each one's number in its clip.
        pictures: How many its clip has.
        seconds: When it is on screen, from the first sample of the clip's sound.
        samples: How many the clip's sound has.
    """
    reach = shape.frames // 2 * step
    half_seconds = shape.samples / 2 / rate
    over = np.maximum(half_seconds - seconds, seconds + half_seconds - samples / rate)
    # Half a sample of tolerance: a limit of exactly 0.55 s means 0.55 s.
    return (picture >= reach) & (picture < pictures - reach) & (over <= shape.max_padding_seconds + 0.5 / rate)


class Windows:
    """All windows of every sample of an index, found once, vectorised.

    Attributes:
        usable: Row numbers of the samples that have a window at all, increasing.
        too_short: How many have none.
    """

    def __init__(self, index: TrainingIndex, shape: WindowShape) -> None:
        self.shape = shape
        self._step = grid_step(shape, index.frames_per_second)
        self._rate = index.sample_rate
        self._grid, self._offsets = index.lists("grid_seconds")
        self._start = index.column("audio_start_seconds")
        self._samples = index.column("samples")
        self._centres, self._centre_offsets = self._find()
        self.usable = np.flatnonzero(np.diff(self._centre_offsets) > 0)
        self.too_short = len(index) - len(self.usable)

    def _find(self) -> tuple[np.ndarray, np.ndarray]:
        """Flat numbers of the centres (within their sample) and where each sample's begin."""
        rows = np.repeat(np.arange(len(self._offsets) - 1), np.diff(self._offsets))
        within = np.arange(len(self._grid)) - self._offsets[rows]
        allowed = may_be_centre(
            self.shape,
            self._step,
            self._rate,
            picture=within,
            pictures=np.diff(self._offsets)[rows],
            seconds=self._grid - self._start[rows],
            samples=self._samples[rows],
        )
        offsets = np.r_[0, np.cumsum(np.bincount(rows[allowed], minlength=len(self._offsets) - 1))]
        return within[allowed], offsets

    def count(self, row: int) -> int:
        """How many windows the sample has."""
        return int(self._centre_offsets[row + 1] - self._centre_offsets[row])

    def at(self, row: int, number: int) -> Window:
        """The sample's `number`-th window, in order of time."""
        centre = int(self._centres[self._centre_offsets[row] + number])
        reach = self.shape.frames // 2
        frames = tuple(centre + k * self._step for k in range(-reach, reach + 1))
        seconds = self._grid[self._offsets[row] + centre] - self._start[row]
        first = round(float(seconds) * self._rate) - self.shape.samples // 2
        return Window(frames, first, self.shape.samples)

    def random(self, row: int, rng: np.random.Generator) -> Window:
        """A window drawn uniformly over the sample's centres (CLIPSep, training)."""
        return self.at(row, int(rng.integers(self.count(row))))

    def middle(self, row: int) -> Window:
        """The window whose centre is nearest to picture T // 2 of T (CLIPSep, evaluation)."""
        begin, end = self._centre_offsets[row], self._centre_offsets[row + 1]
        half = (self._offsets[row + 1] - self._offsets[row]) // 2
        return self.at(row, int(np.argmin(np.abs(self._centres[begin:end] - half))))
