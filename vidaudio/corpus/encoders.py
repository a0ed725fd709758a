"""Encoders that a corpus itself names: somebody else may have made it."""

from __future__ import annotations

from vidaudio.corpus.corpus import Corpus
from vidaudio.encoders.named_by import NamedByFile


def named_by_corpus(corpus: Corpus, remedy: str) -> NamedByFile:
    """Return the mark of an encoder that a corpus names; somebody else may have made the corpus."""
    return NamedByFile(f"{corpus.url}/corpus.json", remedy)
