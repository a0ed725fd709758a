"""A flat map of the pictures' vectors: their two principal components, of drawn clips."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from vidaudio.report.corpus.choice import ClipRef
from vidaudio.report.corpus.pages import shown_text
from vidaudio.report.corpus.vectors import DrawnVectors

MOST_POINTS = 2_000
# Labels with a colour of their own.
COLOURED_LABELS = 8


@dataclass(frozen=True, slots=True)
class Point:
    """A clip on the map.

    Attributes:
        clip: The clip.
        x, y: Its place, 0 to 1.
        label: Its first label; empty without one.
        colour: Number of the label's colour; `COLOURED_LABELS` for all other labels.
    """

    clip: ClipRef
    x: float
    y: float
    label: str
    colour: int


@dataclass(frozen=True)
class VectorMap:
    """The map.

    Attributes:
        points: The clips.
        legend: The largest labels among them, in the order of their colours, with the number of their points.
        explained: Share of the vectors' variance along each axis.
        embedded: Number of clips that the points were drawn from.
    """

    points: tuple[Point, ...]
    legend: tuple[tuple[str, int], ...]
    explained: tuple[float, float]
    embedded: int

    @property
    def others(self) -> int:
        """Number of points whose label has no colour of its own."""
        return len(self.points) - sum(points for _, points in self.legend)


def draw_map(drawn: DrawnVectors) -> VectorMap | None:
    """Return the map of drawn clips; None if they are fewer than three or all alike.

    The mean is removed, so that an encoder's common direction does not take an axis.
    """
    chosen = np.sort(np.argsort(drawn.hashes, kind="stable")[:MOST_POINTS])
    places, explained = _principal_components(drawn.vectors, chosen)
    if places is None:
        return None
    labels = [shown_text(drawn.labels[row]) for row in chosen]
    counted = Counter(label for label in labels if label)
    legend = sorted(counted.items(), key=lambda pair: (-pair[1], pair[0]))[:COLOURED_LABELS]
    colours = {label: number for number, (label, _) in enumerate(legend)}
    points = tuple(
        Point(drawn.clips[row], float(x), float(y), label, colours.get(label, COLOURED_LABELS))
        for row, (x, y), label in zip(chosen, places, labels, strict=True)
    )
    return VectorMap(points, tuple(legend), explained, drawn.embedded)


def _principal_components(vectors: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray | None, tuple[float, float]]:
    """Return places of the chosen rows on the two principal axes of all, 0 to 1, and the axes' shares of variance."""
    rows, dimensions = vectors.shape
    if rows < 3 or dimensions < 2:
        return None, (0.0, 0.0)
    mean = vectors.mean(axis=0, dtype=np.float64)
    covariance = (vectors.T @ vectors).astype(np.float64) / rows - np.outer(mean, mean)
    variances, axes = np.linalg.eigh(covariance)
    total = float(variances.clip(min=0).sum())
    if total < np.finfo(np.float32).eps:
        return None, (0.0, 0.0)
    axes = axes[:, [-1, -2]]
    # The sign of an axis is arbitrary: its largest entry is made positive.
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), [0, 1]])
    places = (vectors[chosen] - mean) @ axes
    low, high = places.min(axis=0), places.max(axis=0)
    places = np.round((places - low) / np.maximum(high - low, 1e-12), 4)
    return places, (float(variances[-1] / total), float(max(0.0, variances[-2]) / total))
