"""Planned test mixtures: their windows, their labels if known, and counts of the mixtures that are missing."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from vidaudio.errors import PackError
from vidaudio.tasks.separation.evaluation.locate import ClipLocator, EvalCorpus, LocatedWindow
from vidaudio.tasks.separation.evaluation.pairs import chosen_numbers, draw_pairs, published_pairs, target_rows
from vidaudio.tasks.separation.evaluation.protocols import ListedClip, Protocol
from vidaudio.text import number_of


@dataclass(frozen=True, slots=True)
class MixtureSource:
    """One sound of a mixture.

    Attributes:
        corpus: Corpus that contains the sound.
        place: Window of the sound in the corpus.
        label: Kind of sound; empty if it is not known.
    """

    corpus: EvalCorpus
    place: LocatedWindow
    label: str

    @property
    def source(self) -> str:
        """Return the source of the sound's clip, `site:video id`."""
        return self.corpus.index.text("source", self.place.row)

    @property
    def key(self) -> str:
        """Return the key of the sound's sample."""
        return self.corpus.index.text("key", self.place.row)


@dataclass(frozen=True, slots=True)
class Offscreen:
    """An additional sound of a mixture, which nobody asks for.

    Attributes:
        sound: The sound.
        level_db: Its level relative to the target's, dB of the powers over the window.
    """

    sound: MixtureSource
    level_db: float


@dataclass(frozen=True, slots=True)
class EvalMixture:
    """A test mixture of two or more sounds, and maybe of one more from off screen.

    Attributes:
        number: Number in the protocol.
        target: The sound to separate.
        interference: The sound that is mixed with it.
        others: Further sounds that are mixed with it, in mixtures of more than two.
        offscreen: The sound from off screen; None without one.
    """

    number: int
    target: MixtureSource
    interference: MixtureSource
    others: tuple[MixtureSource, ...] = ()
    offscreen: Offscreen | None = None

    @property
    def partners(self) -> tuple[MixtureSource, ...]:
        """Return the sounds that are mixed with the target, without the one from off screen."""
        return (self.interference, *self.others)

    @property
    def sounds(self) -> tuple[MixtureSource, ...]:
        """Return all sounds of the mixture, the target first."""
        return (self.target, *self.partners, *(() if self.offscreen is None else (self.offscreen.sound,)))


@dataclass(frozen=True)
class TestSet:
    """The mixtures of a protocol that can be made from the available corpora.

    Attributes:
        items: The mixtures.
        planned: Number of mixtures in the protocol.
        missing_targets: Number of mixtures whose target is in no corpus, or too short.
        missing_interference: Number of mixtures whose interference is in no corpus, or too short.
        ambiguous: Number of listed videos with several clips that the label does not distinguish; one clip was taken.
        few_partners: Number of targets that are left out because they find too few partners for more than two sounds.
        labels: All labels that occur, sorted.
        every_source: Whether each sound of a mixture is asked for in turn, a test item each.
        targets: Number of targets that mixtures could be made for; more than are tested if fewer are asked for.
        tested_targets: Number of those that are tested.
    """

    __test__ = False  # the name begins with Test, but pytest must not collect it

    items: tuple[EvalMixture, ...]
    planned: int
    missing_targets: int = 0
    missing_interference: int = 0
    ambiguous: int = 0
    few_partners: int = 0
    labels: tuple[str, ...] = field(default=())
    every_source: bool = False
    targets: int = 0
    tested_targets: int = 0

    @property
    def complete(self) -> bool:
        """Return whether all planned mixtures can be made."""
        return len(self.items) == self.planned

    def absent_label(self, item: EvalMixture) -> str:
        """Return a label that is not in the mixture, drawn with the mixture's number as seed.

        Raises:
            PackError: When there is none.
        """
        present = {sound.label for sound in item.sounds}
        absent = [label for label in self.labels if label not in present]
        if not absent:
            raise PackError(
                "a wrong query needs a kind that is not in the mixture; the split has only "
                f"{number_of(len(self.labels), 'kind')}"
            )
        return random.Random(f"wrong {item.number}").choice(absent)

    def absent_sound(self, item: EvalMixture) -> MixtureSource:
        """Return another mixture's target whose source and label are not in this mixture.

        Raises:
            PackError: When there is none.
        """
        found = _foreign(item, "wrong picture", [other.target for other in self.items])
        if found is None:
            raise PackError("a wrong picture needs a clip of a kind that is not in the mixture, and no target is one")
        return found

    def with_offscreen(self, level_db: float) -> TestSet:
        """Return the mixtures with one more sound each: a sound of another mixture, of another kind and source.

        Args:
            level_db: Level of that sound relative to the target's, dB.

        Raises:
            PackError: When a mixture finds none.
        """
        sounds = [sound for item in self.items for sound in item.sounds]
        items = []
        for item in self.items:
            found = _foreign(item, "off screen", sounds)
            if found is None:
                which = "third" if len(item.sounds) == 2 else "further"
                raise PackError(
                    "a sound from off screen is of a kind that is not in the mixture, and the test clips have no "
                    f"{which} kind; leave --offscreen-db out, or pack a test split of more kinds"
                )
            items.append(replace(item, offscreen=Offscreen(found, level_db)))
        return replace(self, items=tuple(items))


def _foreign(item: EvalMixture, purpose: str, sounds: Sequence[MixtureSource]) -> MixtureSource | None:
    """Return a sound whose kind and source a mixture lacks, drawn by its number and a purpose; None without one."""
    kinds = {sound.label for sound in item.sounds} - {""}
    sources = {sound.source for sound in item.sounds}
    order = random.Random(f"{purpose} {item.number}").sample(range(len(sounds)), len(sounds))
    drawn = (sounds[number] for number in order)
    return next((sound for sound in drawn if sound.label not in kinds and sound.source not in sources), None)


def plan_split(
    corpus: EvalCorpus, *, different_labels: bool, every_source: bool, mixtures: int | None, sources: int = 2
) -> TestSet:
    """Plan the mixtures of a split: each clip is a target once, with random partners; middle windows.

    Args:
        corpus: Corpus of the split.
        different_labels: Whether all sounds of a mixture have different labels.
        every_source: Whether each sound of a mixture is asked for in turn, a test item each.
        mixtures: Number of mixtures, see `chosen_numbers`; None for all.
        sources: Number of sounds in a mixture, 2 or more.

    Raises:
        PackError: When no clips can be mixed.
    """
    labels = corpus.labels
    needed = labels if different_labels else None
    pairs = draw_pairs(corpus.index, corpus.windows, needed, mixtures, sources=sources)

    def sounding(row: int) -> MixtureSource:
        return MixtureSource(corpus, LocatedWindow(row, corpus.windows.middle(row)), labels[row])

    items = _items([(pair.number, [sounding(row) for row in pair.rows]) for pair in pairs], every_source)
    targets = len(target_rows(corpus.index, corpus.windows, needed))
    wanted = len(chosen_numbers(targets, mixtures))
    return TestSet(
        items,
        len(items),
        few_partners=0 if sources == 2 else wanted - len(pairs),
        labels=tuple(sorted(set(labels) - {""})),
        every_source=every_source,
        targets=targets,
        tested_targets=wanted,
    )


def plan_lists(
    protocol: Protocol,
    targets: Sequence[ListedClip],
    interference: Sequence[ListedClip],
    corpora: tuple[EvalCorpus, EvalCorpus],
    *,
    mixtures: int | None,
) -> TestSet:
    """Plan the mixtures of two lists with the papers' random draw; mixtures with missing clips are counted, not made.

    Args:
        protocol: Protocol that decides where clips are cut, and whether both directions are tested.
        targets: List of targets, in file order.
        interference: List of interference, in file order.
        corpora: Corpora of targets and of interference; may be one and the same.
        mixtures: Number of rows to use, see `chosen_numbers`; None for all.

    Raises:
        PackError: When none of the mixtures can be made.
    """
    finders = [ClipLocator(corpus) for corpus in corpora]
    published = protocol.crop == "published"
    pairs = published_pairs(len(targets), len(interference))
    planned = len(pairs) * (1 + protocol.both_directions)
    missing = [0, 0]
    mixed = []
    numbers = chosen_numbers(len(pairs), mixtures)
    for number in numbers:
        sounds = []
        for side, (row, clips) in enumerate(zip(pairs[number], (targets, interference), strict=True)):
            place = finders[side].find(clips[row], published_crop=published)
            if place is None:
                missing[side] += 1
            else:
                sounds.append(MixtureSource(corpora[side], place, clips[row].label))
        if len(sounds) == 2:
            mixed.append((number, sounds))
    if not mixed:
        raise PackError(
            f"no mixture of {protocol.title} can be made: the corpus lacks {missing[0]} of its targets and "
            f"{missing[1]} of their partners; its clips are found by their source, `youtube:VIDEO_ID`. "
            f"{_how_to_get(protocol)}"
        )
    return TestSet(
        items=_items(mixed, protocol.both_directions),
        planned=planned,
        missing_targets=missing[0],
        missing_interference=missing[1],
        ambiguous=sum(finder.ambiguous for finder in finders),
        labels=tuple(sorted({sound.label for _, sounds in mixed for sound in sounds} - {""})),
        every_source=protocol.both_directions,
        targets=len(pairs),
        tested_targets=len(numbers),
    )


def _how_to_get(protocol: Protocol) -> str:
    if protocol.targets is None:
        return "Pack a corpus that holds the clips of the manifest: vidaudio build RECIPE --manifest MANIFEST -o CORPUS"
    return (
        "To get them, make a manifest of the authors' lists (vidaudio manifest clipsep --help), build and pack it "
        "(vidaudio build music or vggsound --manifest MANIFEST -o CORPUS), and name the pack with --data, that of "
        "partners from another corpus with --interference-data"
    )


def _items(mixed: Sequence[tuple[int, Sequence[MixtureSource]]], every_source: bool) -> tuple[EvalMixture, ...]:
    """Number the mixtures by list row; if each of N sounds is asked for, by N times the row, plus the sound's place."""
    items = []
    for row, sounds in mixed:
        for place in range(len(sounds)) if every_source else (0,):
            target, interference, *others = (sounds[place], *sounds[:place], *sounds[place + 1 :])
            number = len(sounds) * row + place if every_source else row
            items.append(EvalMixture(number, target, interference, tuple(others)))
    return tuple(items)
