"""Verification of a corpus: its files must have their committed bytes, and its columns must match each other.

    from vidaudio.maintenance.verify import verify_corpus

    report = verify_corpus("corpora/vggsound")
    print(report, report.ok)

Verification changes nothing. No finding stops it: a damaged file becomes a line of the report.
"""

from vidaudio.maintenance.verify.findings import Problem, VerifyReport
from vidaudio.maintenance.verify.run import verify_corpus

__all__ = ["Problem", "VerifyReport", "verify_corpus"]
