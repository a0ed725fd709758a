"""Leak check: test sounds from videos that the system was trained on.

A checkpoint stores the sources of its training split, and of the run whose weights it started with, as hashes. The unit
is the source, `site:video id`: two cuts of one video are one source. A model trained on the official VGGSound train
split is therefore found to know most of VGGSound-Clean.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from vidaudio.errors import UsageError
from vidaudio.training.provenance import source_hash

SHOWN = 5


@dataclass(frozen=True, slots=True)
class Leaks:
    """Test sources that the system knows from training.

    Attributes:
        known: Whether the checkpoint records its training sources.
        sources: Test sources that the system was trained on, sorted.
        tested: Number of sources in the test.
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
        trained_on: Hashes as `vidaudio.training.provenance.hash_sources` returns them; None if the checkpoint has none.
        test_sources: Sources of targets and interference.
    """
    tested = sorted(set(test_sources))
    if trained_on is None:
        return Leaks(False, (), len(tested))
    leaked = [source for source in tested if np.isin(source_hash(source), trained_on)]
    return Leaks(True, tuple(leaked), len(tested))


def refuse_leaks(leaks: Leaks, checkpoint: str) -> None:
    """Refuse a test with leaks.

    Raises:
        UsageError: When a source leaked; the message gives their number and the first of them.
    """
    if leaks.sources:
        raise UsageError(
            f"{checkpoint} was trained on what it is to be tested with: {leaks}. Train without them, name another "
            "split, or go on with --allow-leaks; the report will say so"
        )
