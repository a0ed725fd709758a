"""Corruption of committed files, kept apart from failures of a store, which may be transient."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from vidaudio.errors import CorpusError


class CorruptFileError(CorpusError):
    """A committed file that is missing, is cut short, or has other bytes than were committed.

    Args:
        file: Name of the file in the store.
        message: Description for people.

    Attributes:
        file: Name of the file in the store.
    """

    def __init__(self, file: str, message: str) -> None:
        super().__init__(message)
        self.file = file

    def __reduce__(self) -> tuple[type[CorruptFileError], tuple[str, str]]:
        # Needed for pickling: tasks raise it in other processes.
        return type(self), (self.file, str(self))


class CorruptionLog:
    """Log of corrupt files that were found while the rest of the work went on.

    Attributes:
        found: Errors in the order they were found, one per file.
    """

    def __init__(self) -> None:
        self.found: list[CorruptFileError] = []

    @contextlib.contextmanager
    def collecting(self) -> Iterator[None]:
        """Catch and record a `CorruptFileError` of the block, so that the work after the block goes on."""
        try:
            yield
        except CorruptFileError as damaged:
            if damaged.file not in {known.file for known in self.found}:
                self.found.append(damaged)
