"""The demo world: a closed list of kinds of sounding things, and the seeds that every instance is drawn from.

Each instance is a function of one integer, which determines its look, its rhythm and its sound. The highest bits of the
integer contain the purpose of the instance (training, validation or test videos of a world; training or evaluation of
the demo's CLIP). So no picture or sound of one purpose can occur in another, whatever seeds a user chooses: the numbers
differ by construction, not by luck.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from vidaudio.demo import drawing, sounds, things
from vidaudio.demo.drawing import Look, Scene
from vidaudio.demo.sounds import Performance

DURATION = 6.0
"""Duration of every video of the world in seconds."""

_PURPOSE_BITS = 3
_SEED_BITS = 63


class Purpose(IntEnum):
    """Purpose of an instance; its value is in the highest bits of the instance's seed."""

    TRAIN = 0
    VAL = 1
    TEST = 2
    CLIP_TRAIN = 3
    CLIP_TEST = 4


def derive_seed(purpose: Purpose, *keys: int | str) -> int:
    """Return a 63-bit seed of its own for `purpose` and `keys` (for example a world's seed, a kind and a number).

    Seeds of two purposes never coincide: the highest 3 bits are `purpose`, the other 60 a hash of purpose and keys.
    """
    text = "/".join([purpose.name, *map(str, keys)])
    digest = hashlib.sha256(text.encode()).digest()
    free = _SEED_BITS - _PURPOSE_BITS
    return (int(purpose) << free) | (int.from_bytes(digest[:8], "big") & ((1 << free) - 1))


def purpose_of(seed: int) -> Purpose:
    """Return the purpose that a seed was derived for."""
    return Purpose(seed >> (_SEED_BITS - _PURPOSE_BITS))


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of sounding thing.

    Attributes:
        label: Plain English name, used in queries: "ringing bell".
        synonyms: Other wordings for captions. The first is the bare noun.
        colours: Names of the colours that its main part can have.
        draw: Function that draws the thing.
        perform: Function that draws a score from a generator and a duration in seconds.
        sound: Function that turns a score into a raw waveform at a sample rate in Hz.
        tiltable: Whether the thing may be drawn rotated.
        shares_octave: Whether its pitch is drawn from the octave that most kinds share.
    """

    label: str
    synonyms: tuple[str, ...]
    colours: tuple[str, ...]
    draw: things.Draw
    perform: Callable[[np.random.Generator, float], Performance]
    sound: Callable[[Performance, int], NDArray]
    tiltable: bool = True
    shares_octave: bool = True


KINDS: tuple[Kind, ...] = (
    Kind(
        label="ringing bell",
        synonyms=("bell", "tolling bell", "bell being rung", "chiming bell"),
        colours=("golden", "silver", "brown", "green"),
        draw=things.draw_bell,
        perform=sounds.perform_bell,
        sound=sounds.sound_bell,
    ),
    Kind(
        label="flashing siren",
        synonyms=("siren", "wailing siren", "warning beacon", "emergency light"),
        colours=("red", "blue", "orange", "yellow"),
        draw=things.draw_siren,
        perform=sounds.perform_siren,
        sound=sounds.sound_siren,
    ),
    Kind(
        label="buzzing bee",
        synonyms=("bee", "humming bee", "flying bee", "bumblebee"),
        colours=("yellow", "golden", "orange"),
        draw=things.draw_bee,
        perform=sounds.perform_bee,
        sound=sounds.sound_bee,
    ),
    Kind(
        label="knocking woodpecker",
        synonyms=("woodpecker", "pecking woodpecker", "woodpecker at a trunk", "drumming woodpecker"),
        colours=("red", "orange", "blue", "yellow"),
        draw=things.draw_woodpecker,
        perform=sounds.perform_woodpecker,
        sound=sounds.sound_woodpecker,
    ),
    Kind(
        label="plucked guitar",
        synonyms=("guitar", "strummed guitar", "guitar being played", "acoustic guitar"),
        colours=("brown", "orange", "red", "teal", "blue"),
        draw=things.draw_guitar,
        perform=sounds.perform_guitar,
        sound=sounds.sound_guitar,
    ),
    Kind(
        label="honking horn",
        synonyms=("horn", "tooting horn", "bulb horn", "horn being squeezed"),
        colours=("golden", "silver", "red", "brown"),
        draw=things.draw_horn,
        perform=sounds.perform_horn,
        sound=sounds.sound_horn,
    ),
    Kind(
        label="bouncing ball",
        synonyms=("ball", "beach ball", "jumping ball", "ball hitting the floor"),
        colours=("red", "blue", "green", "purple", "pink", "orange", "teal"),
        draw=things.draw_ball,
        perform=sounds.perform_ball,
        sound=sounds.sound_ball,
        tiltable=False,
        shares_octave=False,
    ),
    Kind(
        label="dripping tap",
        synonyms=("tap", "leaking tap", "dripping faucet", "water drops from a tap"),
        colours=("silver", "golden", "white", "black"),
        draw=things.draw_tap,
        perform=sounds.perform_tap,
        sound=sounds.sound_tap,
        tiltable=False,
        shares_octave=False,
    ),
)
"""All kinds. Their order is part of the world: it never changes, and new kinds go to the end."""

LABELS: tuple[str, ...] = tuple(kind.label for kind in KINDS)


def kind_of(label: str) -> Kind:
    """Return the kind with this label.

    Raises:
        ValueError: When no kind has this label; the message lists all labels.
    """
    for kind in KINDS:
        if kind.label == label:
            return kind
    raise ValueError(f"no kind of sounding thing is called {label!r}; there are: {', '.join(LABELS)}")


def _generator(seed: int, part: int) -> np.random.Generator:
    """Return the independent generator of one part of an instance: 0 its look, 1 its score, 2 its room noise."""
    return np.random.default_rng([seed, part])


@dataclass(frozen=True, slots=True)
class Instance:
    """One sounding thing: a kind, and the seed that everything about it is drawn from.

    Attributes:
        kind: Kind of the thing.
        seed: Seed from `derive_seed`.
        duration: Duration in seconds.
    """

    kind: Kind
    seed: int
    duration: float = DURATION

    def look(self) -> Look:
        """Return the look of the instance."""
        return drawing.draw_look(_generator(self.seed, 0), self.kind.colours, tiltable=self.kind.tiltable)

    def performance(self) -> Performance:
        """Return the score that its sound and its picture follow."""
        return self.kind.perform(_generator(self.seed, 1), self.duration)

    def scene(self) -> Scene:
        """Return its scene, which renders its picture at any time."""
        return Scene(self.kind.draw, self.look(), self.performance())

    def sound(self, sample_rate: int = sounds.SAMPLE_RATE) -> sounds.Waveform:
        """Return its sound: mono, float32, `duration` seconds at `sample_rate` Hz, within -1 .. 1."""
        performance = self.performance()
        return sounds.finish(self.kind.sound(performance, sample_rate), performance, _generator(self.seed, 2))
