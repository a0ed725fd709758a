"""What verify finds: problems with a remedy each, notes, and how much was looked at."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from vidaudio.text import number_of


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: in which file, what, and what to do about it."""

    file: str
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.file}: {self.what}; {self.remedy}"


@dataclass(slots=True)
class Findings:
    """What one check found; checks run side by side, each with its own, merged in order afterwards."""

    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def add_problem(self, file: str, what: str, remedy: str) -> None:
        self.problems.append(Problem(file, what, remedy))

    def merge(self, other: Findings) -> None:
        self.problems += other.problems
        self.notes += other.notes
        self.counts += other.counts


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """The result.

    Attributes:
        url: Of the corpus.
        problems: Empty where the corpus is fine.
        notes: What could not be looked at, and why.
        counts: `tables`, `tars`, `tars_hashed`, `bytes_hashed`, `clips`, `local_files`, `local_files_hashed`,
            `training_samples`, `frames_encoded_again`.
    """

    url: str
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]
    counts: dict[str, int]

    @property
    def ok(self) -> bool:
        return not self.problems

    def as_dict(self) -> dict[str, Any]:
        """JSON-able, for `--json`."""
        return {
            "corpus": self.url,
            "ok": self.ok,
            "problems": [asdict(problem) for problem in self.problems],
            "notes": list(self.notes),
            "counts": self.counts,
        }

    def __str__(self) -> str:
        seen = (
            f"{number_of(self.counts['clips'], 'clip')}, {number_of(self.counts['tables'], 'table')}, "
            f"{self.counts['tars_hashed']:,} of {number_of(self.counts['tars'], 'tar')} hashed, "
            f"{number_of(self.counts['frames_encoded_again'], 'picture')} encoded again"
        )
        if self.ok:
            return "; ".join([f"{self.url} is fine: {seen}", *self.notes])
        lines = [f"{self.url}: {number_of(len(self.problems), 'problem')} ({seen})"]
        lines += [f"  {problem}" for problem in self.problems]
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])


@dataclass(frozen=True, slots=True)
class Sampler:
    """A seeded share of files: the same ones each time, whatever order they come in."""

    fraction: float
    seed: int = 0

    def selects(self, name: str) -> bool:
        digest = hashlib.sha256(f"{self.seed}:{name}".encode()).digest()
        return int.from_bytes(digest[:8]) < self.fraction * 2**64
