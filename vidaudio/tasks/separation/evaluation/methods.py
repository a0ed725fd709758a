"""Estimation methods for the target of a mixture: right or wrong queries, no query, or oracles.

A method has one or more candidate estimates. Of several candidates, the one with the highest SDR counts: an oracle's
choice, and every table marks it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from vidaudio.errors import PackError, QueryError, UsageError
from vidaudio.separation import FixedFilters, candidate_masks, ideal_binary_mask, mix_sources
from vidaudio.tasks.queries.blocks import modalities
from vidaudio.tasks.queries.query_gap import QueryGap
from vidaudio.tasks.separation.checkpoint import Checkpoint
from vidaudio.tasks.separation.evaluation.eval_mixtures import EvalMixture, MixtureSource, TestSet
from vidaudio.tasks.separation.evaluation.phrasings import Phrasing, phrased_query, plain_words
from vidaudio.tasks.separation.query_factory import attach_ranker, make_query_encoder
from vidaudio.training.checkpoint import best_device

T = TypeVar("T")

# Methods of a report's rows, in this order.
METHODS = ("mixture", "text", "image", "wrong_text", "wrong_image", "fixed_filter", "ideal_binary_mask")
# For systems without queries: the mask that is taken as the target's, see vidaudio.separation.candidate_masks.
HEAD_METHODS = {"mask_or_complement": "complement", "best_head": "heads", "first_head": "first"}
ASKED_BY = {"text": "text", "wrong_text": "text", "image": "image", "wrong_image": "image"}
NEEDS_LABEL = frozenset({"text", "wrong_text", "fixed_filter"})
ORACLES = frozenset({"mask_or_complement", "best_head", "ideal_binary_mask"})
PHRASING_PREFIX = "text: "
# The same kind of query, for a sound that is not in the mixture.
_WRONG = {"text": "wrong_text", "image": "wrong_image"}
ASKS_ABSENT = frozenset(_WRONG.values())


def wrong_method(method: str) -> str | None:
    """Return the method whose wrong query corresponds to `method`'s query; None if `method` has no query."""
    return "wrong_text" if method.startswith(PHRASING_PREFIX) else _WRONG.get(method)


def methods_of(loaded: Checkpoint, methods: Sequence[str] | None) -> list[str]:
    """Return the given methods, or the system's defaults; always with the mixture, in the order of a report.

    Raises:
        UsageError: When a method does not exist, or the system does not support it.
    """
    known = (*METHODS, *HEAD_METHODS)
    unknown = sorted(set(methods or ()) - set(known))
    if unknown:
        raise UsageError(f"there is no method {', '.join(unknown)}; there are {', '.join(known)}")
    able = modalities(loaded.recipe.query)
    fitting = {m for m in METHODS if ASKED_BY.get(m) is None or ASKED_BY[m] in able}
    fitting |= set() if able else set(HEAD_METHODS)
    if methods is None:
        chosen = ({"mixture", *_WRONG, *_WRONG.values()} & fitting) | (fitting & set(HEAD_METHODS))
    else:
        wrong = sorted(set(methods) - fitting)
        if wrong:
            raise UsageError(
                f"{loaded.recipe.system} cannot be evaluated by {', '.join(wrong)}; it can by "
                f"{', '.join(sorted(fitting))}"
            )
        chosen = {"mixture", *methods}
    return [method for method in known if method in chosen]


@dataclass(frozen=True)
class Estimates:
    """All estimates of one mixture.

    Attributes:
        number: Number of the mixture in its protocol.
        references: The target and the sum of all other sounds, float32 `[2, samples]`.
        mixture: The mixture, float32 `[samples]`.
        names: Method and candidate number of each estimate.
        sounds: Estimates of target and rest, float32 `[estimates, 2, samples]`.
    """

    number: int
    references: Tensor
    mixture: Tensor
    names: tuple[tuple[str, int], ...]
    sounds: Tensor


class Estimator:
    """Estimator of the target of each mixture, by all methods.

    Args:
        loaded: The system.
        tests: Test mixtures, which wrong queries are drawn from.
        methods: Methods to run, see `methods_of`.
        phrasings: Additional phrasings of text queries, each a method named `text: NAME`.
        filters: Filters of the method `fixed_filter`.
        noise_heads: `drop`, as in the papers' tests; or `keep`: the mask united with a noise mask, as in training. It
            is not known which noise head belongs to the query, so each is a candidate.
        encoder_weights: Local weights of the encoder; None for the recorded ones.
        skippable: Methods that are skipped instead of refused for a mixture without a wrong query.

    Attributes:
        without_wrong_query: Numbers of the mixtures without a wrong query.
        unknown_labels: Labels that the system does not know; there are no text queries for them.

    Raises:
        UsageError: When noise heads are to be kept and the system has none.
    """

    def __init__(
        self,
        loaded: Checkpoint,
        tests: TestSet,
        methods: Sequence[str],
        *,
        phrasings: Sequence[Phrasing] = (),
        filters: FixedFilters | None = None,
        noise_heads: str = "drop",
        encoder_weights: str | None = None,
        skippable: Collection[str] = (),
    ) -> None:
        self.skippable = frozenset(skippable)
        self.without_wrong_query: set[int] = set()
        self.device = best_device()
        self.model = loaded.model.to(self.device)
        self.tests, self.filters = tests, filters
        self.methods = (*methods, *(PHRASING_PREFIX + phrasing.name for phrasing in phrasings))
        self.samples = self.model.front_end.config.output_samples
        self.keeps_noise = noise_heads == "keep"
        if self.keeps_noise and getattr(self.model, "noise", None) is None:
            raise UsageError(f"{loaded.recipe.system} has no noise heads to keep; leave --noise-heads at drop")
        make = functools.partial(
            make_query_encoder, encoder=loaded.encoder, labels=loaded.labels, weights=encoder_weights, trained=True
        )
        self.maker = make(loaded.recipe)
        attach_ranker(self.model, self.maker)
        self.pictures = loaded.recipe.query.kind == "pictures"
        self.unknown_labels: set[str] = set()
        self._words: dict[tuple[str, str], Tensor] = {}
        self._phrasings = {PHRASING_PREFIX + phrasing.name: phrasing for phrasing in phrasings}
        self._plain = make(plain_words(loaded.recipe)) if phrasings else None

    def ask_through(self, gap: QueryGap) -> None:
        """Let all queries go through methods against the modality gap."""
        for maker in (self.maker, self._plain):
            if maker is not None:
                maker.gap = gap

    @property
    def gap_names(self) -> dict[str, str]:
        """Names of the methods against the modality gap that queries go through, by `train` and `ask`."""
        methods = {"train": self.maker.gap.train, "ask": self.maker.gap.ask}
        return {place: method.name for place, method in methods.items() if method is not None}

    @torch.no_grad()
    def estimate(self, item: EvalMixture) -> Estimates:
        """Return the estimates of all methods that are possible for this mixture."""
        sources, mixture = mixed(item)
        sources, mixture = sources.to(self.device), mixture.to(self.device)
        spectrum = self.model.front_end.stft(mixture)
        names, masks = [], []
        for name, mask in self._masks(item, sources, spectrum):
            names.append(name)
            masks.append(mask)
        whole = mixture[0, : self.samples]
        sounds = [torch.stack([whole, whole])[None]] if "mixture" in self.methods else []
        if masks:
            stacked = torch.stack(masks)
            both = torch.stack([stacked, 1 - stacked], dim=1)
            sounds.append(self.model.front_end.istft(spectrum[None] * both).clamp(-1, 1))
        first = (("mixture", 0),) if "mixture" in self.methods else ()
        return Estimates(item.number, sources[0, :, : self.samples], whole, (*first, *names), torch.cat(sounds))

    def _masks(self, item: EvalMixture, sources: Tensor, spectrum: Tensor) -> Iterator[tuple[tuple[str, int], Tensor]]:
        """Yield method, candidate number, and the target's mask on linear bins, `[bins, frames]`."""
        front_end = self.model.front_end
        queries = {method: query for method in self.methods if (query := self._query(method, item)) is not None}
        if queries:
            asked = torch.stack(list(queries.values()))[None]
            for method, candidates in zip(queries, self._asked(spectrum, asked), strict=True):
                yield from (((method, n), mask) for n, mask in enumerate(candidates))
        label = item.target.label
        if self.filters is not None and "fixed_filter" in self.methods and label and label in self.filters.labels:
            rows = self.filters.mask(label).to(self.device)
            yield ("fixed_filter", 0), front_end.to_linear(rows.expand(-1, front_end.config.frames)[None])[0]
        if "ideal_binary_mask" in self.methods:
            yield ("ideal_binary_mask", 0), front_end.to_linear(ideal_binary_mask(front_end, sources)[:, 0].float())[0]
        if any(method in HEAD_METHODS for method in self.methods):
            heads = self.model.masks(spectrum)
            for method in (m for m in self.methods if m in HEAD_METHODS):
                candidates = candidate_masks(heads, HEAD_METHODS[method])[0]
                yield from (((method, n), mask) for n, mask in enumerate(candidates))

    def _asked(self, spectrum: Tensor, queries: Tensor) -> Tensor:
        """Return masks of each query, `[queries, candidates, bins, frames]`."""
        masks = self.model.masks(spectrum, queries)[0][:, None]
        if not self.keeps_noise:
            return masks
        # Noise heads read all queries together, but each query here is used alone.
        noise = [self.model.noise_masks(spectrum, queries[:, n : n + 1])[0] for n in range(queries.shape[1])]
        return (masks + torch.stack(noise)).clamp(max=1)

    def _query(self, method: str, item: EvalMixture) -> Tensor | None:
        """Return a method's query for a mixture; None if the method has no query, or none for this mixture."""
        if method == "image":
            return self._image(item.target)
        if method == "wrong_image":
            other = self._absent(method, item, self.tests.absent_sound)
            return None if other is None else self._image(other)
        if not item.target.label:
            return None
        if method == "wrong_text":
            absent = self._absent(method, item, self.tests.absent_label)
            return None if absent is None else self._text(method, absent)
        if method == "text" or method in self._phrasings:
            return self._text(method, item.target.label)
        return None

    def _absent(self, method: str, item: EvalMixture, find: Callable[[EvalMixture], T]) -> T | None:
        """Return the result of `find`; None if it finds nothing and the method is skippable."""
        try:
            return find(item)
        except PackError:
            if method not in self.skippable:
                raise
            self.without_wrong_query.add(item.number)
            return None

    def _image(self, sound: MixtureSource) -> Tensor:
        reader, place = sound.corpus.reader, sound.place
        if self.pictures:
            name, seen = "frames", reader.pictures(place.row, place.window.frames)
        else:
            name, seen = "vectors", reader.window_vectors(place.row, place.window, sound.corpus.encoder)
        batch = {name: torch.from_numpy(seen)[None, None].to(self.device)}
        return self.maker.encode_batch(batch)[0, 0].to(self.device)

    def _text(self, method: str, label: str) -> Tensor | None:
        """Return a label's query, cached; None for a label that a system with fixed labels does not know."""
        key = (method if method in self._phrasings else "text", label)
        if key not in self._words and label not in self.unknown_labels:
            try:
                if self._plain is not None and method in self._phrasings:
                    query = phrased_query(self._plain, self._phrasings[method], label)
                else:
                    query = self.maker.encode_text(label)
            except QueryError:
                if not self.maker.labels:
                    raise
                self.unknown_labels.add(label)
                return None
            self._words[key] = query.to(self.device)
        return self._words.get(key)


def mixed(item: EvalMixture) -> tuple[Tensor, Tensor]:
    """Return a mixture's target and rest, `[1, 2, samples]`, and their sum, `[1, samples]`; float32 in -1 .. 1.

    Each of N sounds keeps its own level, divided by N. The rest is the sum of all sounds that are not the target, one
    from off screen included. Where the sum with that one would leave -1 .. 1, all of it is made quieter.
    """
    audio = np.stack([_sound(sound) for sound in (item.target, *item.partners)])
    sources, mixture = mix_sources(torch.from_numpy(audio)[None])
    sources = torch.stack([sources[:, 0], sources[:, 1:].sum(dim=1)], dim=1)
    if item.offscreen is None:
        return sources, mixture
    third = torch.from_numpy(_sound(item.offscreen.sound)).float()
    powers = sources[0, 0].square().mean(), third.square().mean()
    # A silent target leaves the third sound silent, too, and is not scored.
    gain = 10 ** (item.offscreen.level_db / 20) * (powers[0] / powers[1].clamp_min(1e-9)).sqrt()
    sources = torch.stack([sources[:, 0], sources[:, 1] + gain * third], dim=1)
    sources = sources / sources.sum(dim=1).abs().max().clamp_min(1)
    return sources, sources.sum(dim=1)


def _sound(sound: MixtureSource) -> np.ndarray:
    return sound.corpus.reader.window_sound(sound.place.row, sound.place.window)
