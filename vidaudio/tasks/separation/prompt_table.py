"""Prompts of a split's clips, and the queries of prompts, made once and kept within bounds."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

from vidaudio.errors import PackError
from vidaudio.stream.index import TrainingIndex
from vidaudio.stream.lru import LruCache
from vidaudio.tasks.queries.encoders import QueryEncoder
from vidaudio.tasks.queries.mixture_prompts import Prompts, PromptTemplates, prompts_of_caption, prompts_of_labels

# Queries that are kept on the device; a CLAP's states of 77 tokens take 240 kB each.
KEPT_QUERIES = 2048


class PromptTable:
    """Labels and captions of a split's clips, and the prompts of its mixtures.

    Args:
        indexes: Indexes of the split, corpus after corpus.
        source_template: Sentence for one label.
        mixture_template: Sentence for several labels.
        natural: Whether clips are mixtures, which their captions tell, or else all their labels; otherwise a clip's
            first label is what it is.

    Raises:
        PackError: When no clip can be asked for.
    """

    def __init__(
        self, indexes: Sequence[TrainingIndex], source_template: str, mixture_template: str, *, natural: bool
    ) -> None:
        self._first = [0, *accumulate(len(index) for index in indexes)]
        self._labels = _texts(indexes, "labels")
        self._captions = _texts(indexes, "captions") if natural else [[]] * len(self._labels)
        self._templates = PromptTemplates(source_template, mixture_template)
        self._natural = natural
        # A corpus that is drawn from in two ways has an index for each.
        ends = {
            index.store.url: (first, first + len(index)) for index, first in zip(indexes, self._first, strict=False)
        }
        places = [place for first, end in ends.values() for place in range(first, end)]
        self.missing = sum(not self._has_words(place) for place in places)
        self.clips = len(places)
        if self.missing == self.clips:
            told = "captions or labels" if natural else "labels"
            raise PackError(f"prompts need {told} of the clips, and no clip of this split has any")

    def _has_words(self, row: int) -> bool:
        return bool(self._captions[row] or self._labels[row])

    def prompts(self, corpora: Sequence[int], rows: Sequence[int], count: int) -> Prompts | None:
        """Return the prompts of one part; None if a clip of it has no label.

        Args:
            corpora: Number of each clip's corpus: K clips, or the one natural mixture.
            rows: Rows of the clips.
            count: Prompts for sources, K; of a natural mixture its phrases are repeated or joined to so many.
        """
        places = [self._first[corpus] + row for corpus, row in zip(corpora, rows, strict=True)]
        if not all(self._has_words(place) for place in places):
            return None
        if not self._natural:
            return prompts_of_labels([self._labels[place][0] for place in places], count, self._templates)
        (place,) = places
        if self._captions[place]:
            return prompts_of_caption(self._captions[place][0], count)
        return prompts_of_labels(self._labels[place], count, self._templates)


def _texts(indexes: Sequence[TrainingIndex], column: str) -> list[list[str]]:
    """Return the texts of each clip that have a letter or a digit: of others no prompt can be made."""
    rows = (row or [] for index in indexes for row in index.table[column].to_pylist())
    return [[text for text in row if any(map(str.isalnum, text))] for row in rows]


class PromptQueries:
    """Queries of prompts on a device; what was asked lately is kept.

    Args:
        encoder: Encoder of the system's queries.
        device: Device of the queries.
    """

    def __init__(self, encoder: QueryEncoder, device: torch.device) -> None:
        self._encoder = encoder
        self._device = device
        self._kept: LruCache[Tensor] = LruCache(KEPT_QUERIES)

    def __call__(self, prompts: Sequence[str]) -> Tensor:
        """Return the queries of prompts, `[prompts, ...]`."""
        return torch.stack(self._kept.get_many(prompts, self._encode))

    def _encode(self, prompts: list[str]) -> Tensor:
        # Also where a validation asks first, in inference mode, training may use the queries.
        with torch.inference_mode(mode=False), torch.no_grad():
            return self._encoder.encode_sentences(prompts).to(self._device, copy=True)
