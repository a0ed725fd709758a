"""Windows against a direct, slow formula; every case of clips that are short, late or on another grid."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from vidaudio.errors import UsageError
from vidaudio.shards.store import LocalStore
from vidaudio.stream.index import SAMPLE_SCHEMA, TrainingIndex
from vidaudio.stream.windows import Window, Windows, WindowShape

RATE = 16_000


def index_of(clips: list[tuple[float, float, list[float]]], fps: float = 1.0) -> TrainingIndex:
    """An index of clips given as seconds of sound, time of its first sample, and picture times."""
    empty = dict.fromkeys(SAMPLE_SCHEMA.names)
    rows = [
        empty
        | {"samples": round(seconds * RATE), "audio_start_seconds": start, "grid_seconds": grid, "frame_seconds": grid}
        for seconds, start, grid in clips
    ]
    table = pa.Table.from_pylist(rows, schema=SAMPLE_SCHEMA)
    return TrainingIndex(LocalStore(Path("/")), table, (), "flac", RATE, fps, {}, {})


def slow_windows(clip: tuple[float, float, list[float]], shape: WindowShape, fps: float) -> list[Window]:
    """Every window of a clip, in order of time, straight from the definition."""
    seconds, start, grid = clip
    shape = replace(shape, samples=shape.samples or 65_535)
    step = round(shape.frame_spacing_seconds * fps)
    found = []
    for centre, time in enumerate(grid):
        frames = [centre + k * step for k in range(-(shape.frames // 2), shape.frames // 2 + 1)]
        begin = time - shape.samples / RATE / 2
        end = time + shape.samples / RATE / 2
        padding = max(start - begin, end - (start + round(seconds * RATE) / RATE))
        if frames[0] >= 0 and frames[-1] < len(grid) and padding <= shape.max_padding_seconds + 0.5 / RATE:
            found.append(Window(tuple(frames), round((time - start) * RATE) - shape.samples // 2, shape.samples))
    return found


def random_clips(rng: np.random.Generator, fps: float) -> list[tuple[float, float, list[float]]]:
    clips = []
    for _ in range(60):
        seconds = float(rng.uniform(0.1, 14))
        start = float(rng.choice([0.0, 0.023, 0.4, 1.7]))
        pictures = int(rng.integers(1, max(2, int((seconds + start) * fps) + 1)))
        grid = [n / fps for n in range(pictures)]
        grid[0] = float(rng.choice([0.0, 0.04]))
        clips.append((seconds, start, grid))
    return clips


@pytest.mark.parametrize("fps", [1.0, 2.0, 5.0])
@pytest.mark.parametrize(
    "shape",
    [
        WindowShape(),
        WindowShape(frames=1, samples=16_000),
        WindowShape(frames=5, samples=131_072, max_padding_seconds=0.0),
        WindowShape(frames=3, frame_spacing_seconds=2.0, samples=65_535, max_padding_seconds=2.0),
    ],
)
def test_windows_are_the_slow_formulas(fps: float, shape: WindowShape):
    clips = random_clips(np.random.default_rng(int(fps)), fps)
    windows = Windows(index_of(clips, fps), shape)
    slow = [slow_windows(clip, shape, fps) for clip in clips]
    assert any(slow)
    for row, expected in enumerate(slow):
        assert [windows.at(row, n) for n in range(windows.count(row))] == expected
    assert windows.usable.tolist() == [row for row, expected in enumerate(slow) if expected]
    assert windows.too_short == sum(not expected for expected in slow)


@pytest.mark.parametrize("fps", [1.0, 2.0])
def test_the_middle_window_is_the_one_nearest_to_half_of_the_pictures(fps: float):
    shape = WindowShape()
    clips = random_clips(np.random.default_rng(3), fps)
    windows = Windows(index_of(clips, fps), shape)
    for row in windows.usable:
        expected = slow_windows(clips[row], shape, fps)
        half = len(clips[row][2]) // 2
        nearest = min(expected, key=lambda window: abs(window.frames[len(window.frames) // 2] - half))
        assert windows.middle(row) == nearest


def test_drawn_windows_are_uniform_over_the_centres():
    windows = Windows(index_of([(10.0, 0.0, [float(s) for s in range(10)])]), WindowShape())
    rng = np.random.default_rng(0)
    drawn = [windows.random(0, rng).frames[1] for _ in range(3000)]
    counts = np.bincount(drawn)[2:]
    assert sorted(set(drawn)) == [2, 3, 4, 5, 6, 7, 8]
    assert counts.min() > 0.8 * 3000 / 7
    assert counts.max() < 1.2 * 3000 / 7


def test_a_limit_of_padding_means_itself():
    """CLIPSep's clips of 10 s: the centre at 8 s wants sound up to 10.048 s."""
    grid = [float(s) for s in range(10)]
    over = 8 + 65_535 / 2 / RATE - 10
    for limit, last in ((over, 8), (over - 2 / RATE, 7)):
        windows = Windows(index_of([(10.0, 0.0, grid)]), WindowShape(max_padding_seconds=limit))
        assert windows.at(0, windows.count(0) - 1).frames[1] == last


@pytest.mark.parametrize(
    "shape", [WindowShape(frames=2), WindowShape(frames=0), WindowShape(frame_spacing_seconds=0.7)]
)
def test_shapes_that_fit_no_grid_are_refused(shape: WindowShape):
    with pytest.raises(UsageError, match="do not fit pictures at 1 per second"):
        Windows(index_of([(10.0, 0.0, [0.0, 1.0, 2.0])]), shape)
