"""Descriptions of encoders in the `encoder.json` files of embedding folders, and checks of them.

The file has no checksum. It must have exactly the bytes that `description_bytes` writes, match its folder's name, and
match the encoder's own fingerprint if the encoder can be loaded on this machine.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

import pyarrow.parquet as pq

from vidaudio.corpus.columns import EMBED, embedding_schema
from vidaudio.corpus.corpus import Corpus
from vidaudio.corpus.encoders import named_by_corpus
from vidaudio.encoders.cache import cached_encoder
from vidaudio.encoders.naming import description_bytes
from vidaudio.errors import EncoderError
from vidaudio.json_values import parse_object
from vidaudio.maintenance.verify.files import DAMAGE
from vidaudio.maintenance.verify.findings import Findings
from vidaudio.shards.commit import is_table
from vidaudio.stream.index_checks import check_fingerprint
from vidaudio.stream.vector_columns import VectorInput, encoder_name

TRUST_IT = "where you trust it, add --trust-encoder"
DESCRIBE_AGAIN = "delete it and build again: the encoder describes itself anew"


@dataclass(frozen=True, slots=True)
class StoredEncoder:
    """An encoder whose vectors a corpus contains.

    Attributes:
        dimensions: Number of dimensions of its vectors.
        fingerprint: Fingerprint of the loaded encoder, else contents of `encoder.json`; None if that is unreadable or
            wrong.
        is_certain: Whether the values come from the loaded encoder itself.
        input: What the encoder encodes.
    """

    dimensions: int
    fingerprint: dict[str, Any] | None = None
    is_certain: bool = False
    input: VectorInput = "frames"


def described_encoders(
    corpus: Corpus, listings: Mapping[str, Mapping[str, int]], findings: Findings, *, trusted: bool = False
) -> dict[str, StoredEncoder]:
    """Return every encoder by its folder's name, except those without a readable description or table.

    Args:
        corpus: Corpus to check.
        listings: Files and sizes, by folder; only `embeddings/` folders are used.
        findings: Findings that problems are added to.
        trusted: Whether the encoder may be fetched, or read from any location that the corpus names.
    """
    own = _loaded(corpus, trusted=trusted)
    found = {}
    for folder in sorted(filter(EMBED.owns, listings)):
        name = folder.partition("/")[2]
        if own is not None and own.name == name:
            described: StoredEncoder | None = _by_the_encoder(corpus, own, findings)
        else:
            described = _by_itself(corpus, name, listings[folder], findings)
        if described is not None:
            found[name] = described
    return found


def load_own_encoder(corpus: Corpus, *, trusted: bool) -> Any:
    """Load the encoder that the corpus's recipe names.

    Args:
        corpus: Corpus whose recipe names the encoder.
        trusted: Whether the encoder may be fetched, or read from any location that the corpus names.

    Raises:
        EncoderError: When it is not available here, or is not loaded because only the corpus names it.
    """
    if trusted:
        return cached_encoder(corpus.settings.embed.encoder)
    return cached_encoder(corpus.settings.embed.encoder, named_by_corpus(corpus, TRUST_IT))


def _loaded(corpus: Corpus, *, trusted: bool) -> Any:
    try:
        return load_own_encoder(corpus, trusted=trusted)
    except EncoderError:
        return None  # `encode_again` reports it


def _by_the_encoder(corpus: Corpus, encoder: Any, findings: Findings) -> StoredEncoder:
    at = EMBED.described_in(encoder.name)
    try:
        if corpus.store.read(at) != description_bytes(encoder.fingerprint):
            findings.add_problem(at, "does not say what the encoder here says of itself", DESCRIBE_AGAIN)
    except DAMAGE as error:
        findings.add_problem(at, f"is missing or damaged ({type(error).__name__})", DESCRIBE_AGAIN)
    return StoredEncoder(encoder.dimensions, encoder.fingerprint, is_certain=True, input=encoder.input)


def _by_itself(corpus: Corpus, name: str, files: Iterable[str], findings: Findings) -> StoredEncoder | None:
    at = EMBED.described_in(name)
    try:
        data = corpus.store.read(at)
        said = parse_object(data)
        named = encoder_name(said["architecture"], said["precision"], said["weights_sha256"])
        dimensions = check_fingerprint(said)["dimensions"]
    except (*DAMAGE, AttributeError) as error:
        findings.add_problem(at, f"is missing or damaged ({type(error).__name__})", DESCRIBE_AGAIN)
        return _by_a_table(corpus, EMBED.model_folder(name), files)
    if named != name or data != description_bytes(said):
        findings.add_problem(at, "is not what was written for this folder", DESCRIBE_AGAIN)
        return _by_a_table(corpus, EMBED.model_folder(name), files)
    return StoredEncoder(dimensions, said, input=said.get("input", "frames"))


def _by_a_table(corpus: Corpus, folder: str, files: Iterable[str]) -> StoredEncoder | None:
    """Describe vectors without a valid `encoder.json` by the first readable table."""
    for file in sorted(filter(is_table, files)):
        try:
            schema = pq.read_schema(io.BytesIO(corpus.store.read(f"{folder}/{file}")))
            dimensions = schema.field("embedding").type.list_size
            kinds = [kind for kind in get_args(VectorInput) if schema.equals(embedding_schema(kind, dimensions))]
            return StoredEncoder(dimensions, input=kinds[0])
        except (*DAMAGE, AttributeError):
            continue  # damaged tables are reported one by one
    return None
