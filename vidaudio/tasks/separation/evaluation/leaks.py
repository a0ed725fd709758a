"""Leaks: test sounds from videos that the system was trained on.

A checkpoint remembers the sources of its training split, and of the run it began with, as hashes. The unit is the
source, `site:video id`: two cuts of one video are one source, so a model trained on the official VGGSound train split
is caught with most of VGGSound-Clean in its memory.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from vidaudio.errors import CorpusError
from vidaudio.training.provenance import source_hash

SHOWN = 5


@dataclass(frozen=True, slots=True)
class Leaks:
    """What of a test the system knows from training.

    Attributes:
        known: Whether the checkpoint says what it was trained on.
        sources: Test sources that were trained on, sorted.
        tested: How many sources the test has.
    """

    known: bool
    sources: tuple[str, ...]
    tested: int

    def __str__(self) -> str:
        if not self.known:
            return "not checked: the checkpoint does not say which sources it was trained on"
        if not self.sources:
            return f"none of the {self.tested} test sources was trained on"
        more = " ..." if len(self.sources) > SHOWN else ""
        return (
            f"{len(self.sources)} of the {self.tested} test sources were trained on: "
            f"{', '.join(self.sources[:SHOWN])}{more}"
        )


def find_leaks(trained_on: np.ndarray | None, test_sources: Iterable[str]) -> Leaks:
    """Compare a checkpoint's sources with a test's.

    Args:
        trained_on: Hashes as `vidaudio.training.provenance.hash_sources` gives them; None where it does not say.
        test_sources: Of targets and interference.
    """
    tested = sorted(set(test_sources))
    if trained_on is None:
        return Leaks(False, (), len(tested))
    leaked = [source for source in tested if np.isin(source_hash(source), trained_on)]
    return Leaks(True, tuple(leaked), len(tested))


def refuse_leaks(leaks: Leaks, checkpoint: str) -> None:
    """Stop where anything leaked.

    Raises:
        CorpusError: Says how many sources and which first.
    """
    if leaks.sources:
        raise CorpusError(
            f"{checkpoint} was trained on what it is to be tested with: {leaks}. Train without them, name another "
            "split, or go on with --allow-leaks; the report will say so"
        )
