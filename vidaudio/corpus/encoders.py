"""Encoders of a corpus: the one that its recipe names, which somebody else may have chosen, and its folder."""

from __future__ import annotations

from vidaudio.corpus.columns import EMBED
from vidaudio.corpus.corpus import Corpus
from vidaudio.encoders.named_by import NamedByFile
from vidaudio.errors import CorpusError, StoreError
from vidaudio.json_values import parse_object
from vidaudio.stream.vector_columns import encoder_name


def named_by_corpus(corpus: Corpus, remedy: str) -> NamedByFile:
    """Return the mark of an encoder that a corpus names; somebody else may have made the corpus."""
    return NamedByFile(f"{corpus.url}/corpus.json", remedy)


def is_own_encoder(corpus: Corpus, name: str) -> bool:
    """Return whether an embeddings folder's description matches the encoder that the corpus's recipe names."""
    block = corpus.settings.embed.encoder
    try:
        told = parse_object(corpus.store.read(EMBED.described_in(name)))
        named = encoder_name(told["architecture"], told["precision"], told["weights_sha256"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, CorpusError, StoreError):
        return False
    same = all(told.get(key) == getattr(block, key) for key in ("architecture", "pretrained", "batch_size"))
    return same and block.precision in ("auto", told["precision"]) and named == name
