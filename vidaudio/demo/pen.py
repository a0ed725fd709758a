"""Drawing tools of the demo world: picture size, colours, and a pen that draws in a thing's own coordinates."""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw

WIDTH, HEIGHT = 320, 240
"""Size of the world's videos in pixels; wider than high, so that a centre crop removes something."""

SUPERSAMPLING = 2

Colour = tuple[int, int, int]
Point = tuple[float, float]

COLOURS: dict[str, Colour] = {
    "red": (208, 48, 44),
    "orange": (236, 130, 36),
    "yellow": (244, 204, 56),
    "green": (66, 152, 76),
    "teal": (40, 150, 156),
    "blue": (52, 104, 196),
    "purple": (130, 76, 172),
    "pink": (234, 128, 168),
    "brown": (136, 90, 54),
    "golden": (216, 170, 52),
    "silver": (178, 184, 194),
    "white": (240, 240, 236),
    "black": (48, 48, 54),
}


class Pen:
    """Pen that draws shapes in a thing's own coordinates: its box is about -0.5 .. 0.5, with y pointing down.

    Args:
        image: Image to draw on.
        centre: Position of the thing relative to the image's centre, in picture heights; right and down are positive.
        scale: Length of one unit of the thing, in picture heights.
        tilt: Rotation in radians.
        mirrored: Whether left and right are exchanged.
    """

    def __init__(self, image: Image.Image, centre: Point, scale: float, tilt: float = 0.0, mirrored: bool = False):
        self._draw = ImageDraw.Draw(image)
        pixels = HEIGHT * SUPERSAMPLING
        self._origin = (image.width / 2 + centre[0] * pixels, image.height / 2 + centre[1] * pixels)
        self._unit = scale * pixels
        self._cos, self._sin = math.cos(tilt), math.sin(tilt)
        self._flip = -1.0 if mirrored else 1.0

    def _place(self, point: Point) -> Point:
        x, y = point[0] * self._unit, point[1] * self._unit
        return (
            self._origin[0] + self._flip * (x * self._cos - y * self._sin),
            self._origin[1] + x * self._sin + y * self._cos,
        )

    def polygon(self, points: Sequence[Point], colour: Colour) -> None:
        """Draw a filled polygon."""
        self._draw.polygon([self._place(p) for p in points], fill=colour)

    def line(self, points: Sequence[Point], colour: Colour, width: float) -> None:
        """Draw a line through `points` with round joints; `width` is in units of the thing."""
        self._draw.line(
            [self._place(p) for p in points], fill=colour, width=max(1, round(width * self._unit)), joint="curve"
        )

    def ellipse(self, centre: Point, radii: Point, colour: Colour, angle: float = 0.0) -> None:
        """Draw a filled ellipse, rotated by `angle` radians."""
        cos, sin = math.cos(angle), math.sin(angle)
        points = []
        for step in _CIRCLE:
            x, y = radii[0] * step[0], radii[1] * step[1]
            points.append((centre[0] + x * cos - y * sin, centre[1] + x * sin + y * cos))
        self.polygon(points, colour)

    def circle(self, centre: Point, radius: float, colour: Colour) -> None:
        """Draw a filled circle."""
        x, y = self._place(centre)
        r = radius * self._unit
        self._draw.ellipse((x - r, y - r, x + r, y + r), fill=colour)

    def arc(self, centre: Point, radius: float, start: float, end: float, colour: Colour, width: float) -> None:
        """Draw part of a circle from angle `start` to `end`, in radians, clockwise from the right."""
        angles = [start + (end - start) * k / 10 for k in range(11)]
        points = [(centre[0] + radius * math.cos(a), centre[1] + radius * math.sin(a)) for a in angles]
        self.line(points, colour, width)


_CIRCLE = [(math.cos(2 * math.pi * k / 28), math.sin(2 * math.pi * k / 28)) for k in range(28)]
INK: Colour = (44, 40, 44)
STEEL: Colour = (150, 156, 166)


def mix(first: Colour, second: Colour, amount: float) -> Colour:
    """Return `first` moved towards `second` by `amount` (0 to 1)."""
    r, g, b = (round(a + (z - a) * amount) for a, z in zip(first, second, strict=True))
    return r, g, b


def dark(colour: Colour, amount: float = 0.3) -> Colour:
    """Return a darker colour; `amount` is 0 to 1."""
    return mix(colour, (16, 14, 24), amount)


def light(colour: Colour, amount: float = 0.4) -> Colour:
    """Return a lighter colour; `amount` is 0 to 1."""
    return mix(colour, (255, 252, 240), amount)
