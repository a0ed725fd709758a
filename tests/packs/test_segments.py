"""Segments: long sound is cut so that no window of the whole is lost, and windows are those a loader would find."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from vidaudio.errors import UsageError
from vidaudio.packs.segments import Segment, whole_segments, window_segments
from vidaudio.shards.store import LocalStore
from vidaudio.stream.index import SAMPLE_SCHEMA, TrainingIndex
from vidaudio.stream.windows import Windows, WindowShape

RATE = 16_000


def centres(grid: list[float], audio_start: float, samples: int, fps: float = 1.0) -> dict[float, int]:
    """Time of every centre a loader finds in a sample, and the first sample of its sound; times of the clip's clock."""
    row = dict.fromkeys(SAMPLE_SCHEMA.names)
    row |= {"samples": samples, "audio_start_seconds": audio_start, "grid_seconds": grid, "frame_seconds": grid}
    table = pa.Table.from_pylist([row], schema=SAMPLE_SCHEMA)
    index = TrainingIndex(LocalStore(Path("/")), table, (), "flac", RATE, fps, {}, {})
    windows = Windows(index, WindowShape())
    found = [windows.at(0, number) for number in range(windows.count(0))]
    return {grid[window.frames[len(window.frames) // 2]]: window.first_sample for window in found}


def in_segment(grid: list[float], audio_start: float, segment: Segment, fps: float = 1.0) -> dict[float, int]:
    """The centres of one segment, on the clock and in the samples of the whole clip."""
    start = segment.start_sample or 0
    shift = audio_start + start / RATE
    own = [s - shift for s in grid[segment.first_frame : segment.first_frame + segment.frames]]
    return {round(t + shift, 6): first + start for t, first in centres(own, 0.0, segment.samples, fps).items()}


@pytest.mark.parametrize("seconds", [5.0, 8.0, 8.01, 12.3, 15.99, 16.0, 16.001, 20.0, 27.5, 27.6, 60.0, 61.37, 300.2])
@pytest.mark.parametrize("longest", [5.5, 8.0, 16.0])
@pytest.mark.parametrize("audio_start", [0.0, 0.021, 1.3])
def test_every_centre_of_a_long_clip_survives_with_its_sound_whole(seconds: float, longest: float, audio_start: float):
    samples = round(seconds * RATE)
    grid = [float(s) for s in range(int(seconds + audio_start))]
    segments = whole_segments(samples, RATE, audio_start, grid, longest)
    kept: dict[float, list[tuple[int, Segment]]] = {}
    for segment in segments:
        assert segment.samples <= longest * RATE
        found = centres(grid, audio_start, samples) if segment.whole else in_segment(grid, audio_start, segment)
        for time, first in found.items():
            kept.setdefault(time, []).append((first, segment))
    whole = centres(grid, audio_start, samples)
    assert set(whole) <= set(kept)
    for time, first in whole.items():
        wanted = max(0, first), min(samples, first + 65_535)
        # Somewhere the window sees as much of the sound as it does in the whole.
        assert any(
            abs(own - first) <= 1
            and (segment.start_sample or 0) <= wanted[0] + 1
            and (segment.start_sample or 0) + segment.samples >= wanted[1] - 1
            for own, segment in kept[time]
        )


def test_short_sound_is_one_whole_segment():
    assert whole_segments(16 * RATE, RATE, 0.0, [0.0, 1.0], 16.0) == [Segment("", None, 16 * RATE, 0, 2)]


def test_segments_of_one_clip_have_different_suffixes_and_cover_the_sound():
    segments = whole_segments(100 * RATE, RATE, 0.0, [float(s) for s in range(100)], 16.0)
    assert len({segment.suffix for segment in segments}) == len(segments)
    covered = np.zeros(100 * RATE, bool)
    for segment in segments:
        covered[segment.start_sample : segment.start_sample + segment.samples] = True
    assert covered.all()


@pytest.mark.parametrize("seconds", [2.2, 3.4, 4.0, 5.0, 10.0, 10.7, 31.0])
@pytest.mark.parametrize("audio_start", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("fps", [1.0, 2.0])
def test_windows_are_those_a_loader_finds_in_the_whole_clip(seconds: float, audio_start: float, fps: float):
    samples = round(seconds * RATE)
    grid = [n / fps for n in range(int(seconds * fps))]
    loaded = centres(grid, audio_start, samples, fps)
    every = window_segments("id", samples, RATE, audio_start, grid, fps, 1000, 0)
    reach = int(fps)
    assert {grid[s.first_frame + reach]: s.start_sample for s in every} == loaded
    for segment in every:
        assert (segment.samples, segment.frames) == (65_535, 2 * reach + 1)
        # And in the sample that is packed of it, a loader finds just this one.
        assert list(in_segment(grid, audio_start, segment, fps).values()) == [segment.start_sample]
    middle = window_segments("id", samples, RATE, audio_start, grid, fps, "middle", 0)
    assert len(middle) == min(1, len(loaded))
    if loaded:
        times = sorted(loaded)
        nearest = min(times, key=lambda t: abs(t * fps - len(grid) // 2))
        assert middle[0].start_sample == loaded[nearest]


def test_n_windows_are_drawn_by_clip_and_seed():
    grid = [float(s) for s in range(60)]

    def drawn(clip: str, seed: int) -> list[int]:
        return [s.first_frame for s in window_segments(clip, 60 * RATE, RATE, 0.0, grid, 1.0, 5, seed)]

    assert drawn("a", 0) == drawn("a", 0)
    assert len(set(drawn("a", 0))) == 5
    assert drawn("a", 0) == sorted(drawn("a", 0))
    assert len({tuple(drawn(clip, seed)) for clip in "ab" for seed in (0, 1)}) == 4


def test_a_grid_that_no_window_fits_is_refused():
    with pytest.raises(UsageError, match=r"do not fit pictures at 1\.5 per second"):
        window_segments("id", 10 * RATE, RATE, 0.0, [0.0, 0.7, 1.3], 1.5, "middle", 0)
