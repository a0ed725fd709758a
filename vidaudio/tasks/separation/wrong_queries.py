"""Wrong queries: queries for sounds that a validation mixture does not contain, to measure the effect of the query.

A mixture's wrong query depends only on its target, so that validations agree for any number of ranks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from vidaudio.stream.loader import MixtureStream

CANDIDATES = 64

# Returns queries of a batch's sources `[B, N, ...]`, and which mixtures have one for every source (None: all).
Encode = Callable[[dict[str, Any]], tuple[Tensor | None, Tensor | None]]


class WrongQueries:
    """Queries of the first sources of a split; a mixture gets one whose sound it does not contain.

    Args:
        stream: Stream of validation mixtures.
        encode: Function that returns the queries of a batch.
        device: Device of the queries.
    """

    def __init__(self, stream: MixtureStream, encode: Encode, device: torch.device) -> None:
        self._stream = stream
        self._kinds: list[tuple[str, str]] = []
        self._queries: Tensor | None = None
        batch = stream.first(math.ceil(CANDIDATES / stream.config.sources))
        asked, usable = encode({name: v.to(device) if isinstance(v, Tensor) else v for name, v in batch.items()})
        if asked is None:
            return
        kept = torch.ones(len(asked), dtype=torch.bool, device=asked.device) if usable is None else usable
        self._queries = asked[kept].flatten(0, 1)
        self._kinds = [kind for held in self._held(batch, kept.cpu()) for kind in held]

    def draw(self, batch: Mapping[str, Any], usable: Tensor | None) -> tuple[Tensor, Tensor] | None:
        """Return a query for each usable mixture of a batch, and whether it is wrong for that mixture.

        Returns:
            `[B, ...]`; bool `[B]`, False if no candidate differs in kind and source from all sounds of the mixture.
                None for a system without queries, or if no source has a query.
        """
        if self._queries is None or not len(self._queries):
            return None
        kept = torch.ones(len(batch["rows"]), dtype=torch.bool) if usable is None else usable.cpu()
        rows = batch["rows"][:, 0].cpu()[kept].tolist()
        chosen = [self._absent(row, held) for row, held in zip(rows, self._held(batch, kept), strict=True)]
        numbers = torch.tensor([max(0, number) for number in chosen], device=self._queries.device)
        return self._queries[numbers], torch.tensor([number >= 0 for number in chosen], device=self._queries.device)

    def _absent(self, row: int, held: list[tuple[str, str]]) -> int:
        labels, sources = {label for label, _ in held} - {""}, {source for _, source in held}
        for step in range(len(self._kinds)):
            number = (row + step) % len(self._kinds)
            label, source = self._kinds[number]
            if label not in labels and source not in sources:
                return number
        return -1

    def _held(self, batch: Mapping[str, Any], kept: Tensor) -> list[list[tuple[str, str]]]:
        """Return first label and source of every source of the kept mixtures."""
        indexes = [corpus.index for corpus in self._stream.corpora]
        found = []
        for corpora, rows in zip(
            batch["corpora"].cpu()[kept].tolist(), batch["rows"].cpu()[kept].tolist(), strict=True
        ):
            held = []
            for corpus, row in zip(corpora, rows, strict=True):
                labels = indexes[corpus].table["labels"][row].as_py() or [""]
                held.append((labels[0], indexes[corpus].text("source", row)))
            found.append(held)
        return found
