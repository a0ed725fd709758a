"""Training on mixtures of which a share is made of sounds that are known to be single (semi-supervised separation)."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from vidaudio.errors import UsageError
from vidaudio.stream.config import StreamConfig, check_setting, is_whole
from vidaudio.stream.loader import MixtureStream
from vidaudio.stream.mixtures import SampleRef

MOST_PARTS = 10**6


class PartlyKnownStream(MixtureStream):
    """A `MixtureStream` in which a share of the mixtures is drawn from other sources than the rest.

    Which positions these are depends on the share alone: they are spread evenly. Batches also hold `known`, bool `[B]`.
    Sources that are drawn for known mixtures are never drawn for others, unless these come from a corpus of their own.

    Args:
        url: A packed corpus, or several with their weights, as in `MixtureStream`.
        config: What to iterate, and how; only shuffled streams.
        share: Share of known mixtures, above 0 and below 1, to one in a million.
        known_url: A packed corpus of single sounds for the known mixtures; None takes a share of the sources of `url`.
        known_sources: Samples of a known mixture; None for as many as in the others. It divides the others' number, K
            times. A known sample then has the first of K places, with silence in the others.
        start_step: The first batch to yield.

    Raises:
        UsageError, PackError: As `MixtureStream`, or when the share is out of range.
    """

    def __init__(
        self,
        url: str | os.PathLike[str] | Mapping[str, float],
        config: StreamConfig,
        *,
        share: float,
        known_url: str | None = None,
        known_sources: int | None = None,
        start_step: int = 0,
    ) -> None:
        least = 1 / MOST_PARTS
        check_setting("share", share, f"from {least:g} to {1 - least:g}", least <= share <= 1 - least)
        known_sources = known_sources or config.sources
        fits = is_whole(known_sources, 1) and config.sources % known_sources == 0
        check_setting("known_sources", known_sources, f"a divisor of {config.sources}", fits)
        self._places_each = config.sources // known_sources
        if not config.shuffle:
            raise UsageError("known mixtures are for training: an evaluation knows all sources or none")
        self._share = Fraction(share).limit_denominator(MOST_PARTS)
        one_corpus = known_url is None
        super().__init__(
            url, replace(config, sources_between=(share, 1.0)) if one_corpus else config, start_step=start_step
        )
        between = (0.0, share) if one_corpus else None
        self._known = MixtureStream(
            url if known_url is None else known_url,
            replace(config, sources=known_sources, sources_between=between),
        )
        self._others = len(self.corpora)
        self.corpora = [*self.corpora, *self._known.corpora]
        self._check_alike()

    @property
    def groups_per_epoch(self) -> int:
        """Mixtures in an epoch of the others, with the known ones between them."""
        return math.ceil(super().groups_per_epoch / (1 - self._share))

    def pick(self, position: int) -> list[SampleRef]:
        """Return the samples of the mixture at a position; a known one comes once for each of its places."""
        before = self._known_before(position)
        if not self.is_known(position):
            return super().pick(position - before)
        return [
            (corpus + self._others, row, place)
            for corpus, row, place in self._known.pick(before)
            for _ in range(self._places_each)
        ]

    def is_known(self, position: int) -> bool:
        """Return whether the mixture at a position is made of known sounds."""
        return self._known_before(position + 1) > self._known_before(position)

    def _known_before(self, position: int) -> int:
        return int(position * self._share)

    def read(self, positions: Sequence[int]) -> dict[str, Any]:
        """Read the mixtures at some positions, those of known sounds among them."""
        is_known = [self.is_known(position) for position in positions]
        before = [self._known_before(position) for position in positions]
        pairs = list(zip(positions, before, is_known, strict=True))
        others = super().read([position - count for position, count, known in pairs if not known])
        found = self._known.read([count for _, count, known in pairs if known])
        found["corpora"] += self._others
        found = {name: self._spread(name, value) for name, value in found.items()}
        # Where each mixture stands after the others have been read, then the known ones.
        places = torch.tensor([*_places(is_known, False), *_places(is_known, True)]).argsort()
        batch = found if all(is_known) else others
        if any(is_known) and not all(is_known):
            batch = {name: _joined(value, found[name], places) for name, value in others.items()}
        return batch | {"known": torch.tensor(is_known)}

    def _spread(self, name: str, value: Any) -> Any:
        """Return a part of a known batch with K places for each of its samples."""
        if isinstance(value, dict):
            return {inner: self._spread(name, each) for inner, each in value.items()}
        if not isinstance(value, Tensor) or self._places_each == 1:
            return value
        spread = value.repeat_interleave(self._places_each, dim=1)
        if name == "audio":
            spread[:, torch.arange(spread.shape[1]) % self._places_each != 0] = 0
        return spread


def _places(flags: Sequence[bool], wanted: bool) -> list[int]:
    return [place for place, flag in enumerate(flags) if flag is wanted]


def _joined(first: Any, second: Any, order: Tensor) -> Any:
    if isinstance(first, Tensor):
        return torch.cat([first, second])[order]
    if isinstance(first, dict):
        return {name: _joined(value, second[name], order) for name, value in first.items()}
    return first + second
