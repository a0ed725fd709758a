"""verify: does a corpus hold what was committed to it, byte for byte, and do its columns still belong together?

    from vidaudio.maintenance.verify import verify_corpus

    report = verify_corpus("corpora/vggsound")
    print(report, report.ok)

Nothing is changed, and nothing that is found stops the search: a damaged file is a line of the report.
"""

from vidaudio.maintenance.verify.findings import Problem, VerifyReport
from vidaudio.maintenance.verify.run import verify_corpus

__all__ = ["Problem", "VerifyReport", "verify_corpus"]
