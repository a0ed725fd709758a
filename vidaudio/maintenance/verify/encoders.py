"""What the folders of embeddings say of their encoders, in `encoder.json`.

The file carries no seal. It must be written as this program writes it, say what its folder's name says, and, where the
encoder can be loaded here, be that encoder's own words.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow.parquet as pq

from vidaudio.corpus.corpus import Corpus
from vidaudio.encoders.naming import description_bytes, encoder_name
from vidaudio.errors import EncoderError
from vidaudio.json_values import parse_object
from vidaudio.maintenance.verify.files import DAMAGE
from vidaudio.maintenance.verify.findings import Findings
from vidaudio.shards.commit import is_table

TRUST_IT = "where you trust it, add --trust-encoder"
DESCRIBE_AGAIN = "delete it and build again: the encoder describes itself anew"


@dataclass(frozen=True, slots=True)
class StoredEncoder:
    """An encoder of which a corpus has vectors.

    Attributes:
        dimensions: Of its vectors.
        fingerprint: What it is, as `encoder.json` has it; None where that cannot be read or is not true.
        is_certain: The encoder itself says so.
    """

    dimensions: int
    fingerprint: dict[str, Any] | None = None
    is_certain: bool = False


def described_encoders(
    corpus: Corpus, listings: Mapping[str, Mapping[str, int]], findings: Findings, *, trusted: bool = False
) -> dict[str, StoredEncoder]:
    """Every encoder by the name of its folder, but for those of which not even a table can be read.

    Args:
        corpus: Whose.
        listings: Files of every folder of embeddings.
        findings: Added to.
        trusted: The encoder may be fetched, or read from wherever the corpus says.
    """
    own = _loaded(corpus, trusted=trusted)
    found = {}
    for folder in sorted(folder for folder in listings if folder.startswith("embeddings/")):
        name = folder.partition("/")[2]
        if own is not None and own.name == name:
            described = _by_the_encoder(corpus, own, findings)
        else:
            described = _by_itself(corpus, name, listings[folder], findings)
        if described is not None:
            found[name] = described
    return found


def load_own_encoder(corpus: Corpus, *, trusted: bool) -> Any:
    """The encoder that the corpus's recipe names.

    Raises:
        EncoderError: It cannot be had here, or is not loaded because only the corpus names it.
    """
    from vidaudio.pipeline.stages import embed

    if trusted:
        return embed.cached_encoder(corpus.settings.embed.encoder)
    return embed.cached_encoder(corpus.settings.embed.encoder, embed.named_by_corpus(corpus, TRUST_IT))


def _loaded(corpus: Corpus, *, trusted: bool) -> Any:
    try:
        return load_own_encoder(corpus, trusted=trusted)
    except EncoderError:
        return None  # said where pictures would have been encoded again


def _by_the_encoder(corpus: Corpus, encoder: Any, findings: Findings) -> StoredEncoder:
    at = f"embeddings/{encoder.name}/encoder.json"
    try:
        if corpus.store.read(at) != description_bytes(encoder.fingerprint):
            findings.add_problem(at, "does not say what the encoder here says of itself", DESCRIBE_AGAIN)
    except DAMAGE as error:
        findings.add_problem(at, f"is missing or damaged ({type(error).__name__})", DESCRIBE_AGAIN)
    return StoredEncoder(encoder.dimensions, encoder.fingerprint, is_certain=True)


def _by_itself(corpus: Corpus, name: str, files: Iterable[str], findings: Findings) -> StoredEncoder | None:
    at = f"embeddings/{name}/encoder.json"
    try:
        data = corpus.store.read(at)
        said = parse_object(data)
        named = encoder_name(said["architecture"], said["precision"], said["weights_sha256"])
        dimensions = said["dimensions"]
        if not isinstance(dimensions, int):
            raise TypeError("dimensions is no whole number")
    except (*DAMAGE, AttributeError) as error:
        findings.add_problem(at, f"is missing or damaged ({type(error).__name__})", DESCRIBE_AGAIN)
        return _by_a_table(corpus, f"embeddings/{name}", files)
    if named != name or data != description_bytes(said):
        findings.add_problem(at, "is not what was written for this folder", DESCRIBE_AGAIN)
        return _by_a_table(corpus, f"embeddings/{name}", files)
    return StoredEncoder(dimensions, said)


def _by_a_table(corpus: Corpus, folder: str, files: Iterable[str]) -> StoredEncoder | None:
    """What vectors are like that nobody describes."""
    for file in sorted(filter(is_table, files)):
        try:
            schema = pq.read_schema(io.BytesIO(corpus.store.read(f"{folder}/{file}")))
            return StoredEncoder(schema.field("embedding").type.list_size)
        except (*DAMAGE, AttributeError):
            continue  # damaged tables are named one by one
    return None
