"""Ways to ask a generator for the test's clips, and their names in the papers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vidaudio.errors import UsageError
from vidaudio.tasks.generation.checkpoint import GeneratorCheckpoint

IMAGE, TEXT = "image", "text"
# Names in CLIPSonic's tables, by system and method.
_PAPER_NAMES = {
    ("clipsonic_iq", "image"): "CLIPSonic-IQ",
    ("clipsonic_iq", "text"): "CLIPSonic-ZS",
    ("clipsonic_iq", "text+pretrained_prior"): "CLIPSonic-PD",
    ("clipsonic_iq", "text+prior"): "CLIPSonic-SD",
    ("clip_tta", "text"): "CLIP-TTA",
    ("clap_tta", "text"): "CLAP-TTA",
}


@dataclass(frozen=True, slots=True)
class Method:
    """A way to ask.

    Attributes:
        asked_by: `image` or `text`.
        gap: Name or file of the method against the modality gap that texts go through; None for none.
    """

    asked_by: str
    gap: str | None = None

    @property
    def name(self) -> str:
        """Return the name as users write it."""
        return self.asked_by if self.gap is None else f"{self.asked_by}+{self.gap}"

    @classmethod
    def parse(cls, text: str) -> Method:
        """Parse `image`, `text` or `text+METHOD`.

        Raises:
            UsageError: When the text has another form.
        """
        asked_by, plus, gap = text.strip().partition("+")
        if asked_by not in (IMAGE, TEXT) or (plus and (asked_by != TEXT or not gap)):
            raise UsageError(f"method {text!r}: image, text or text+METHOD is wanted, such as text+retrieval")
        return cls(asked_by, gap or None)


def chosen_methods(loaded: GeneratorCheckpoint, wanted: Sequence[str] | None) -> list[Method]:
    """Return the methods that were named; of none, what the generator was trained with and can be asked by.

    Raises:
        UsageError: When a method has another form, or the generator cannot be asked in this way.
    """
    query = loaded.recipe.query
    if wanted is None:
        if query.train != IMAGE:
            return [Method(TEXT)]
        through = [] if query.gap.ask == "none" else [Method(TEXT, query.gap.ask)]
        return [Method(IMAGE), Method(TEXT), *through]
    methods = [Method.parse(text) for text in wanted]
    if query.train != IMAGE and any(method.asked_by == IMAGE for method in methods):
        with_what = {"text": "words", "sound": "sounds"}[query.train]
        raise UsageError(f"{loaded.recipe.system} is trained with {with_what}; ask it by text, not by pictures")
    return methods


def paper_name(system: str, method: str) -> str | None:
    """Return the name of a way to ask a system in CLIPSonic's tables; None if they have none."""
    return _PAPER_NAMES.get((system, method))
