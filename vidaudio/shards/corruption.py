"""Damage: a committed file that is not what it was. Told apart from a store that fails, which may pass by itself."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from vidaudio.errors import CorpusError


class CorruptFileError(CorpusError):
    """A committed file is gone, cut short, or has other bytes than were committed.

    Attributes:
        file: Its name in the store.
    """

    def __init__(self, file: str, message: str) -> None:
        super().__init__(message)
        self.file = file

    def __reduce__(self) -> tuple[type[CorruptFileError], tuple[str, str]]:
        # Tasks raise it in other processes.
        return type(self), (self.file, str(self))


class CorruptionLog:
    """Damage that was met on the way and did not keep the rest from being done.

    Attributes:
        found: In the order it was met, each file once.
    """

    def __init__(self) -> None:
        self.found: list[CorruptFileError] = []

    @contextlib.contextmanager
    def collecting(self) -> Iterator[None]:
        """Note what is damaged in here, and go on behind it."""
        try:
            yield
        except CorruptFileError as damaged:
            if damaged.file not in {known.file for known in self.found}:
                self.found.append(damaged)
