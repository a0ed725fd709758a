"""The report of a corpus: one self-contained HTML page, and Croissant metadata.

`facts.py` counts a corpus shard by shard, `choice.py` chooses the clips that are shown, `clips.py` reads their media,
`duplicates.py` and `map.py` read the vectors, `page.py` fills the page, and `croissant.py` describes the files.
"""

from vidaudio.report.corpus.facts import CorpusFacts
from vidaudio.report.corpus.report import CorpusReport, report

__all__ = ["CorpusFacts", "CorpusReport", "report"]
