"""Pictures of the demo world: a place, some clutter, and one sounding thing that moves in step with its sound.

Everything is drawn with Pillow at twice the size and then reduced, which smooths the edges and takes a millisecond per
frame. The background is painted once per video. A frame costs one copy of the background, the shapes of the thing, and
the reduction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageFilter

from vidaudio.demo.pen import COLOURS, SUPERSAMPLING, Pen, Point, mix
from vidaudio.demo.places import PLACES, clutter, light_field, soft
from vidaudio.demo.things import Draw

if TYPE_CHECKING:
    from vidaudio.demo.sounds import Performance


@dataclass(frozen=True, slots=True)
class Look:
    """Look of one instance: everything about its picture except the motion.

    Attributes:
        colour: Name of the thing's main colour, a key of `COLOURS`.
        place: Name of the background, a key of `PLACES`.
        centre: Position of the thing relative to the picture's centre, in picture heights; right and down are positive.
        scale: Size of the thing; 1 fills most of the height.
        tilt: Rotation in radians.
        mirrored: Whether left and right are exchanged.
        seed: Seed of the details: place, clutter, texture, light.
    """

    colour: str
    place: str
    centre: Point
    scale: float
    tilt: float
    mirrored: bool
    seed: int


def draw_look(rng: np.random.Generator, colours: Sequence[str], *, tiltable: bool) -> Look:
    """Choose the look of one instance at random.

    Args:
        rng: Generator of the instance.
        colours: Names that the thing's main colour is chosen from.
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
    """One instance in its place; `at` returns its picture at any time. The background is painted on construction.

    Args:
        draw: Function that draws the thing; None for the empty place with its clutter.
        look: Look of the instance.
        performance: Score that the thing moves to; None for the empty place.
    """

    def __init__(self, draw: Draw | None, look: Look, performance: Performance | None):
        self._draw, self._look, self._performance = draw, look, performance
        rng = np.random.default_rng(look.seed)
        self._background = PLACES[look.place](rng)
        clutter(self._background, rng)
        if rng.random() < 0.5:  # a shallow depth of field, as in photographs
            self._background = self._background.filter(ImageFilter.BoxBlur(float(rng.uniform(1, 4))))
        base = COLOURS[look.colour]
        self._colour = mix(base, soft(rng), float(rng.uniform(0, 0.22)))
        # Light falls on the background only: on the moving thing, it would cost a float pass per frame.
        self._shade(light_field(rng))

    def _shade(self, light: np.ndarray) -> None:
        grown = light.repeat(SUPERSAMPLING, 0).repeat(SUPERSAMPLING, 1)[:, :, None]
        pixels = np.asarray(self._background, np.float32) * grown
        self._background = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))

    def at(self, seconds: float) -> Image.Image:
        """Return the picture at time `seconds`, RGB, `WIDTH` x `HEIGHT`."""
        image = self._background.copy()
        if self._draw is not None and self._performance is not None:
            look = self._look
            pen = Pen(image, look.centre, look.scale, look.tilt, look.mirrored)
            self._draw(pen, self._colour, self._performance, seconds)
        return image.reduce(SUPERSAMPLING)
