"""Results of verify: problems, each with a remedy, notes, and counts of what was checked."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from vidaudio.text import number_of


@dataclass(frozen=True, slots=True)
class Problem:
    """A single problem: the file, what is wrong with it, and what to do about it."""

    file: str
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.file}: {self.what}; {self.remedy}"


@dataclass(slots=True)
class Findings:
    """Findings of one check; checks run in parallel, each with its own findings, which are merged in order."""

    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def add_problem(self, file: str, what: str, remedy: str) -> None:
        """Add a problem of a file, with its remedy."""
        self.problems.append(Problem(file, what, remedy))

    def merge(self, other: Findings) -> None:
        """Append the findings of another check."""
        self.problems += other.problems
        self.notes += other.notes
        self.counts += other.counts


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """Result of `verify_corpus`.

    Attributes:
        url: URL of the corpus.
        problems: Everything that is wrong; empty if the corpus is fine.
        notes: Remarks that are not problems, such as what could not be checked, and why.
        counts: Numbers of `tables`, `tars`, `tars_hashed`, `bytes_hashed`, `clips`, `local_files`,
            `local_files_hashed`, `training_samples` and `frames_encoded_again`.
    """

    url: str
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]
    counts: dict[str, int]

    @property
    def ok(self) -> bool:
        """Whether no problem was found."""
        return not self.problems

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-serializable dict for `--json`."""
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
    """A seeded random share of files, chosen by a hash of the name: the same files each time, in any order."""

    fraction: float
    seed: int = 0

    def selects(self, name: str) -> bool:
        """Return whether the file of this name belongs to the share."""
        digest = hashlib.sha256(f"{self.seed}:{name}".encode()).digest()
        return int.from_bytes(digest[:8]) < self.fraction * 2**64
