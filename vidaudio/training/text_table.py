"""Text queries of a whole split, made once: which label an index row has, and which query a label."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vidaudio.errors import CorpusError
from vidaudio.stream.index import TrainingIndex
from vidaudio.training.queries import QueryMaker


@dataclass(frozen=True)
class TextTable:
    """Text queries of a split's samples.

    Attributes:
        queries: Of each label, `[labels, ...]`.
        of_row: Each index row's label as a number; -1 where it has none that the system knows.
    """

    queries: Tensor
    of_row: Tensor

    @property
    def missing(self) -> int:
        """Samples without a label."""
        return int((self.of_row < 0).sum())


def text_table(index: TrainingIndex, maker: QueryMaker, *, training: bool = False) -> TextTable:
    """Look-up from index rows to the text query of their first label.

    Raises:
        CorpusError: No row has a label that the system knows.
    """
    first = [row[0] if row else None for row in index.table["labels"].to_pylist()]
    known = sorted({label for label in first if label is not None and (not maker.labels or label in maker.labels)})
    if not known:
        raise CorpusError(
            "text queries need a label on the clips, and none of this split has one that the system knows; "
            "name labels in the manifest, or ask by pictures: --set query.train=image --set query.validation=image"
        )
    number = {label: n for n, label in enumerate(known)}
    of_row = torch.tensor([-1 if label is None else number.get(label, -1) for label in first])
    return TextTable(torch.stack([maker.of_words(label, training=training) for label in known]), of_row)


def first_labels(index: TrainingIndex) -> tuple[str, ...]:
    """The labels that clips of a split have as their first, sorted."""
    return tuple(sorted({row[0] for row in index.table["labels"].to_pylist() if row}))
