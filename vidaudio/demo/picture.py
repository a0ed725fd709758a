"""Pictures that the demo writes: its things, and spectrograms of mixture, target and prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from vidaudio.demo.pen import HEIGHT, WIDTH
from vidaudio.demo.world import KINDS, Instance, Purpose, derive_seed

SHEET_COLUMNS = 4
SHEET_SECONDS = 1.3
N_FFT = 1024
HOP = 128
DYNAMIC_RANGE_DB = 70.0
LOWEST_HZ, HIGHEST_HZ = 100.0, 8000.0


@dataclass(frozen=True, slots=True)
class Panel:
    """One row of spectrograms.

    Attributes:
        title: Title of the row.
        query: Query in words.
        sounds: Mixture, target and prediction, float samples.
    """

    title: str
    query: str
    sounds: tuple[np.ndarray, np.ndarray, np.ndarray]


def draw_kinds(seed: int, path: Path) -> None:
    """Draw one thing of every kind, as in the test videos, on one sheet; write it as PNG."""
    rows = -(-len(KINDS) // SHEET_COLUMNS)
    sheet = Image.new("RGB", (WIDTH * SHEET_COLUMNS, HEIGHT * rows))
    for number, kind in enumerate(KINDS):
        picture = Instance(kind, derive_seed(Purpose.TEST, seed, kind.label, 1)).scene().at(SHEET_SECONDS)
        sheet.paste(picture, (number % SHEET_COLUMNS * WIDTH, number // SHEET_COLUMNS * HEIGHT))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)


def draw_panels(panels: Sequence[Panel], sample_rate: int, path: Path) -> None:
    """Write a PNG with one row per panel: mixture, target, prediction, on one level scale, log frequency."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 2.5 * len(panels)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(panels), 3, squeeze=False, sharex=True, sharey=True)
    for row, panel in zip(axes, panels, strict=True):
        loudest = max(float(_level(sound).max()) for sound in panel.sounds)
        titles = (panel.title, f"truth: {panel.query}", f'asked for "{panel.query}"')
        for axis, sound, title in zip(row, panel.sounds, titles, strict=True):
            level = _level(sound)
            seconds = np.arange(level.shape[1] + 1) * HOP / sample_rate
            hertz = np.arange(level.shape[0] + 1) * sample_rate / N_FFT
            axis.pcolormesh(
                seconds, hertz, level, vmin=loudest - DYNAMIC_RANGE_DB, vmax=loudest, cmap="magma", rasterized=True
            )
            axis.set_yscale("log")
            axis.set_ylim(LOWEST_HZ, HIGHEST_HZ)
            axis.set_title(title, fontsize=10)
            axis.set_facecolor("black")
        row[0].set_ylabel("Hz")
    for axis in axes[-1]:
        axis.set_xlabel("s")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _level(sound: np.ndarray) -> np.ndarray:
    """Return magnitudes in dB, `[bins, frames]`."""
    padded = np.pad(np.asarray(sound, np.float64), N_FFT // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, N_FFT)[::HOP]
    magnitude = np.abs(np.fft.rfft(frames * np.hanning(N_FFT), axis=1)).T
    return 20 * np.log10(magnitude + 1e-6)
