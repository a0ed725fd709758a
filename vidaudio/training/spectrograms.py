"""Figures of spectrograms and masks side by side, each with a title, over seconds and hertz."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOWEST_HERTZ = 60
DOTS_PER_INCH = 100


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture of a figure.

    Attributes:
        title: Title above the picture.
        values: Values `[bins, frames]`, from 0 Hz to half the sample rate.
        low: Value that is black.
        high: Value that is brightest.
    """

    title: str
    values: np.ndarray
    low: float
    high: float


def draw_panels(panels: Sequence[Panel], sample_rate: int, seconds: float) -> Figure:
    """Draw panels in rows of four, with log frequency, the lowest at the bottom.

    Args:
        panels: One or more panels.
        sample_rate: Sample rate of the sounds in Hz.
        seconds: Duration of the sounds in seconds.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(4, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(3.2 * columns, 2.4 * rows), layout="constrained", dpi=DOTS_PER_INCH)
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
    for axis, panel in zip(axes, panels, strict=False):
        bins, frames = panel.values.shape
        times, hertz = np.linspace(0, seconds, frames + 1), np.linspace(0, sample_rate / 2, bins + 1)
        axis.pcolormesh(times, hertz, panel.values, vmin=panel.low, vmax=panel.high, cmap="magma", rasterized=True)
        axis.set_yscale("log")
        axis.set_ylim(LOWEST_HERTZ, sample_rate / 2)
        axis.set_title(panel.title, fontsize=9)
        axis.set_facecolor("black")
    for axis in axes[len(panels) :]:
        axis.remove()
    figure.supylabel("Hz", fontsize=9)
    figure.supxlabel("s", fontsize=9)
    return figure


def draw_mels(mels: Mapping[str, np.ndarray], seconds: float) -> Figure:
    """Draw mels in [-1, 1], `[bands, frames]`, side by side under their names, the lowest band at the bottom."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.2 * len(mels), 2.4), layout="constrained", dpi=DOTS_PER_INCH)
    FigureCanvasAgg(figure)
    for axis, (name, mel) in zip(figure.subplots(1, len(mels), squeeze=False)[0], mels.items(), strict=True):
        extent = (0, seconds, 0, len(mel))
        axis.imshow(mel, origin="lower", aspect="auto", extent=extent, vmin=-1, vmax=1, cmap="magma")
        axis.set_title(name, fontsize=9)
    figure.supylabel("mel band", fontsize=9)
    figure.supxlabel("s", fontsize=9)
    return figure


def pixels(figure: Figure) -> np.ndarray:
    """Return the pixels of a drawn figure, uint8 `[height, width, 3]`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg), "see `draw_panels`"
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
