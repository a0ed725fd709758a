"""The samples of each mixture of a run: from which corpus, and from which of its groups."""

from __future__ import annotations

import math
from collections.abc import Sequence

from vidaudio.stream.config import StreamConfig
from vidaudio.stream.interleave import Interleave
from vidaudio.stream.order import PARTNERS, generator
from vidaudio.stream.packed_corpus import PackedCorpus

# One sample of a mixture: number of its corpus, its row there, its group's position there.
SampleRef = tuple[int, int, int]


class MixtureSampler:
    """The endless sequence of mixtures over one corpus or several; each mixture depends on seed and position alone.

    Args:
        urls: URLs of the corpora, which are opened here.
        weights: Weight of each corpus in training; an evaluation reads one corpus after the other.
        config: Settings of the stream.
    """

    def __init__(self, urls: Sequence[str], weights: Sequence[float], config: StreamConfig) -> None:
        self._interleave = Interleave(list(weights), config.seed)
        self._across = config.across_corpora and config.shuffle and len(urls) > 1
        self._config = config
        size = 1 if self._across else config.sources
        self.corpora = [PackedCorpus(url, config, size) for url in urls]

    @property
    def mixtures_per_epoch(self) -> int:
        """Mixtures in an epoch, of all corpora together."""
        groups = sum(corpus.groups_per_epoch for corpus in self.corpora)
        return math.ceil(groups / self._config.sources) if self._across else groups

    def pick(self, position: int) -> list[SampleRef]:
        """Return the samples of one mixture."""
        if self._across:
            return self._pick_across(position)
        if self._config.shuffle:
            number, place = self._interleave.at(position)
        else:
            number, place = self._one_after_another(position)
        return [(number, row, place) for row in self.corpora[number].group(place).tolist()]

    def _pick_across(self, position: int) -> list[SampleRef]:
        """Return samples of several corpora: each sample from the corpus of its position.

        A source that several of the corpora contain comes only once in the mixture.
        """
        picks: list[SampleRef] = []
        present: set[str] = set()
        for slot in range(self._config.sources):
            number, place = self._interleave.at(position * self._config.sources + slot)
            corpus = self.corpora[number]
            row = int(corpus.group(place)[0])
            if corpus.samples.source(row) in present:
                rng = generator(PARTNERS, self._config.seed, position, 1 + slot)
                row = corpus.samples.draw_unlike(rng, present)
            present.add(corpus.samples.source(row))
            picks.append((number, row, place))
        return picks

    def _one_after_another(self, position: int) -> tuple[int, int]:
        for number, corpus in enumerate(self.corpora):
            if position < corpus.groups_per_epoch:
                return number, position
            position -= corpus.groups_per_epoch
        raise IndexError("a position behind the end of an evaluation")
