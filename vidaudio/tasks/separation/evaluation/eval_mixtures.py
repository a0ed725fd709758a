"""Test mixtures, planned: two windows each, a label where there is one, and a count of what could not be had."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from vidaudio.errors import CorpusError
from vidaudio.tasks.separation.evaluation.locate import ClipLocator, EvalCorpus, LocatedWindow
from vidaudio.tasks.separation.evaluation.pairs import draw_pairs, published_pairs
from vidaudio.tasks.separation.evaluation.protocols import ListedClip, Protocol


@dataclass(frozen=True, slots=True)
class MixtureSource:
    """One sound of a mixture: where it lies, and what it is a sound of (empty: not known)."""

    corpus: EvalCorpus
    place: LocatedWindow
    label: str

    @property
    def source(self) -> str:
        return self.corpus.index.text("source", self.place.row)

    @property
    def key(self) -> str:
        return self.corpus.index.text("key", self.place.row)


@dataclass(frozen=True, slots=True)
class EvalMixture:
    """A test mixture: number in the protocol, target, and what is mixed with it."""

    number: int
    target: MixtureSource
    interference: MixtureSource


@dataclass(frozen=True)
class TestSet:
    """The mixtures of a protocol that can be made of the corpora at hand.

    Attributes:
        items: Of them.
        planned: How many the protocol has.
        missing_targets, missing_interference: Mixtures whose target, or whose partner, no corpus holds.
        ambiguous: Listed videos with several cuts, of which one was taken.
        labels: All labels that occur, sorted.
    """

    __test__ = False  # not a class of tests, whatever its name begins with

    items: tuple[EvalMixture, ...]
    planned: int
    missing_targets: int = 0
    missing_interference: int = 0
    ambiguous: int = 0
    labels: tuple[str, ...] = field(default=())

    @property
    def complete(self) -> bool:
        return len(self.items) == self.planned

    def absent_label(self, item: EvalMixture) -> str:
        """A kind that is not in the mixture, drawn by the mixture's number.

        Raises:
            CorpusError: There is none.
        """
        absent = [label for label in self.labels if label not in (item.target.label, item.interference.label)]
        if not absent:
            raise CorpusError("a wrong query needs a kind that is not in the mixture; the split has only two kinds")
        return random.Random(f"wrong {item.number}").choice(absent)

    def absent_sound(self, item: EvalMixture) -> MixtureSource:
        """Another mixture's target, whose source and kind are not in this mixture.

        Raises:
            CorpusError: There is none.
        """
        kinds = {item.target.label, item.interference.label} - {""}
        sources = {item.target.source, item.interference.source}
        order = random.Random(f"wrong picture {item.number}").sample(range(len(self.items)), len(self.items))
        for number in order:
            other = self.items[number].target
            if other.label not in kinds and other.source not in sources:
                return other
        raise CorpusError("a wrong picture needs a clip of a kind that is not in the mixture, and no target is one")


def plan_split(corpus: EvalCorpus, *, different_labels: bool, both_directions: bool, mixtures: int | None) -> TestSet:
    """Mixtures of a split: every clip is a target once, its partner drawn from the others, middle windows.

    Raises:
        CorpusError: No two clips can be mixed.
    """
    labels = corpus.labels
    pairs = draw_pairs(corpus.index, corpus.windows, labels if different_labels else None, mixtures)

    def sounding(row: int) -> MixtureSource:
        return MixtureSource(corpus, LocatedWindow(row, corpus.windows.middle(row)), labels[row])

    items = _items([(n, (sounding(p.target), sounding(p.interference))) for n, p in enumerate(pairs)], both_directions)
    return TestSet(items, len(items), labels=tuple(sorted(set(labels) - {""})))


def plan_lists(
    protocol: Protocol,
    targets: Sequence[ListedClip],
    interference: Sequence[ListedClip],
    corpora: tuple[EvalCorpus, EvalCorpus],
    *,
    mixtures: int | None,
) -> TestSet:
    """Mixtures of two lists by the papers' draw; those with a clip that is not in the corpora are left out, counted.

    Args:
        protocol: Says where clips are cut.
        targets, interference: The lists, in file order.
        corpora: Where targets and interference lie; may be one and the same.
        mixtures: Only the first so many rows.

    Raises:
        CorpusError: None of the mixtures can be made.
    """
    finders = [ClipLocator(corpus) for corpus in corpora]
    published = protocol.crop == "published"
    pairs = published_pairs(len(targets), len(interference))
    planned = len(pairs) * (1 + protocol.both_directions)
    missing = [0, 0]
    mixed = []
    for number, chosen in enumerate(pairs[:mixtures]):
        sounds = []
        for side, (row, clips) in enumerate(zip(chosen, (targets, interference), strict=True)):
            place = finders[side].find(clips[row], published_crop=published)
            if place is None:
                missing[side] += 1
            else:
                sounds.append(MixtureSource(corpora[side], place, clips[row].label))
        if len(sounds) == 2:
            mixed.append((number, (sounds[0], sounds[1])))
    if not mixed:
        raise CorpusError(
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
    )


def _how_to_get(protocol: Protocol) -> str:
    if protocol.targets is None:
        return "Pack a corpus that holds the clips of the manifest: vidaudio build RECIPE --manifest MANIFEST -o CORPUS"
    return (
        "To get them, make a manifest of the authors' lists (vidaudio manifest clipsep --help), build and pack it "
        "(vidaudio build music or vggsound --manifest MANIFEST -o CORPUS), and name the pack with --data, that of "
        "partners from another corpus with --interference-data"
    )


def _items(
    mixed: Sequence[tuple[int, tuple[MixtureSource, MixtureSource]]], both_directions: bool
) -> tuple[EvalMixture, ...]:
    """Numbered by the list's row; with both directions by twice the row, and one more for the way back."""
    if not both_directions:
        return tuple(EvalMixture(number, *pair) for number, pair in mixed)
    return tuple(
        EvalMixture(2 * number + back, *(pair[::-1] if back else pair)) for number, pair in mixed for back in (0, 1)
    )
