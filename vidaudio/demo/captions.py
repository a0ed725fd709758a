"""Captions for pictures of the demo world, and the rule for which caption is true of which picture.

The contrastive loss of the demo's CLIP needs both. With eight kinds of things, one caption describes many pictures of a
batch. To count those pairs as wrong would teach the model noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vidaudio.demo.places import PLACES
from vidaudio.demo.world import KINDS

TEMPLATES = (
    "{a}",
    "a photo of {a}",
    "a photo of {}",
    "a photo of the {}",
    "a photo of the small {}",
    "a photo of the large {}",
    "a low resolution photo of a {}",
    "a photo of many {}",
    "a picture of {a}",
    "a drawing of {a}",
    "a blurry photo of the {}",
    "a close-up of {a}",
    "there is {a} in the picture",
    "{}",
)
"""Templates that claim nothing about one picture: as on the web, 'small' or 'many' is used loosely."""

PLACE_WORDS: dict[str, tuple[str, ...]] = {
    "wall": ("in front of a plain wall", "in a room"),
    "bricks": ("in front of a brick wall", "by a brick wall"),
    "planks": ("in front of wooden planks", "by a wooden wall"),
    "tiles": ("on kitchen tiles", "in front of a tiled wall"),
    "hills": ("in front of green hills", "in the open under a blue sky"),
    "night": ("at night over the city", "under a starry sky"),
    "stripes": ("on striped wallpaper", "before a striped background"),
    "dots": ("on a dotted cloth", "before a dotted background"),
}

EMPTY_WORDS = ("empty place", "background with nothing in it", "still life", "place without anything moving")

NOTHING = len(KINDS)
"""Kind number of a picture without a sounding thing."""


@dataclass(frozen=True, slots=True)
class Facts:
    """Facts that a picture shows or that a caption claims; None for a fact that is not claimed.

    Attributes:
        kind: Index in `KINDS`, or `NOTHING`.
        colour: Name of the thing's main colour.
        place: Name of the background.
    """

    kind: int
    colour: str | None
    place: str | None


def draw_caption(facts: Facts, rng: np.random.Generator) -> tuple[str, Facts]:
    """Draw a caption that is true of a picture.

    Args:
        facts: Facts that the picture shows.
        rng: Generator for the wording and for the choice of facts to leave out.

    Returns:
        The caption, and the facts that it claims.
    """
    colour = place = None
    if facts.kind == NOTHING:
        name = str(rng.choice(EMPTY_WORDS))
    else:
        kind = KINDS[facts.kind]
        name = kind.label if rng.random() < 0.6 else str(rng.choice(kind.synonyms))
        if facts.colour is not None and rng.random() < 0.15:
            colour = facts.colour
            name = f"{colour} {name}"
    if rng.random() < 0.15:
        place = facts.place
    article = "an" if name[0] in "aeiou" else "a"
    text = str(rng.choice(TEMPLATES)).replace("{a}", f"{article} {name}").replace("{}", name)
    if place is not None:
        text = f"{text} {rng.choice(PLACE_WORDS[place])}"
    return text, Facts(facts.kind, colour, place)


def true_pairs(pictures: list[Facts], claims: list[Facts]) -> NDArray[np.bool_]:
    """Return which caption is true of which picture, bool [pictures, captions]."""
    kinds = np.array([p.kind for p in pictures])[:, None] == np.array([c.kind for c in claims])[None]
    colours = _holds([p.colour for p in pictures], [c.colour for c in claims])
    places = _holds([p.place for p in pictures], [c.place for c in claims])
    return kinds & colours & places


def _holds(shown: list[str | None], claimed: list[str | None]) -> NDArray[np.bool_]:
    shown_names = np.array([s or "" for s in shown])[:, None]
    claimed_names = np.array([c or "" for c in claimed])[None]
    return (claimed_names == "") | (shown_names == claimed_names)


def vocabulary_texts() -> list[str]:
    """Return texts with every word that captions are made of, to learn the tokenizer's merges from."""
    names = [name for kind in KINDS for name in (kind.label, *kind.synonyms)] + list(EMPTY_WORDS)
    texts = [template.replace("{a}", "a {}").replace("{}", name) for template in TEMPLATES for name in names]
    texts += [words for place in PLACES for words in PLACE_WORDS[place]]
    texts += [f"an {colour} thing" for kind in KINDS for colour in kind.colours]
    return texts
