"""Where a clip of a list lies in a packed corpus, and which window of it is scored.

Whole videos are packed in overlapping segments. The window in a video's middle lies in one of them, and which is known
from the index alone: all segments but the last are of one length.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from vidaudio.errors import CorpusError
from vidaudio.packs.segments import OVERLAP_SECONDS
from vidaudio.stream.index import TrainingIndex
from vidaudio.stream.reader import SampleReader
from vidaudio.stream.windows import Window, Windows, WindowShape
from vidaudio.tasks.separation.evaluation.protocols import ListedClip


@dataclass(frozen=True)
class EvalCorpus:
    """A packed corpus to draw test sounds from.

    Attributes:
        index: Of the split, or of all splits.
        windows: Of its samples.
        reader: Of its samples.
    """

    index: TrainingIndex
    windows: Windows
    reader: SampleReader

    @classmethod
    def of(cls, index: TrainingIndex, shape: WindowShape) -> EvalCorpus:
        return cls(index, Windows(index, shape), SampleReader(index))

    @functools.cached_property
    def usable(self) -> frozenset[int]:
        """Rows that have a window."""
        return frozenset(self.windows.usable.tolist())

    @functools.cached_property
    def labels(self) -> list[str]:
        """Each row's first label; empty where it has none."""
        return [row[0] if row else "" for row in self.index.table["labels"].to_pylist()]


@dataclass(frozen=True, slots=True)
class LocatedWindow:
    """A window of a sample."""

    row: int
    window: Window


class ClipLocator:
    """Finds the clips of lists in a corpus."""

    def __init__(self, corpus: EvalCorpus) -> None:
        self.corpus = corpus
        self.ambiguous = 0
        self._keys = corpus.index.table["key"].to_pylist()
        self._ids = corpus.index.table["id"].to_pylist()
        self._samples = corpus.index.column("samples")
        self._by_id: dict[str, list[int]] = defaultdict(list)
        self._ids_of: dict[str, list[str]] = defaultdict(list)
        for row in sorted(range(len(self._keys)), key=self._keys.__getitem__):
            self._by_id[self._ids[row]].append(row)
        for row, source in enumerate(corpus.index.table["source"].to_pylist()):
            if self._ids[row] not in self._ids_of[source]:
                self._ids_of[source].append(self._ids[row])

    def find(self, clip: ListedClip, *, published_crop: bool) -> LocatedWindow | None:
        """The scored window of a listed clip; None where the corpus has none of it.

        A list that names videos means any cut of them: of several, the one with the list's label, else the first by id;
        those are counted in `ambiguous`.
        """
        rows = self._by_id.get(self._clip_id(clip) or "", [])
        if not rows:
            return None
        seconds = clip.centre_seconds if published_crop else None
        return self._whole(rows[0], seconds) if len(rows) == 1 else self._in_segments(rows, seconds)

    def _clip_id(self, clip: ListedClip) -> str | None:
        if clip.clip_id is not None and clip.clip_id in self._by_id:
            return clip.clip_id
        ids = sorted(self._ids_of.get(clip.source, []))
        if len(ids) > 1:
            same = [i for i in ids if _plain(self.corpus.labels[self._by_id[i][0]]) == _plain(clip.label)]
            self.ambiguous += len(same) != 1
            ids = same or ids
        return ids[0] if ids else None

    def _whole(self, row: int, seconds: float | None) -> LocatedWindow | None:
        if row not in self.corpus.usable:
            return None
        # A pack of middles (`pack.window: middle`) holds nothing else: its middle is all there is.
        if seconds is None or "-w" in self._keys[row].removeprefix(self._ids[row]):
            return LocatedWindow(row, self.corpus.windows.middle(row))
        return self._around(row, seconds)

    def _in_segments(self, rows: list[int], seconds: float | None) -> LocatedWindow | None:
        suffix = self._keys[rows[0]].removeprefix(self._ids[rows[0]])
        if not suffix.startswith("-s"):
            raise CorpusError(
                f"the corpus holds {len(rows)} windows of {self._ids[rows[0]]} drawn by chance, and not its middle; "
                "evaluate on a pack with pack.window: whole or middle"
            )
        numbers = [int(self._keys[row].removeprefix(self._ids[row])[2:]) for row in rows]
        rate = self.corpus.index.sample_rate
        if numbers[0] != 0:
            return None
        step = int(self._samples[rows[0]]) - int(OVERLAP_SECONDS * rate)
        starts = np.asarray(numbers) * step
        centre = (starts[-1] + int(self._samples[rows[-1]])) // 2 if seconds is None else round(seconds * rate)
        # The segment in whose middle the centre lies best, so that the window is inside it.
        middles = starts + self._samples[rows] / 2
        best = int(np.argmin(np.abs(middles - centre)))
        return self._around(rows[best], (centre - starts[best]) / rate)

    def _around(self, row: int, seconds: float) -> LocatedWindow | None:
        """None where the sound ends too early for a window there: then it is not what the list means."""
        if row not in self.corpus.usable:
            return None
        window = around(self.corpus, row, seconds)
        allowed = self.corpus.windows.shape.max_padding_seconds * self.corpus.index.sample_rate
        over = max(-window.first_sample, window.first_sample + window.samples - int(self._samples[row]))
        return LocatedWindow(row, window) if over <= allowed else None


def around(corpus: EvalCorpus, row: int, seconds: float) -> Window:
    """Sound exactly around a time of the sample's sound, and the pictures of the window nearest to it."""
    windows, rate = corpus.windows, corpus.index.sample_rate
    first = round(seconds * rate) - windows.shape.samples // 2
    nearest = min(
        (windows.at(row, number) for number in range(windows.count(row))), key=lambda w: abs(w.first_sample - first)
    )
    return Window(nearest.frames, first, windows.shape.samples)


def _plain(label: str) -> str:
    return " ".join(label.replace("_", " ").replace(",", " ").lower().split())
