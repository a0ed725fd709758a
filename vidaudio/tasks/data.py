"""The packed corpora that a run is trained on: their names on the command line, their shares, their indexes."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from vidaudio.errors import UsageError
from vidaudio.stream.index import TrainingIndex
from vidaudio.stream.loader import MixtureStream
from vidaudio.training.base import Data

_WEIGHTED = re.compile(r"(?P<url>.+)=(?P<weight>\d+(\.\d+)?)")


def parse_data(texts: Sequence[str]) -> str | dict[str, float]:
    """Parse the values of `--data`: one corpus, or several, each with `=WEIGHT` at its end or with weight 1.

    Raises:
        UsageError: When a corpus is named twice, or has weight 0.
    """
    corpora: dict[str, float] = {}
    for text in texts:
        # An existing path whose own name ends in =NUMBER is that path, without a weight.
        found = None if Path(text).exists() else _WEIGHTED.fullmatch(text)
        url, weight = (found["url"], float(found["weight"])) if found else (text, 1.0)
        if url in corpora:
            raise UsageError(f"{url} is named twice; to draw from it more often give it a weight: --data {url}=2")
        if weight == 0:
            raise UsageError(f"--data {text}: of weight 0 nothing is drawn; leave it out, or give it more")
        corpora[url] = weight
    return next(iter(corpora)) if len(corpora) == 1 else corpora


def shares(data: Data) -> list[float]:
    """Return each corpus's share of the drawn mixtures; the shares sum to 1."""
    weights = list(data.values()) if isinstance(data, Mapping) else [1.0]
    return [weight / sum(weights) for weight in weights]


def indexes(stream: MixtureStream) -> list[TrainingIndex]:
    """Return the indexes of the stream's corpora, in order."""
    return [corpus.index for corpus in stream.corpora]


def weights_of(data: Data) -> dict[str, float]:
    """Return the weight of each corpus by its URL."""
    return dict(data) if isinstance(data, Mapping) else {os.fspath(data): 1.0}


def weights_with_split(stream: MixtureStream, weights: Mapping[str, float], split: str) -> dict[str, float]:
    """Return the weights of a stream's corpora that have a split, by their URLs; of those without a weight, nothing."""
    return {
        corpus.url: weights[corpus.url]
        for corpus in stream.corpora
        if corpus.url in weights and split in corpus.index.splits
    }
