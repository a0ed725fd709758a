"""Text queries of a whole split, computed once: the label of each sample and the query of each label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from vidaudio.errors import PackError
from vidaudio.stream.index import TrainingIndex
from vidaudio.tasks.queries.encoders import QueryEncoder


@dataclass(frozen=True)
class TextTable:
    """Text queries of a split's samples.

    Attributes:
        queries: Query of each label, `[labels, ...]`.
        of_row: Label number of each index row, corpus after corpus; -1 for a row without a label that the system knows.
        first_rows: Position of each corpus's first row in `of_row`, `[corpora]`.
        missing: Number of samples without a label that the system knows.
    """

    queries: Tensor
    of_row: Tensor
    first_rows: Tensor
    missing: int

    def to(self, device: torch.device) -> TextTable:
        """Return a copy on the given device."""
        return TextTable(self.queries.to(device), self.of_row.to(device), self.first_rows.to(device), self.missing)

    def look_up(self, corpora: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return queries of samples, and which samples have one; the query of the others is arbitrary.

        Args:
            corpora: Number of each sample's corpus, int64 `[...]`.
            rows: Row of each sample in its corpus, int64 `[...]`.

        Returns:
            `[..., ...]`; bool `[...]`.
        """
        labels = self.of_row[self.first_rows[corpora] + rows]
        return self.queries[labels.clamp_min(0)], labels >= 0


def text_table(indexes: Sequence[TrainingIndex], maker: QueryEncoder, *, training: bool = False) -> TextTable:
    """Build the look-up from the rows of one or more indexes to the text query of their first label.

    Raises:
        PackError: When no row has a label that the system knows.
    """
    first = [row[0] if row else None for index in indexes for row in index.table["labels"].to_pylist()]
    known = sorted({label for label in first if label is not None and maker.supports(label)})
    if not known:
        raise PackError(
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
    """Return the first labels of a split's clips, sorted, without repeats."""
    return tuple(sorted({row[0] for index in indexes for row in index.table["labels"].to_pylist() if row}))
