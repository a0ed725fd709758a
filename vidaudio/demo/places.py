"""Places of the demo world: backgrounds that are painted once per video, with clutter and light."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from vidaudio.demo.pen import COLOURS, HEIGHT, SUPERSAMPLING, WIDTH, Colour, Pen, dark, light, mix


def _canvas(colour: Colour) -> Image.Image:
    return Image.new("RGB", (WIDTH * SUPERSAMPLING, HEIGHT * SUPERSAMPLING), colour)


def soft(rng: np.random.Generator) -> Colour:
    """Return a muted colour for walls, floors and cloth, so that the thing stands out."""
    name = list(COLOURS)[int(rng.integers(len(COLOURS)))]
    grey = int(rng.integers(120, 235))
    return mix(COLOURS[name], (grey, grey, grey), float(rng.uniform(0.45, 0.8)))


def _gradient(top: Colour, bottom: Colour) -> Image.Image:
    ramp = np.linspace(0, 1, HEIGHT * SUPERSAMPLING)[:, None]
    column = np.array(top)[None] * (1 - ramp) + np.array(bottom)[None] * ramp
    pixels = np.repeat(column[:, None].astype(np.uint8), WIDTH * SUPERSAMPLING, axis=1)
    return Image.fromarray(pixels)


def place_wall(rng: np.random.Generator) -> Image.Image:
    """Paint a plain wall over a floor."""
    colour = soft(rng)
    image = _gradient(light(colour, 0.2), dark(colour, 0.15))
    draw = ImageDraw.Draw(image)
    line = int(image.height * rng.uniform(0.72, 0.9))
    draw.rectangle((0, line, image.width, image.height), fill=dark(soft(rng), 0.25))
    draw.rectangle((0, line - 8, image.width, line), fill=light(colour, 0.6))
    return image


def place_bricks(rng: np.random.Generator) -> Image.Image:
    """Paint a brick wall."""
    colour = mix((164, 92, 70), soft(rng), float(rng.uniform(0, 0.5)))
    image = _canvas(light(colour, 0.35))
    draw = ImageDraw.Draw(image)
    high = int(rng.integers(26, 44))
    wide = int(high * rng.uniform(2.0, 2.6))
    for row, y in enumerate(range(0, image.height, high)):
        for x in range(-wide if row % 2 else -wide // 2, image.width, wide):
            shade = mix(colour, (30, 20, 20), float(rng.uniform(0, 0.25)))
            draw.rectangle((x + 3, y + 3, x + wide - 2, y + high - 2), fill=shade)
    return image


def place_planks(rng: np.random.Generator) -> Image.Image:
    """Paint wooden planks."""
    colour = mix((176, 132, 88), soft(rng), float(rng.uniform(0, 0.5)))
    image = _canvas(colour)
    draw = ImageDraw.Draw(image)
    high = int(rng.integers(44, 80))
    for y in range(0, image.height, high):
        shade = mix(colour, (60, 36, 20), float(rng.uniform(0, 0.25)))
        draw.rectangle((0, y, image.width, y + high - 4), fill=shade)
        for _ in range(4):
            grain = y + int(rng.integers(4, high - 4))
            start = int(rng.integers(0, image.width))
            draw.line((start, grain, start + int(rng.integers(60, 300)), grain), fill=dark(shade, 0.15), width=2)
    return image


def place_tiles(rng: np.random.Generator) -> Image.Image:
    """Paint kitchen tiles."""
    first, second = light(soft(rng), 0.45), light(soft(rng), 0.2)
    image = _canvas(dark(first, 0.2))
    draw = ImageDraw.Draw(image)
    size = int(rng.integers(50, 90))
    for row, y in enumerate(range(0, image.height, size)):
        for column, x in enumerate(range(0, image.width, size)):
            draw.rectangle((x + 2, y + 2, x + size - 2, y + size - 2), fill=second if (row + column) % 2 else first)
    return image


def place_hills(rng: np.random.Generator) -> Image.Image:
    """Paint sky over green hills."""
    sky = mix((126, 184, 232), soft(rng), float(rng.uniform(0, 0.35)))
    image = _gradient(sky, light(sky, 0.6))
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(1, 4))):
        x, y = rng.uniform(0, image.width), rng.uniform(20, image.height * 0.4)
        for k in range(3):
            r = rng.uniform(20, 40)
            draw.ellipse((x + 30 * k - r, y - r * 0.7, x + 30 * k + r, y + r * 0.7), fill=(250, 250, 250))
    green = mix((104, 164, 84), soft(rng), float(rng.uniform(0, 0.4)))
    x_axis = np.arange(0, image.width + 8, 8)
    for k in range(2):
        level = image.height * (0.62 + 0.14 * k + rng.uniform(-0.04, 0.04))
        wave = level + 26 * np.sin(x_axis / rng.uniform(60, 130) + rng.uniform(0, 6))
        points = [(float(x), float(y)) for x, y in zip(x_axis, wave, strict=True)]
        draw.polygon([*points, (image.width, image.height), (0, image.height)], fill=dark(green, 0.22 * k))
    return image


def place_night(rng: np.random.Generator) -> Image.Image:
    """Paint a night sky with stars over dark roofs."""
    image = _gradient((18, 22, 52), mix((70, 62, 110), soft(rng), 0.2))
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
    """Paint striped wallpaper."""
    first, second = soft(rng), light(soft(rng), 0.3)
    image = _canvas(first)
    draw = ImageDraw.Draw(image)
    wide = int(rng.integers(24, 70))
    slant = float(rng.uniform(-0.6, 0.6)) * image.height
    for x in range(-600, image.width + 600, 2 * wide):
        draw.polygon([(x, 0), (x + wide, 0), (x + wide + slant, image.height), (x + slant, image.height)], fill=second)
    return image


def place_dots(rng: np.random.Generator) -> Image.Image:
    """Paint dotted cloth."""
    first, second = soft(rng), light(soft(rng), 0.3)
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


def clutter(image: Image.Image, rng: np.random.Generator) -> None:
    """Draw up to five silent objects (boxes, discs, stars, plants, frames), mostly near the edges."""
    for _ in range(int(rng.integers(0, 6))):
        angle, radius = rng.uniform(0, 2 * np.pi), rng.uniform(0.42, 0.72)
        centre = (float(radius * np.cos(angle)), float(0.62 * radius * np.sin(angle)))
        pen = Pen(image, centre, float(rng.uniform(0.1, 0.26)), float(rng.uniform(-0.5, 0.5)))
        colour = mix(soft(rng), list(COLOURS.values())[int(rng.integers(len(COLOURS)))], 0.5)
        shape = int(rng.integers(5))
        if shape == 0:
            pen.polygon([(-0.5, -0.4), (0.5, -0.4), (0.5, 0.4), (-0.5, 0.4)], colour)
            pen.line([(-0.5, 0), (0.5, 0)], dark(colour), 0.06)
        elif shape == 1:
            pen.circle((0, 0), 0.42, colour)
            pen.circle((0, 0), 0.2, light(colour))
        elif shape == 2:
            points = []
            for k in range(10):
                r = 0.5 if k % 2 == 0 else 0.2
                points.append((r * math.sin(math.pi * k / 5), -r * math.cos(math.pi * k / 5)))
            pen.polygon(points, colour)
        elif shape == 3:
            leaf = mix((70, 140, 72), colour, 0.2)
            for k in range(5):
                lean = -1.0 + 0.5 * k
                pen.ellipse((0.22 * math.sin(lean), -0.25 * math.cos(lean)), (0.08, 0.28), leaf, lean)
            pen.polygon([(-0.2, 0.0), (0.2, 0.0), (0.14, 0.45), (-0.14, 0.45)], mix((176, 96, 62), colour, 0.3))
        else:
            pen.polygon([(-0.45, -0.5), (0.45, -0.5), (0.45, 0.5), (-0.45, 0.5)], dark(colour))
            pen.polygon([(-0.35, -0.4), (0.35, -0.4), (0.35, 0.4), (-0.35, 0.4)], light(colour, 0.6))


def light_field(rng: np.random.Generator) -> np.ndarray:
    """Return the brightness factor of each pixel of the final picture: light from one side, 0.65 to 1.29."""
    x = np.linspace(-1, 1, WIDTH, dtype=np.float32)[None]
    y = np.linspace(-1, 1, HEIGHT, dtype=np.float32)[:, None]
    angle = rng.uniform(0, 2 * np.pi)
    tilt = np.float32(rng.uniform(0, 0.16)) * (x * np.float32(np.cos(angle)) + y * np.float32(np.sin(angle)))
    return np.float32(rng.uniform(0.85, 1.05)) * (1 + tilt)
