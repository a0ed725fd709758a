"""Short forms of verify."""

from __future__ import annotations

from pathlib import Path

from vidaudio.maintenance.verify import VerifyReport, verify_corpus


def check(corpus: Path | str, sample: float = 1.0) -> VerifyReport:
    return verify_corpus(str(corpus), sample=sample, progress=False)


def files_of(report: VerifyReport) -> set[str]:
    return {problem.file for problem in report.problems}
