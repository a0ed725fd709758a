"""Text queries of a whole split, made once: which label a sample has, and which query a label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from vidaudio.errors import CorpusError
from vidaudio.stream.index import TrainingIndex
from vidaudio.tasks.separation.queries import QueryEncoder


@dataclass(frozen=True)
class TextTable:
    """Text queries of a split's samples.

    Attributes:
        queries: Of each label, `[labels, ...]`.
        of_row: Each index row's label as a number, corpus after corpus; -1 where it has none that the system knows.
        first_rows: Where in `of_row` each corpus begins, `[corpora]`.
        missing: Samples without a label.
    """

    queries: Tensor
    of_row: Tensor
    first_rows: Tensor
    missing: int

    def to(self, device: torch.device) -> TextTable:
        return TextTable(self.queries.to(device), self.of_row.to(device), self.first_rows.to(device), self.missing)

    def look_up(self, corpora: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Queries of samples, and which of them have one; of those without, the query is any.

        Args:
            corpora, rows: Number of a sample's corpus and its row there, int64 `[...]`.

        Returns:
            `[..., ...]`; bool `[...]`.
        """
        labels = self.of_row[self.first_rows[corpora] + rows]
        return self.queries[labels.clamp_min(0)], labels >= 0


def text_table(indexes: Sequence[TrainingIndex], maker: QueryEncoder, *, training: bool = False) -> TextTable:
    """Look-up from the rows of one index or several to the text query of their first label.

    Raises:
        CorpusError: No row has a label that the system knows.
    """
    first = [row[0] if row else None for index in indexes for row in index.table["labels"].to_pylist()]
    known = sorted({label for label in first if label is not None and maker.supports(label)})
    if not known:
        raise CorpusError(
            "text queries need a label on the clips, and none of this split has one that the system knows; "
            "name labels in the manifest, or ask by pictures: --set query.train=image --set query.validation=image"
        )
    number = {label: n for n, label in enumerate(known)}
    of_row = torch.tensor([-1 if label is None else number.get(label, -1) for label in first])
    ends = list(accumulate(len(index) for index in indexes))
    return TextTable(
        torch.stack([maker.encode_text(label, training=training) for label in known]),
        of_row,
        torch.tensor([0, *ends[:-1]]),
        int((of_row < 0).sum()),
    )


def first_labels(indexes: Sequence[TrainingIndex]) -> tuple[str, ...]:
    """The labels that clips of a split have as their first, sorted."""
    return tuple(sorted({row[0] for index in indexes for row in index.table["labels"].to_pylist() if row}))
