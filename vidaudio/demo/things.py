"""Drawings of the sounding things: one function per kind, called with pen, main colour, score and time (seconds)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from vidaudio.demo.pen import COLOURS, INK, STEEL, Colour, Pen, Point, dark, light, mix

if TYPE_CHECKING:
    from vidaudio.demo.sounds import Performance


def draw_bell(pen: Pen, colour: Colour, performance: Performance, seconds: float) -> None:
    """Draw a hand-rung bell on a beam: it swings when struck, and rays show the ringing."""
    since = performance.since(seconds)
    ringing = math.exp(-since / 0.6) if math.isfinite(since) else 0.0
    angle = 0.36 * ringing * math.cos(2 * math.pi * 1.6 * since) if ringing else 0.0
    wood = COLOURS["brown"]
    pen.polygon([(-0.36, -0.5), (0.36, -0.5), (0.36, -0.41), (-0.36, -0.41)], wood)
    pen.line([(-0.36, -0.41), (0.36, -0.41)], dark(wood), 0.02)
    cos, sin = math.cos(angle), math.sin(angle)

    def swung(x: float, y: float) -> Point:
        return (x * cos - (y + 0.41) * sin, -0.41 + x * sin + (y + 0.41) * cos)

    pen.line([swung(0, -0.42), swung(0, -0.28)], dark(wood, 0.5), 0.05)
    outline = [(-0.07, -0.3), (-0.15, -0.24), (-0.19, -0.1), (-0.22, 0.1), (-0.28, 0.24), (-0.36, 0.32)]
    left = [swung(x, y) for x, y in outline]
    right = [swung(-x, y) for x, y in reversed(outline)]
    pen.circle(swung(-0.06 * (1 if ringing > 0.3 else 0), 0.38), 0.075, dark(colour, 0.55))
    pen.polygon(left + right, colour)
    pen.polygon([swung(x * 0.55 - 0.06, y) for x, y in outline] + left[::-1], light(colour, 0.45))
    pen.polygon([swung(-x * 0.62 + 0.03, y) for x, y in outline] + right, dark(colour, 0.22))
    pen.line([swung(-0.36, 0.31), swung(0.36, 0.31)], dark(colour, 0.4), 0.05)
    pen.line([swung(-0.21, 0.12), swung(0.21, 0.12)], dark(colour, 0.4), 0.025)
    if ringing > 0.25:
        for side in (-1, 1):
            for k in range(2):
                radius = 0.44 + 0.08 * k
                middle = math.pi / 2 - side * (math.pi / 2 - 0.1)
                pen.arc((0, 0.1), radius, middle - 0.35, middle + 0.35, light(colour, 0.6), 0.02)


def draw_siren(pen: Pen, colour: Colour, performance: Performance, seconds: float) -> None:
    """Draw a beacon whose beam sweeps round as the wail rises and falls."""
    swing = performance.swing(seconds)
    glow = 0.5 + 0.5 * swing
    beam = mix(colour, (255, 250, 220), 0.45)
    turn = 0.5 * swing
    for side in (-1, 1):
        reach = 0.62 * (0.55 + 0.45 * (glow if side > 0 else 1 - glow))
        angle = turn + (0 if side > 0 else math.pi)
        tip = [(reach * math.cos(angle + s * 0.3), -0.06 + reach * math.sin(angle + s * 0.3) * 0.6) for s in (-1, 1)]
        pen.polygon([(0, -0.06), *tip], beam)
    lamp = mix(dark(colour, 0.25), light(colour, 0.35), glow)
    pen.polygon([(-0.23, 0.22), (-0.23, -0.08), (0.23, -0.08), (0.23, 0.22)], lamp)
    pen.ellipse((0, -0.08), (0.23, 0.24), lamp)
    pen.ellipse((-0.09, -0.12), (0.05, 0.15), light(lamp, 0.55))
    pen.ellipse((swing * 0.1, 0.04), (0.075, 0.12), (255, 252, 226))
    pen.line([(-0.23, 0.1), (0.23, 0.1)], dark(colour, 0.35), 0.02)
    pen.polygon([(-0.31, 0.2), (0.31, 0.2), (0.36, 0.36), (-0.36, 0.36)], INK)
    pen.polygon([(-0.42, 0.34), (0.42, 0.34), (0.42, 0.45), (-0.42, 0.45)], STEEL)
    pen.line([(-0.42, 0.36), (0.42, 0.36)], light(STEEL), 0.025)
    for x in (-0.33, 0.33):
        pen.circle((x, 0.4), 0.025, dark(STEEL, 0.5))


def draw_bee(pen: Pen, colour: Colour, performance: Performance, seconds: float) -> None:
    """Draw a bee that hovers on a small path, with blurred wings."""
    angle = 2 * math.pi * 0.35 * seconds + performance.phase
    x, y = 0.1 * math.sin(angle), 0.07 * math.sin(2 * angle) + 0.015 * performance.swing(seconds)
    wing = (222, 236, 246)
    flap = 0.25 * performance.swing(seconds)
    for lean, reach in ((-0.55, 0.3), (0.35, 0.26)):
        a = lean + flap - math.pi / 2
        middle = (x + 0.02 + 0.24 * math.cos(a), y - 0.1 + 0.24 * math.sin(a))
        pen.ellipse(middle, (reach * 0.75, 0.105), dark(wing, 0.25), a)
        pen.ellipse(middle, (reach * 0.69, 0.085), wing, a)
    pen.polygon([(x - 0.3, y - 0.04), (x - 0.3, y + 0.08), (x - 0.44, y + 0.03)], INK)
    pen.ellipse((x - 0.04, y + 0.02), (0.31, 0.19), colour)
    pen.ellipse((x - 0.04, y - 0.06), (0.22, 0.08), light(colour, 0.4))
    for stripe in (-0.24, -0.11, 0.03):
        half = 0.185 * math.sqrt(max(0.0, 1 - ((stripe + 0.04) / 0.31) ** 2))
        pen.polygon(
            [
                (x + stripe - 0.03, y + 0.02 - half),
                (x + stripe + 0.035, y + 0.02 - half),
                (x + stripe + 0.035, y + 0.02 + half),
                (x + stripe - 0.03, y + 0.02 + half),
            ],
            INK,
        )
    pen.circle((x + 0.27, y + 0.02), 0.135, INK)
    pen.circle((x + 0.32, y - 0.01), 0.042, (250, 250, 250))
    pen.circle((x + 0.333, y - 0.01), 0.02, (10, 10, 10))
    for bend in (0.02, 0.1):
        pen.line([(x + 0.28, y - 0.09), (x + 0.3 + bend, y - 0.22), (x + 0.36 + bend, y - 0.24)], INK, 0.02)
    for leg in (-0.12, 0.0, 0.12):
        pen.line([(x + leg, y + 0.18), (x + leg - 0.03, y + 0.28)], INK, 0.02)


def draw_woodpecker(pen: Pen, colour: Colour, performance: Performance, seconds: float) -> None:
    """Draw a woodpecker: its head is at the trunk's bark while a knock sounds and draws back between rolls."""
    bark, feather = (122, 84, 56), (50, 50, 62)
    pen.polygon([(0.2, -0.62), (0.44, -0.62), (0.48, 0.62), (0.17, 0.62)], bark)
    for k, x in enumerate((0.25, 0.33, 0.4)):
        pen.line([(x, -0.6 + 0.1 * k), (x + 0.01, 0.1), (x - 0.01, 0.6)], dark(bark, 0.35), 0.016)
    pen.ellipse((0.24, -0.23), (0.035, 0.05), dark(bark, 0.65))
    since = performance.since(seconds)
    in_roll = since < 0.14
    knock = max(0.0, 1 - since / 0.06) if in_roll else 0.0
    back = 0.0 if knock > 0.35 else (0.07 if in_roll else 0.13)
    pen.polygon([(-0.16, 0.2), (-0.06, 0.26), (0.1, 0.62), (0.02, 0.64)], dark(feather, 0.3))
    pen.ellipse((-0.03, 0.1), (0.15, 0.29), feather, 0.18)
    pen.ellipse((0.05, 0.1), (0.085, 0.22), (232, 228, 216), 0.18)
    pen.ellipse((-0.1, 0.14), (0.08, 0.22), dark(feather, 0.3), 0.2)
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
    """Draw a guitar whose strings shake after each pluck."""
    since = performance.since(seconds)
    shake = 0.022 * math.exp(-since / 0.25) * (1 if int(seconds * 20) % 2 else -1) if math.isfinite(since) else 0.0
    angle = -0.7  # drawn upright, held aslant
    cos, sin = math.cos(-angle), math.sin(-angle)

    def held(x: float, y: float) -> Point:
        return (x * cos - y * sin - 0.1, x * sin + y * cos + 0.07)

    neck, rim = (92, 58, 38), dark(colour, 0.45)
    for x, y, r in ((0, 0.27, 0.235), (0, 0.02, 0.175)):
        pen.circle(held(x, y), r + 0.02, rim)
    pen.polygon([held(-0.165, 0.04), held(0.165, 0.04), held(0.2, 0.18), held(-0.2, 0.18)], rim)
    for x, y, r in ((0, 0.27, 0.235), (0, 0.02, 0.175)):
        pen.circle(held(x, y), r, colour)
    pen.polygon([held(-0.15, 0.04), held(0.15, 0.04), held(0.18, 0.18), held(-0.18, 0.18)], colour)
    pen.ellipse(held(-0.11, 0.3), (0.05, 0.12), light(colour, 0.35), -angle + 0.3)
    pen.circle(held(0, 0.1), 0.088, dark(neck, 0.1))
    pen.circle(held(0, 0.1), 0.07, (24, 18, 18))
    pen.polygon([held(-0.04, 0.03), held(0.04, 0.03), held(0.034, -0.5), held(-0.034, -0.5)], neck)
    for k in range(7):
        y = -0.04 - 0.065 * k
        pen.line([held(-0.036, y), held(0.036, y)], (206, 196, 170), 0.009)
    pen.polygon([held(-0.055, -0.5), held(0.055, -0.5), held(0.065, -0.66), held(-0.065, -0.66)], dark(neck, 0.3))
    for side in (-1, 1):
        for k in range(3):
            pen.circle(held(side * 0.08, -0.53 - 0.05 * k), 0.018, (230, 226, 210))
    pen.polygon([held(-0.09, 0.35), held(0.09, 0.35), held(0.09, 0.385), held(-0.09, 0.385)], dark(neck, 0.3))
    for k in range(4):
        at = -0.024 + 0.016 * k
        middle = shake * (1.4 if k % 2 else 0.8)
        pen.line(
            [held(at, -0.52), held(at + middle, -0.06), held(at - middle, 0.15), held(at, 0.36)], (246, 242, 226), 0.008
        )


def draw_horn(pen: Pen, colour: Colour, performance: Performance, seconds: float) -> None:
    """Draw a bulb horn: while it honks, the bulb is squeezed and arcs leave the bell."""
    honking = any(0 <= seconds - t < n for t, n in zip(performance.onsets, performance.lengths, strict=True))
    rubber = (58, 54, 60)
    squeeze = 0.72 if honking else 1.0
    pen.ellipse((-0.36, 0.04), (0.17, 0.15 * squeeze), rubber)
    pen.ellipse((-0.4, -0.02), (0.06, 0.035 * squeeze), light(rubber, 0.4))
    pen.polygon([(-0.21, 0.0), (-0.21, 0.08), (-0.1, 0.075), (-0.1, 0.005)], dark(colour, 0.4))
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
        light(colour, 0.5),
    )
    pen.polygon(
        [(-0.12, 0.07), (0.1, 0.12), (0.24, 0.2), (0.33, 0.32), (0.33, 0.24), (0.22, 0.15), (0.1, 0.09)],
        dark(colour, 0.25),
    )
    pen.ellipse((0.34, 0.04), (0.085, 0.325), dark(colour, 0.3))
    pen.ellipse((0.35, 0.04), (0.06, 0.28), dark(colour, 0.65))
    pen.line([(-0.02, 0.08), (-0.02, 0.27), (0.12, 0.27), (0.12, 0.12)], dark(colour, 0.35), 0.035)
    if honking:
        for k in range(3):
            pen.arc((0.36, 0.04), 0.14 + 0.08 * k, -0.6, 0.6, light(colour, 0.7), 0.024)


def ball_height(performance: Performance, seconds: float) -> float:
    """Return the ball's height above the floor in units of the thing: 0 at every thud, a parabola in between."""
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
    """Draw a beach ball that touches the floor exactly when it thuds, flattened for a moment."""
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
    pen.circle((x, y), 0.045, light(colour, 0.6))
    pen.ellipse((x - 0.08, y - 0.09 * flat), (0.05, 0.03), (255, 255, 255), -0.6)


def draw_tap(pen: Pen, colour: Colour, performance: Performance, seconds: float) -> None:
    """Draw a tap over a basin: a drop falls, and lands in the water when it sounds."""
    shade, shine = dark(colour, 0.35), light(colour, 0.55)
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
    pen.ellipse((0.16, 0.42), (0.3, 0.1), dark(rim, 0.25))
    pen.ellipse((0.16, 0.4), (0.3, 0.095), rim)
    pen.ellipse((0.16, 0.4), (0.25, 0.07), water)
    since = performance.since(seconds)
    if since < 0.25:
        spread = 0.06 + 0.5 * since
        pen.ellipse((0.17, 0.4), (min(0.24, spread), min(0.065, spread * 0.3)), light(water, 0.6))
        pen.ellipse((0.17, 0.4), (min(0.2, spread * 0.7), min(0.05, spread * 0.2)), water)
        for side in (-1, 1):
            pen.ellipse((0.17 + side * (0.05 + 0.3 * since), 0.33 - 0.1 * since), (0.014, 0.02), light(water, 0.3))
    ahead = [t - seconds for t in performance.onsets if t >= seconds]
    falling = ahead[0] if ahead else float("inf")
    drop_y = 0.4 - 0.3 * min(1.0, falling / 0.25) if falling < 0.25 else 0.1
    size = 1.0 if falling < 0.25 else max(0.3, 1 - falling)
    pen.polygon(
        [(0.17, drop_y - 0.07 * size), (0.2 * size + 0.17 * (1 - size), drop_y), (0.17 - 0.03 * size, drop_y)], water
    )
    pen.circle((0.17, drop_y + 0.012), 0.036 * size, water)


Draw = Callable[[Pen, Colour, "Performance", float], None]
