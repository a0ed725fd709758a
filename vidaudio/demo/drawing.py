"""What the demo world looks like: a place, some clutter, and one sounding thing that moves as its sound does.

Everything is drawn with Pillow at twice the size and reduced, which smooths the edges for a millisecond a frame. The
background is painted once a video; a frame costs one copy of it, the shapes of the thing, and the reduction.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

if TYPE_CHECKING:
    from vidaudio.demo.sounds import Performance

WIDTH, HEIGHT = 320, 240
"""Size of the world's videos in pixels. Wider than high, so that a centre crop has something to cut."""

_SUPERSAMPLING = 2

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


@dataclass(frozen=True, slots=True)
class Look:
    """How one instance looks: everything about its picture but the motion.

    Attributes:
        colour: Name of the thing's main colour, a key of `COLOURS`.
        place: Name of the background, a key of `PLACES`.
        centre: Where the thing stands, in units of the picture's height, from its centre (right and down positive).
        scale: Size of the thing; 1 fills most of the height.
        tilt: Rotation in radians.
        mirrored: Whether left and right are exchanged.
        seed: What the details (place, clutter, texture, light) are drawn from.
    """

    colour: str
    place: str
    centre: Point
    scale: float
    tilt: float
    mirrored: bool
    seed: int


class Pen:
    """Draws shapes given in a thing's own coordinates: its box is about -0.5 .. 0.5, y pointing down."""

    def __init__(self, image: Image.Image, centre: Point, scale: float, tilt: float = 0.0, mirrored: bool = False):
        self._draw = ImageDraw.Draw(image)
        pixels = HEIGHT * _SUPERSAMPLING
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
        self._draw.polygon([self._place(p) for p in points], fill=colour)

    def line(self, points: Sequence[Point], colour: Colour, width: float) -> None:
        """A line through `points`, `width` in units of the thing, with round joints."""
        self._draw.line(
            [self._place(p) for p in points], fill=colour, width=max(1, round(width * self._unit)), joint="curve"
        )

    def ellipse(self, centre: Point, radii: Point, colour: Colour, angle: float = 0.0) -> None:
        cos, sin = math.cos(angle), math.sin(angle)
        points = []
        for step in _CIRCLE:
            x, y = radii[0] * step[0], radii[1] * step[1]
            points.append((centre[0] + x * cos - y * sin, centre[1] + x * sin + y * cos))
        self.polygon(points, colour)

    def circle(self, centre: Point, radius: float, colour: Colour) -> None:
        x, y = self._place(centre)
        r = radius * self._unit
        self._draw.ellipse((x - r, y - r, x + r, y + r), fill=colour)

    def arc(self, centre: Point, radius: float, start: float, end: float, colour: Colour, width: float) -> None:
        """Part of a circle from angle `start` to `end`, radians, clockwise from the right."""
        angles = [start + (end - start) * k / 10 for k in range(11)]
        points = [(centre[0] + radius * math.cos(a), centre[1] + radius * math.sin(a)) for a in angles]
        self.line(points, colour, width)


_CIRCLE = [(math.cos(2 * math.pi * k / 28), math.sin(2 * math.pi * k / 28)) for k in range(28)]
_INK: Colour = (44, 40, 44)
_STEEL: Colour = (150, 156, 166)


def _mix(first: Colour, second: Colour, amount: float) -> Colour:
    """`first` moved towards `second` by `amount` (0 to 1)."""
    r, g, b = (round(a + (z - a) * amount) for a, z in zip(first, second, strict=True))
    return r, g, b


def _dark(colour: Colour, amount: float = 0.3) -> Colour:
    return _mix(colour, (16, 14, 24), amount)


def _light(colour: Colour, amount: float = 0.4) -> Colour:
    return _mix(colour, (255, 252, 240), amount)


# --- things: one function a kind, called with the pen, the main colour, the score and the time ----------------------


def draw_bell(pen: Pen, colour: Colour, performance: Performance, seconds: float) -> None:
    """A hand-rung bell on a beam: it swings out when struck, and rays show the ringing."""
    since = performance.since(seconds)
    ringing = math.exp(-since / 0.6) if math.isfinite(since) else 0.0
    angle = 0.36 * ringing * math.cos(2 * math.pi * 1.6 * since) if ringing else 0.0
    wood = COLOURS["brown"]
    pen.polygon([(-0.36, -0.5), (0.36, -0.5), (0.36, -0.41), (-0.36, -0.41)], wood)
    pen.line([(-0.36, -0.41), (0.36, -0.41)], _dark(wood), 0.02)
    cos, sin = math.cos(angle), math.sin(angle)

    def swung(x: float, y: float) -> Point:
        return (x * cos - (y + 0.41) * sin, -0.41 + x * sin + (y + 0.41) * cos)

    pen.line([swung(0, -0.42), swung(0, -0.28)], _dark(wood, 0.5), 0.05)
    outline = [(-0.07, -0.3), (-0.15, -0.24), (-0.19, -0.1), (-0.22, 0.1), (-0.28, 0.24), (-0.36, 0.32)]
    left = [swung(x, y) for x, y in outline]
    right = [swung(-x, y) for x, y in reversed(outline)]
    pen.circle(swung(-0.06 * (1 if ringing > 0.3 else 0), 0.38), 0.075, _dark(colour, 0.55))
    pen.polygon(left + right, colour)
    pen.polygon([swung(x * 0.55 - 0.06, y) for x, y in outline] + left[::-1], _light(colour, 0.45))
    pen.polygon([swung(-x * 0.62 + 0.03, y) for x, y in outline] + right, _dark(colour, 0.22))
    pen.line([swung(-0.36, 0.31), swung(0.36, 0.31)], _dark(colour, 0.4), 0.05)
    pen.line([swung(-0.21, 0.12), swung(0.21, 0.12)], _dark(colour, 0.4), 0.025)
    if ringing > 0.25:
        for side in (-1, 1):
            for k in range(2):
                radius = 0.44 + 0.08 * k
                middle = math.pi / 2 - side * (math.pi / 2 - 0.1)
                pen.arc((0, 0.1), radius, middle - 0.35, middle + 0.35, _light(colour, 0.6), 0.02)


def draw_siren(pen: Pen, colour: Colour, performance: Performance, seconds: float) -> None:
    """A beacon whose beam sweeps round as the wail rises and falls."""
    swing = performance.swing(seconds)
    glow = 0.5 + 0.5 * swing
    beam = _mix(colour, (255, 250, 220), 0.45)
    turn = 0.5 * swing
    for side in (-1, 1):
        reach = 0.62 * (0.55 + 0.45 * (glow if side > 0 else 1 - glow))
        angle = turn + (0 if side > 0 else math.pi)
        tip = [(reach * math.cos(angle + s * 0.3), -0.06 + reach * math.sin(angle + s * 0.3) * 0.6) for s in (-1, 1)]
        pen.polygon([(0, -0.06), *tip], beam)
    lamp = _mix(_dark(colour, 0.25), _light(colour, 0.35), glow)
    pen.polygon([(-0.23, 0.22), (-0.23, -0.08), (0.23, -0.08), (0.23, 0.22)], lamp)
    pen.ellipse((0, -0.08), (0.23, 0.24), lamp)
    pen.ellipse((-0.09, -0.12), (0.05, 0.15), _light(lamp, 0.55))
    pen.ellipse((swing * 0.1, 0.04), (0.075, 0.12), (255, 252, 226))
    pen.line([(-0.23, 0.1), (0.23, 0.1)], _dark(colour, 0.35), 0.02)
    pen.polygon([(-0.31, 0.2), (0.31, 0.2), (0.36, 0.36), (-0.36, 0.36)], _INK)
    pen.polygon([(-0.42, 0.34), (0.42, 0.34), (0.42, 0.45), (-0.42, 0.45)], _STEEL)
    pen.line([(-0.42, 0.36), (0.42, 0.36)], _light(_STEEL), 0.025)
    for x in (-0.33, 0.33):
        pen.circle((x, 0.4), 0.025, _dark(_STEEL, 0.5))


def draw_bee(pen: Pen, colour: Colour, performance: Performance, seconds: float) -> None:
    """A bee hovering on a small path, its wings blurred."""
    angle = 2 * math.pi * 0.35 * seconds + performance.phase
    x, y = 0.1 * math.sin(angle), 0.07 * math.sin(2 * angle) + 0.015 * performance.swing(seconds)
    wing = (222, 236, 246)
    flap = 0.25 * performance.swing(seconds)
    for lean, reach in ((-0.55, 0.3), (0.35, 0.26)):
        a = lean + flap - math.pi / 2
        middle = (x + 0.02 + 0.24 * math.cos(a), y - 0.1 + 0.24 * math.sin(a))
        pen.ellipse(middle, (reach * 0.75, 0.105), _dark(wing, 0.25), a)
        pen.ellipse(middle, (reach * 0.69, 0.085), wing, a)
    pen.polygon([(x - 0.3, y - 0.04), (x - 0.3, y + 0.08), (x - 0.44, y + 0.03)], _INK)
    pen.ellipse((x - 0.04, y + 0.02), (0.31, 0.19), colour)
    pen.ellipse((x - 0.04, y - 0.06), (0.22, 0.08), _light(colour, 0.4))
    for stripe in (-0.24, -0.11, 0.03):
        half = 0.185 * math.sqrt(max(0.0, 1 - ((stripe + 0.04) / 0.31) ** 2))
        pen.polygon(
            [
                (x + stripe - 0.03, y + 0.02 - half),
                (x + stripe + 0.035, y + 0.02 - half),
                (x + stripe + 0.035, y + 0.02 + half),
                (x + stripe - 0.03, y + 0.02 + half),
            ],
            _INK,
        )
    pen.circle((x + 0.27, y + 0.02), 0.135, _INK)
    pen.circle((x + 0.32, y - 0.01), 0.042, (250, 250, 250))
    pen.circle((x + 0.333, y - 0.01), 0.02, (10, 10, 10))
    for bend in (0.02, 0.1):
        pen.line([(x + 0.28, y - 0.09), (x + 0.3 + bend, y - 0.22), (x + 0.36 + bend, y - 0.24)], _INK, 0.02)
    for leg in (-0.12, 0.0, 0.12):
        pen.line([(x + leg, y + 0.18), (x + leg - 0.03, y + 0.28)], _INK, 0.02)


def draw_woodpecker(pen: Pen, colour: Colour, performance: Performance, seconds: float) -> None:
    """A woodpecker at a trunk; its head is at the bark while a knock sounds and draws back between rolls."""
    bark, feather = (122, 84, 56), (50, 50, 62)
    pen.polygon([(0.2, -0.62), (0.44, -0.62), (0.48, 0.62), (0.17, 0.62)], bark)
    for k, x in enumerate((0.25, 0.33, 0.4)):
        pen.line([(x, -0.6 + 0.1 * k), (x + 0.01, 0.1), (x - 0.01, 0.6)], _dark(bark, 0.35), 0.016)
    pen.ellipse((0.24, -0.23), (0.035, 0.05), _dark(bark, 0.65))
    since = performance.since(seconds)
    in_roll = since < 0.14
    knock = max(0.0, 1 - since / 0.06) if in_roll else 0.0
    back = 0.0 if knock > 0.35 else (0.07 if in_roll else 0.13)
    pen.polygon([(-0.16, 0.2), (-0.06, 0.26), (0.1, 0.62), (0.02, 0.64)], _dark(feather, 0.3))
    pen.ellipse((-0.03, 0.1), (0.15, 0.29), feather, 0.18)
    pen.ellipse((0.05, 0.1), (0.085, 0.22), (232, 228, 216), 0.18)
    pen.ellipse((-0.1, 0.14), (0.08, 0.22), _dark(feather, 0.3), 0.2)
    for k in range(3):
        pen.line([(-0.15 + 0.015 * k, 0.05 + 0.09 * k), (-0.05, 0.08 + 0.09 * k)], (236, 236, 230), 0.018)
    for y in (0.2, 0.27):
        pen.line([(0.08, y), (0.21, y - 0.03)], (220, 160, 60), 0.025)
    hx, hy = -0.02 - back, -0.24 + 0.25 * back
    pen.polygon([(hx - 0.1, hy + 0.02), (hx + 0.1, hy + 0.05), (0.08, 0.02), (-0.14, 0.02)], feather)
    pen.circle((hx, hy), 0.13, feather)
    pen.polygon(
        [(hx + 0.09, hy - 0.09), (hx + 0.0, hy - 0.15), (hx - 0.2, hy - 0.2), (hx - 0.13, hy - 0.02), (hx, hy - 0.06)],
        colour,
    )
    pen.ellipse((hx + 0.01, hy + 0.06), (0.09, 0.035), (236, 232, 222))
    pen.circle((hx + 0.045, hy - 0.02), 0.035, (250, 250, 244))
    pen.circle((hx + 0.052, hy - 0.02), 0.019, (12, 12, 12))
    pen.polygon([(hx + 0.11, hy - 0.045), (hx + 0.11, hy + 0.045), (hx + 0.275, hy + 0.01)], (232, 176, 60))
    if knock > 0.35:
        for k in range(3):
            a = math.pi * (0.78 + 0.22 * k)
            pen.line(
                [
                    (0.24 + 0.07 * math.cos(a), -0.28 - 0.05 + 0.09 * math.sin(a + 0.6)),
                    (0.2 - 0.05 * k, -0.42 + 0.03 * k),
                ],
                (248, 214, 140),
                0.018,
            )


def draw_guitar(pen: Pen, colour: Colour, performance: Performance, seconds: float) -> None:
    """A guitar whose strings shake after each pluck."""
    since = performance.since(seconds)
    shake = 0.022 * math.exp(-since / 0.25) * (1 if int(seconds * 20) % 2 else -1) if math.isfinite(since) else 0.0
    angle = -0.7  # drawn upright, held aslant
    cos, sin = math.cos(-angle), math.sin(-angle)

    def held(x: float, y: float) -> Point:
        return (x * cos - y * sin - 0.1, x * sin + y * cos + 0.07)

    neck, rim = (92, 58, 38), _dark(colour, 0.45)
    for x, y, r in ((0, 0.27, 0.235), (0, 0.02, 0.175)):
        pen.circle(held(x, y), r + 0.02, rim)
    pen.polygon([held(-0.165, 0.04), held(0.165, 0.04), held(0.2, 0.18), held(-0.2, 0.18)], rim)
    for x, y, r in ((0, 0.27, 0.235), (0, 0.02, 0.175)):
        pen.circle(held(x, y), r, colour)
    pen.polygon([held(-0.15, 0.04), held(0.15, 0.04), held(0.18, 0.18), held(-0.18, 0.18)], colour)
    pen.ellipse(held(-0.11, 0.3), (0.05, 0.12), _light(colour, 0.35), -angle + 0.3)
    pen.circle(held(0, 0.1), 0.088, _dark(neck, 0.1))
    pen.circle(held(0, 0.1), 0.07, (24, 18, 18))
    pen.polygon([held(-0.04, 0.03), held(0.04, 0.03), held(0.034, -0.5), held(-0.034, -0.5)], neck)
    for k in range(7):
        y = -0.04 - 0.065 * k
        pen.line([held(-0.036, y), held(0.036, y)], (206, 196, 170), 0.009)
    pen.polygon([held(-0.055, -0.5), held(0.055, -0.5), held(0.065, -0.66), held(-0.065, -0.66)], _dark(neck, 0.3))
    for side in (-1, 1):
        for k in range(3):
            pen.circle(held(side * 0.08, -0.53 - 0.05 * k), 0.018, (230, 226, 210))
    pen.polygon([held(-0.09, 0.35), held(0.09, 0.35), held(0.09, 0.385), held(-0.09, 0.385)], _dark(neck, 0.3))
    for k in range(4):
        x = -0.024 + 0.016 * k
        middle = shake * (1.4 if k % 2 else 0.8)
        pen.line(
            [held(x, -0.52), held(x + middle, -0.06), held(x - middle, 0.15), held(x, 0.36)], (246, 242, 226), 0.008
        )


def draw_horn(pen: Pen, colour: Colour, performance: Performance, seconds: float) -> None:
    """A bulb horn: the bulb is squeezed and arcs leave the bell while it honks."""
    honking = any(0 <= seconds - t < n for t, n in zip(performance.onsets, performance.lengths, strict=True))
    rubber = (58, 54, 60)
    squeeze = 0.72 if honking else 1.0
    pen.ellipse((-0.36, 0.04), (0.17, 0.15 * squeeze), rubber)
    pen.ellipse((-0.4, -0.02), (0.06, 0.035 * squeeze), _light(rubber, 0.4))
    pen.polygon([(-0.21, 0.0), (-0.21, 0.08), (-0.1, 0.075), (-0.1, 0.005)], _dark(colour, 0.4))
    pen.polygon(
        [
            (-0.12, 0.0),
            (0.1, -0.05),
            (0.24, -0.13),
            (0.34, -0.27),
            (0.34, 0.35),
            (0.24, 0.21),
            (0.1, 0.13),
            (-0.12, 0.08),
        ],
        colour,
    )
    pen.polygon(
        [(-0.12, 0.015), (0.1, -0.03), (0.24, -0.1), (0.33, -0.22), (0.33, -0.12), (0.22, -0.03), (0.1, 0.01)],
        _light(colour, 0.5),
    )
    pen.polygon(
        [(-0.12, 0.07), (0.1, 0.12), (0.24, 0.2), (0.33, 0.32), (0.33, 0.24), (0.22, 0.15), (0.1, 0.09)],
        _dark(colour, 0.25),
    )
    pen.ellipse((0.34, 0.04), (0.085, 0.325), _dark(colour, 0.3))
    pen.ellipse((0.35, 0.04), (0.06, 0.28), _dark(colour, 0.65))
    pen.line([(-0.02, 0.08), (-0.02, 0.27), (0.12, 0.27), (0.12, 0.12)], _dark(colour, 0.35), 0.035)
    if honking:
        for k in range(3):
            pen.arc((0.36, 0.04), 0.14 + 0.08 * k, -0.6, 0.6, _light(colour, 0.7), 0.024)


def ball_height(performance: Performance, seconds: float) -> float:
    """Height of the ball above the floor in units of the thing: 0 at every thud, a parabola between two."""
    onsets = performance.onsets
    index = int(np.searchsorted(onsets, seconds, side="right"))
    if not onsets:
        return 0.0
    before = onsets[index - 1] if index else onsets[0] - 0.7
    after = onsets[index] if index < len(onsets) else before + 0.7
    gap = after - before
    phase = min(1.0, (seconds - before) / gap)
    return min(0.75, 1.15 * gap) * 4 * phase * (1 - phase)


def draw_ball(pen: Pen, colour: Colour, performance: Performance, seconds: float) -> None:
    """A beach ball: it touches the floor exactly when it thuds, flattened for a moment."""
    height = ball_height(performance, seconds)
    since = performance.since(seconds)
    flat = 0.82 if since < 0.06 else 1.0
    radius = 0.21
    floor = 0.48
    x, y = 0.0, floor - radius * flat - height
    pen.ellipse((0, floor), (0.24 - 0.1 * height, 0.05 - 0.02 * height), (58, 56, 60))
    spin = seconds * 1.3 + performance.phase
    pen.ellipse((x, y), (radius, radius * flat), (246, 244, 238))
    for k in range(3):
        start = spin + 2 * math.pi * k / 3
        arc = [start + math.pi / 3 * s / 6 for s in range(7)]
        pen.polygon([(x, y), *((x + radius * math.cos(a), y + radius * flat * math.sin(a)) for a in arc)], colour)
    pen.circle((x, y), 0.045, _light(colour, 0.6))
    pen.ellipse((x - 0.08, y - 0.09 * flat), (0.05, 0.03), (255, 255, 255), -0.6)


def draw_tap(pen: Pen, colour: Colour, performance: Performance, seconds: float) -> None:
    """A tap over a basin: a drop falls and lands in the water when it sounds."""
    shade, shine = _dark(colour, 0.35), _light(colour, 0.55)
    pen.polygon([(-0.5, -0.22), (0.1, -0.22), (0.1, -0.08), (-0.5, -0.08)], colour)
    pen.line([(-0.5, -0.19), (0.08, -0.19)], shine, 0.03)
    pen.line([(-0.5, -0.09), (0.06, -0.09)], shade, 0.03)
    pen.ellipse((0.1, -0.1), (0.14, 0.13), colour)
    pen.polygon([(0.1, -0.12), (0.24, -0.12), (0.23, 0.06), (0.11, 0.06)], colour)
    pen.line([(0.145, -0.12), (0.145, 0.05)], shine, 0.022)
    pen.line([(0.1, 0.06), (0.24, 0.06)], shade, 0.035)
    pen.polygon([(-0.2, -0.22), (-0.08, -0.22), (-0.1, -0.36), (-0.18, -0.36)], shade)
    pen.ellipse((-0.14, -0.39), (0.2, 0.05), colour)
    pen.ellipse((-0.14, -0.41), (0.14, 0.02), shine)
    pen.polygon([(-0.56, -0.32), (-0.48, -0.32), (-0.48, 0.02), (-0.56, 0.02)], shade)
    water, rim = (96, 170, 222), (236, 238, 240)
    pen.ellipse((0.16, 0.42), (0.3, 0.1), _dark(rim, 0.25))
    pen.ellipse((0.16, 0.4), (0.3, 0.095), rim)
    pen.ellipse((0.16, 0.4), (0.25, 0.07), water)
    since = performance.since(seconds)
    if since < 0.25:
        spread = 0.06 + 0.5 * since
        pen.ellipse((0.17, 0.4), (min(0.24, spread), min(0.065, spread * 0.3)), _light(water, 0.6))
        pen.ellipse((0.17, 0.4), (min(0.2, spread * 0.7), min(0.05, spread * 0.2)), water)
        for side in (-1, 1):
            pen.ellipse((0.17 + side * (0.05 + 0.3 * since), 0.33 - 0.1 * since), (0.014, 0.02), _light(water, 0.3))
    ahead = [t - seconds for t in performance.onsets if t >= seconds]
    falling = ahead[0] if ahead else float("inf")
    drop_y = 0.4 - 0.3 * min(1.0, falling / 0.25) if falling < 0.25 else 0.1
    size = 1.0 if falling < 0.25 else max(0.3, 1 - falling)
    pen.polygon(
        [(0.17, drop_y - 0.07 * size), (0.2 * size + 0.17 * (1 - size), drop_y), (0.17 - 0.03 * size, drop_y)], water
    )
    pen.circle((0.17, drop_y + 0.012), 0.036 * size, water)


Draw = Callable[[Pen, Colour, "Performance", float], None]


# --- places: backgrounds, painted once a video ----------------------------------------------------------------------


def _canvas(colour: Colour) -> Image.Image:
    return Image.new("RGB", (WIDTH * _SUPERSAMPLING, HEIGHT * _SUPERSAMPLING), colour)


def _soft(rng: np.random.Generator) -> Colour:
    """A muted colour for walls, floors and cloth, so that the thing stands out."""
    name = list(COLOURS)[int(rng.integers(len(COLOURS)))]
    grey = int(rng.integers(120, 235))
    return _mix(COLOURS[name], (grey, grey, grey), float(rng.uniform(0.45, 0.8)))


def _gradient(top: Colour, bottom: Colour) -> Image.Image:
    ramp = np.linspace(0, 1, HEIGHT * _SUPERSAMPLING)[:, None]
    column = np.array(top)[None] * (1 - ramp) + np.array(bottom)[None] * ramp
    pixels = np.repeat(column[:, None].astype(np.uint8), WIDTH * _SUPERSAMPLING, axis=1)
    return Image.fromarray(pixels)


def place_wall(rng: np.random.Generator) -> Image.Image:
    """A plain painted wall over a floor."""
    colour = _soft(rng)
    image = _gradient(_light(colour, 0.2), _dark(colour, 0.15))
    draw = ImageDraw.Draw(image)
    line = int(image.height * rng.uniform(0.72, 0.9))
    draw.rectangle((0, line, image.width, image.height), fill=_dark(_soft(rng), 0.25))
    draw.rectangle((0, line - 8, image.width, line), fill=_light(colour, 0.6))
    return image


def place_bricks(rng: np.random.Generator) -> Image.Image:
    """A brick wall."""
    colour = _mix((164, 92, 70), _soft(rng), float(rng.uniform(0, 0.5)))
    image = _canvas(_light(colour, 0.35))
    draw = ImageDraw.Draw(image)
    high = int(rng.integers(26, 44))
    wide = int(high * rng.uniform(2.0, 2.6))
    for row, y in enumerate(range(0, image.height, high)):
        for x in range(-wide if row % 2 else -wide // 2, image.width, wide):
            shade = _mix(colour, (30, 20, 20), float(rng.uniform(0, 0.25)))
            draw.rectangle((x + 3, y + 3, x + wide - 2, y + high - 2), fill=shade)
    return image


def place_planks(rng: np.random.Generator) -> Image.Image:
    """Wooden planks."""
    colour = _mix((176, 132, 88), _soft(rng), float(rng.uniform(0, 0.5)))
    image = _canvas(colour)
    draw = ImageDraw.Draw(image)
    high = int(rng.integers(44, 80))
    for y in range(0, image.height, high):
        shade = _mix(colour, (60, 36, 20), float(rng.uniform(0, 0.25)))
        draw.rectangle((0, y, image.width, y + high - 4), fill=shade)
        for _ in range(4):
            grain = y + int(rng.integers(4, high - 4))
            start = int(rng.integers(0, image.width))
            draw.line((start, grain, start + int(rng.integers(60, 300)), grain), fill=_dark(shade, 0.15), width=2)
    return image


def place_tiles(rng: np.random.Generator) -> Image.Image:
    """Kitchen tiles."""
    first, second = _light(_soft(rng), 0.45), _light(_soft(rng), 0.2)
    image = _canvas(_dark(first, 0.2))
    draw = ImageDraw.Draw(image)
    size = int(rng.integers(50, 90))
    for row, y in enumerate(range(0, image.height, size)):
        for column, x in enumerate(range(0, image.width, size)):
            draw.rectangle((x + 2, y + 2, x + size - 2, y + size - 2), fill=second if (row + column) % 2 else first)
    return image


def place_hills(rng: np.random.Generator) -> Image.Image:
    """Sky over green hills."""
    sky = _mix((126, 184, 232), _soft(rng), float(rng.uniform(0, 0.35)))
    image = _gradient(sky, _light(sky, 0.6))
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(1, 4))):
        x, y = rng.uniform(0, image.width), rng.uniform(20, image.height * 0.4)
        for k in range(3):
            r = rng.uniform(20, 40)
            draw.ellipse((x + 30 * k - r, y - r * 0.7, x + 30 * k + r, y + r * 0.7), fill=(250, 250, 250))
    green = _mix((104, 164, 84), _soft(rng), float(rng.uniform(0, 0.4)))
    x_axis = np.arange(0, image.width + 8, 8)
    for k in range(2):
        level = image.height * (0.62 + 0.14 * k + rng.uniform(-0.04, 0.04))
        wave = level + 26 * np.sin(x_axis / rng.uniform(60, 130) + rng.uniform(0, 6))
        points = [(float(x), float(y)) for x, y in zip(x_axis, wave, strict=True)]
        draw.polygon([*points, (image.width, image.height), (0, image.height)], fill=_dark(green, 0.22 * k))
    return image


def place_night(rng: np.random.Generator) -> Image.Image:
    """A night sky with stars over dark roofs."""
    image = _gradient((18, 22, 52), _mix((70, 62, 110), _soft(rng), 0.2))
    draw = ImageDraw.Draw(image)
    for _ in range(70):
        x, y, r = rng.uniform(0, image.width), rng.uniform(0, image.height * 0.75), rng.uniform(0.8, 2.4)
        draw.ellipse((x - r, y - r, x + r, y + r), fill=(236, 236, 214))
    x = 0
    while x < image.width:
        wide, top = int(rng.integers(50, 120)), image.height * rng.uniform(0.68, 0.88)
        draw.rectangle((x, top, x + wide, image.height), fill=(30, 30, 48))
        for _ in range(3):
            wx, wy = x + rng.uniform(6, wide - 16), rng.uniform(top + 8, image.height)
            draw.rectangle((wx, wy, wx + 9, wy + 12), fill=(240, 206, 120))
        x += wide
    return image


def place_stripes(rng: np.random.Generator) -> Image.Image:
    """Striped wallpaper."""
    first, second = _soft(rng), _light(_soft(rng), 0.3)
    image = _canvas(first)
    draw = ImageDraw.Draw(image)
    wide = int(rng.integers(24, 70))
    slant = float(rng.uniform(-0.6, 0.6)) * image.height
    for x in range(-600, image.width + 600, 2 * wide):
        draw.polygon([(x, 0), (x + wide, 0), (x + wide + slant, image.height), (x + slant, image.height)], fill=second)
    return image


def place_dots(rng: np.random.Generator) -> Image.Image:
    """Dotted cloth."""
    first, second = _soft(rng), _light(_soft(rng), 0.3)
    image = _canvas(first)
    draw = ImageDraw.Draw(image)
    step = int(rng.integers(50, 90))
    r = step * rng.uniform(0.16, 0.3)
    for row, y in enumerate(range(0, image.height + step, step)):
        for x in range(step // 2 if row % 2 else 0, image.width + step, step):
            draw.ellipse((x - r, y - r, x + r, y + r), fill=second)
    return image


PLACES: dict[str, Callable[[np.random.Generator], Image.Image]] = {
    "wall": place_wall,
    "bricks": place_bricks,
    "planks": place_planks,
    "tiles": place_tiles,
    "hills": place_hills,
    "night": place_night,
    "stripes": place_stripes,
    "dots": place_dots,
}


def _clutter(image: Image.Image, rng: np.random.Generator) -> None:
    """Up to five silent objects (boxes, discs, stars, plants, frames), mostly towards the edges."""
    for _ in range(int(rng.integers(0, 6))):
        angle, radius = rng.uniform(0, 2 * np.pi), rng.uniform(0.42, 0.72)
        centre = (float(radius * np.cos(angle)), float(0.62 * radius * np.sin(angle)))
        pen = Pen(image, centre, float(rng.uniform(0.1, 0.26)), float(rng.uniform(-0.5, 0.5)))
        colour = _mix(_soft(rng), list(COLOURS.values())[int(rng.integers(len(COLOURS)))], 0.5)
        shape = int(rng.integers(5))
        if shape == 0:
            pen.polygon([(-0.5, -0.4), (0.5, -0.4), (0.5, 0.4), (-0.5, 0.4)], colour)
            pen.line([(-0.5, 0), (0.5, 0)], _dark(colour), 0.06)
        elif shape == 1:
            pen.circle((0, 0), 0.42, colour)
            pen.circle((0, 0), 0.2, _light(colour))
        elif shape == 2:
            points = []
            for k in range(10):
                r = 0.5 if k % 2 == 0 else 0.2
                points.append((r * math.sin(math.pi * k / 5), -r * math.cos(math.pi * k / 5)))
            pen.polygon(points, colour)
        elif shape == 3:
            leaf = _mix((70, 140, 72), colour, 0.2)
            for k in range(5):
                lean = -1.0 + 0.5 * k
                pen.ellipse((0.22 * math.sin(lean), -0.25 * math.cos(lean)), (0.08, 0.28), leaf, lean)
            pen.polygon([(-0.2, 0.0), (0.2, 0.0), (0.14, 0.45), (-0.14, 0.45)], _mix((176, 96, 62), colour, 0.3))
        else:
            pen.polygon([(-0.45, -0.5), (0.45, -0.5), (0.45, 0.5), (-0.45, 0.5)], _dark(colour))
            pen.polygon([(-0.35, -0.4), (0.35, -0.4), (0.35, 0.4), (-0.35, 0.4)], _light(colour, 0.6))


def _light_field(rng: np.random.Generator) -> np.ndarray:
    """How bright each pixel of the final picture is: light from one side, between about 0.75 and 1.15."""
    x = np.linspace(-1, 1, WIDTH, dtype=np.float32)[None]
    y = np.linspace(-1, 1, HEIGHT, dtype=np.float32)[:, None]
    angle = rng.uniform(0, 2 * np.pi)
    tilt = np.float32(rng.uniform(0, 0.16)) * (x * np.float32(np.cos(angle)) + y * np.float32(np.sin(angle)))
    return np.float32(rng.uniform(0.85, 1.05)) * (1 + tilt)


# --- pictures -------------------------------------------------------------------------------------------------------


def draw_look(rng: np.random.Generator, colours: Sequence[str], *, tiltable: bool) -> Look:
    """Draw how one instance looks.

    Args:
        rng: The instance's own generator.
        colours: Names the thing's main colour is drawn from.
        tiltable: Whether the thing may be rotated (a ball on a floor or a tap on a wall may not).
    """
    scale = float(rng.uniform(0.55, 0.95))
    room = 0.5 - 0.42 * scale  # keeps most of the thing inside the centre square that encoders crop to
    return Look(
        colour=str(rng.choice(list(colours))),
        place=str(rng.choice(list(PLACES))),
        centre=(float(rng.uniform(-room, room)), float(rng.uniform(-room, room) * 0.7)),
        scale=scale,
        tilt=float(rng.uniform(-0.22, 0.22)) if tiltable else 0.0,
        mirrored=bool(rng.integers(2)),
        seed=int(rng.integers(2**62)),
    )


class Scene:
    """One instance in its place; `at` gives its picture at any time."""

    def __init__(self, draw: Draw | None, look: Look, performance: Performance | None):
        """Paint the background. Without `draw` the picture shows the empty place, clutter and all."""
        self._draw, self._look, self._performance = draw, look, performance
        rng = np.random.default_rng(look.seed)
        self._background = PLACES[look.place](rng)
        _clutter(self._background, rng)
        if rng.random() < 0.5:  # a shallow depth of field, as photographs have
            self._background = self._background.filter(ImageFilter.BoxBlur(float(rng.uniform(1, 4))))
        base = COLOURS[look.colour]
        self._colour = _mix(base, _soft(rng), float(rng.uniform(0, 0.22)))
        # Lighting costs a float pass a frame, so it is laid on the background, not on the moving thing.
        self._shade(_light_field(rng))

    def _shade(self, light: np.ndarray) -> None:
        grown = light.repeat(_SUPERSAMPLING, 0).repeat(_SUPERSAMPLING, 1)[:, :, None]
        pixels = np.asarray(self._background, np.float32) * grown
        self._background = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))

    def at(self, seconds: float) -> Image.Image:
        """The picture at time `seconds`, RGB, `WIDTH` x `HEIGHT`."""
        image = self._background.copy()
        if self._draw is not None and self._performance is not None:
            look = self._look
            pen = Pen(image, look.centre, look.scale, look.tilt, look.mirrored)
            self._draw(pen, self._colour, self._performance, seconds)
        return image.reduce(_SUPERSAMPLING)
