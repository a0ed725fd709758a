"""Location of a listed clip in a packed corpus, and of the window of the clip that is scored.

Whole videos are packed in overlapping segments. The window in the middle of a video is in one of them. The index alone
tells which one: all segments except the last have the same length.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from vidaudio.errors import PackError
from vidaudio.packs.segments import OVERLAP_SECONDS
from vidaudio.stream.index import TrainingIndex
from vidaudio.stream.reader import SampleReader
from vidaudio.stream.windows import Window, Windows, WindowShape
from vidaudio.tasks.separation.evaluation.protocols import ListedClip


@dataclass(frozen=True)
class EvalCorpus:
    """A packed corpus that test sounds are drawn from.

    Attributes:
        index: Index of the split, or of all splits.
        windows: Windows of the samples.
        reader: Reader of the samples.
        encoder: Encoder whose vectors are asked by; None for the pack's first.
    """

    index: TrainingIndex
    windows: Windows
    reader: SampleReader
    encoder: str | None = None

    @classmethod
    def of(cls, index: TrainingIndex, shape: WindowShape, encoder: str | None = None) -> EvalCorpus:
        """Return the corpus of an index, with windows of a shape."""
        return cls(index, Windows(index, shape), SampleReader(index), encoder)

    @functools.cached_property
    def usable(self) -> frozenset[int]:
        """Return the rows that have a window."""
        return frozenset(self.windows.usable.tolist())

    @functools.cached_property
    def labels(self) -> list[str]:
        """Return each row's first label, or else its first caption; empty if it has neither."""
        rows = zip(*(self.index.table[name].to_pylist() for name in ("labels", "captions")), strict=True)
        return [next(iter([*(labels or ()), *(captions or ())]), "") for labels, captions in rows]

    @functools.cached_property
    def has_captions_alone(self) -> bool:
        """Return whether a row has a caption and no label."""
        rows = zip(*(self.index.table[name].to_pylist() for name in ("labels", "captions")), strict=True)
        return any(captions and not labels for labels, captions in rows)


@dataclass(frozen=True, slots=True)
class LocatedWindow:
    """A window of a sample, given by the sample's row in the index."""

    row: int
    window: Window


class ClipLocator:
    """Finder of listed clips in a corpus.

    Args:
        corpus: Corpus to search.

    Attributes:
        ambiguous: Number of look-ups that found several clips of which not exactly one has the list's label.
    """

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
        """Return the scored window of a listed clip; None if the corpus does not have it.

        A list that names videos means any clip of a video. Of several clips, the one with the list's label is taken,
        otherwise the first by id. `ambiguous` counts the cases where the label does not select exactly one.
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
        # A pack of middle windows (`pack.window: middle`) contains only the middle of each clip.
        if seconds is None or "-w" in self._keys[row].removeprefix(self._ids[row]):
            return LocatedWindow(row, self.corpus.windows.middle(row))
        return self._around(row, seconds)

    def _in_segments(self, rows: list[int], seconds: float | None) -> LocatedWindow | None:
        suffix = self._keys[rows[0]].removeprefix(self._ids[rows[0]])
        if not suffix.startswith("-s"):
            raise PackError(
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
        # The segment whose middle is nearest to the centre, so that the window is inside the segment.
        middles = starts + self._samples[rows] / 2
        best = int(np.argmin(np.abs(middles - centre)))
        return self._around(rows[best], (centre - starts[best]) / rate)

    def _around(self, row: int, seconds: float) -> LocatedWindow | None:
        """Return the window around a time; None if the sound is too short there: then it is not the listed clip."""
        if row not in self.corpus.usable:
            return None
        window = around(self.corpus, row, seconds)
        allowed = self.corpus.windows.shape.max_padding_seconds * self.corpus.index.sample_rate
        over = max(-window.first_sample, window.first_sample + window.samples - int(self._samples[row]))
        return LocatedWindow(row, window) if over <= allowed else None


def around(corpus: EvalCorpus, row: int, seconds: float) -> Window:
    """Return a window with the sound centred on a time of the sample, and the images of the nearest grid window."""
    windows, rate = corpus.windows, corpus.index.sample_rate
    first = round(seconds * rate) - windows.shape.length_samples // 2
    nearest = min(
        (windows.at(row, number) for number in range(windows.count(row))), key=lambda w: abs(w.first_sample - first)
    )
    return Window(nearest.frames, first, windows.shape.length_samples)


def _plain(label: str) -> str:
    return " ".join(label.replace("_", " ").replace(",", " ").lower().split())
