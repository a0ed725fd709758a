"""Plan of a listening test: the questions of each sound, and the key that assigns sounds to systems.

Blinding happens here, in pure functions. A trial gets an opaque name, and in the question "which do you hear" a random
draw decides whether the wanted sound is listed first or second. The page contains only the opaque names; the rest is in
the experimenter's key.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict

from vidaudio.report.listening.items import Item

KEY_FORMAT: Literal["vidaudio-listening-key/1"] = "vidaudio-listening-key/1"
ANSWERS_FORMAT = "vidaudio-listening-answers/1"
TRIAL_NAME_BITS = 64

FIDELITY, RELEVANCE, WHICH = "fidelity", "relevance", "which"
RATINGS = (1, 2, 3, 4, 5)
CHOICES = ("first", "second", "both", "none")


class Kind(StrEnum):
    """Kind of test: which of two named sounds listeners hear, or ratings of 1 to 5 (mean opinion scores)."""

    WHICH = "which"
    MOS = "mos"


class KeyTrial(BaseModel):
    """System and item of a trial; `target` is the position of the wanted sound among the choices, only for `which`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    system: str
    item: str
    group: str = ""
    target: Literal["first", "second"] | None = None


class Key(BaseModel):
    """Key that assigns the answers of one page to systems and items."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["vidaudio-listening-key/1"] = KEY_FORMAT
    page: str
    kind: Kind
    seed: int
    level: str
    systems: list[str]
    questions: list[str]
    trials: dict[str, KeyTrial]


def plan_trials(
    kind: Kind, items: Sequence[Item], systems: Sequence[str], seed: int
) -> tuple[dict[str, KeyTrial], list[str]]:
    """Give every pair of system and item an opaque name and a random position.

    Returns:
        The trials by opaque name, in random order, and the names of the items in the order of the page's own numbering,
            which is also random.
    """
    rng = random.Random(f"vidaudio listening {seed}")
    pairs = [(system, item) for item in items for system in systems]
    rng.shuffle(pairs)
    trials: dict[str, KeyTrial] = {}
    for system, item in pairs:
        target = rng.choice(("first", "second")) if kind is Kind.WHICH else None
        trials[_fresh_name(rng, trials)] = KeyTrial(system=system, item=item.name, group=item.group, target=target)
    numbering = [item.name for item in items]
    rng.shuffle(numbering)
    return trials, numbering


def choose_items(items: Sequence[Item], count: int | None, seed: int) -> list[Item]:
    """Return `count` items, drawn by seed, in their own order; all items if `count` is None."""
    if count is None or count >= len(items):
        return list(items)
    drawn = set(random.Random(f"vidaudio listening items {seed}").sample(range(len(items)), count))
    return [item for place, item in enumerate(items) if place in drawn]


def questions_of(kind: Kind, items: Sequence[Item]) -> list[str]:
    """Return the questions of every sound; relevance needs a text or an image for every item."""
    if kind is Kind.WHICH:
        return [WHICH]
    return [FIDELITY, RELEVANCE] if all(item.text or item.image for item in items) else [FIDELITY]


def page_trial(trial: KeyTrial, item: Item, number: int) -> dict[str, object]:
    """Return the page's data of a trial: the item's number and the texts in the listener's order."""
    if trial.target is None:
        return {"item": number, "text": item.text}
    labels = (item.target, item.other) if trial.target == "first" else (item.other, item.target)
    return {"item": number, "labels": list(labels)}


def _fresh_name(rng: random.Random, taken: Mapping[str, object]) -> str:
    while (name := f"{rng.getrandbits(TRIAL_NAME_BITS):016x}") in taken:
        pass
    return name
