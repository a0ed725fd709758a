"""Facts of a clip's pictures, measured from those that the corpus keeps: still, black, cuts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Still: the grey levels of two pictures differ by a mean square below this (Sphere360).
STILL_SQUARED_DIFFERENCE = 5.0
# Black: this share of the picture is darker than this share of white (FFmpeg's blackdetect).
BLACK_AREA, BLACK_LEVEL = 0.98, 0.10
# Cut: less than this share of two pictures' colours is common to both ...
CUT_COMMON_COLOURS = 0.5
# ... and the mean difference of their grey levels is at least this, of 255.
CUT_DIFFERENCE = 20.0
# One pixel of each square of so many is measured: all of them would cost as much as their JPEG.
STRIDE = 4
AT_ONCE = 16
COLOUR_LEVELS = 8
GREY_WEIGHTS = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True, slots=True)
class PictureFacts:
    """Facts of the pictures of a clip, which lie on the grid of the corpus, 1 s apart by default.

    Attributes:
        still_share: Share of pairs of consecutive pictures that are the same but for noise, 0 to 1; 1 for one picture.
        black_share: Share of pictures that are black, 0 to 1.
        cuts: Number of pairs of consecutive pictures between which the shot changes.
    """

    still_share: float
    black_share: float
    cuts: int


def measure_pictures(images: Sequence[np.ndarray]) -> PictureFacts:
    """Measure the pictures of a clip.

    Args:
        images: RGB pictures in order, uint8 `[size, size, 3]`, at least one.
    """
    pairs = len(images) - 1
    still = cuts = black = 0
    # Some at a time, so that the arrays stay small; each begins with the last one of those before.
    for first in range(0, max(1, pairs), AT_ONCE):
        small = np.stack([image[::STRIDE, ::STRIDE] for image in images[first : first + AT_ONCE + 1]])
        grey = (small @ GREY_WEIGHTS).reshape(len(small), -1)
        difference, colours = np.diff(grey, axis=0), _colours(small)
        common = np.minimum(colours[:-1], colours[1:]).sum(axis=1)
        still += int(np.sum(np.square(difference).mean(axis=1) < STILL_SQUARED_DIFFERENCE))
        cuts += int(np.sum((common < CUT_COMMON_COLOURS) & (np.abs(difference).mean(axis=1) >= CUT_DIFFERENCE)))
        dark = (grey < BLACK_LEVEL * 255).mean(axis=1) >= BLACK_AREA
        black += int(np.sum(dark[(first > 0) :]))
    return PictureFacts(still / pairs if pairs else 1.0, black / len(images), cuts)


def _colours(pictures: np.ndarray) -> np.ndarray:
    """Return the share of each of 512 colours in every picture, `[pictures, 512]`."""
    levels = (pictures // (256 // COLOUR_LEVELS)).reshape(len(pictures), -1, 3).astype(np.int64)
    codes = (levels[..., 0] * COLOUR_LEVELS + levels[..., 1]) * COLOUR_LEVELS + levels[..., 2]
    size = COLOUR_LEVELS**3
    codes += np.arange(len(pictures))[:, None] * size
    return np.bincount(codes.ravel(), minlength=len(pictures) * size).reshape(-1, size) / codes.shape[1]
