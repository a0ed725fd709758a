"""The vectors of a pack: which encoders they are of, and the part of a clip's vectors that belongs to a sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vidaudio.config.corpus import PackBlock
from vidaudio.corpus.columns import EMBED
from vidaudio.corpus.corpus import Corpus
from vidaudio.errors import PackError
from vidaudio.json_values import parse_object
from vidaudio.packs.segments import Segment
from vidaudio.packs.selection import check_complete
from vidaudio.shards.commit import committed_shards
from vidaudio.shards.corruption import CorruptFileError
from vidaudio.shards.store import Store
from vidaudio.stream.index_checks import check_fingerprint
from vidaudio.stream.vector_columns import VectorColumn, is_column_name, member_of


@dataclass(frozen=True, slots=True)
class ClipVectors:
    """Vectors of one encoder of a clip, or of a sample of it.

    Attributes:
        values: The vectors, float16 `[vectors, D]`.
        seconds: Start of each vector's window of time, for an encoder of sound.
        texts: Text of each vector, for an encoder of text.
    """

    values: np.ndarray
    seconds: tuple[float, ...] = ()
    texts: tuple[str, ...] = ()


def packed_encoders(settings: PackBlock, own: str) -> tuple[str, ...]:
    """Return the encoders whose vectors a pack contains, the corpus's own encoder `own` first.

    Raises:
        PackError: When an encoder's name cannot be part of the names of files.
    """
    names = settings.vectors or (own,)
    for name in names:
        if name != own and not is_column_name(name):
            raise PackError(
                f"vectors of {name[:80]!r} cannot be packed: the name of the encoder, a folder in embeddings/, is made "
                "of at most 64 small letters, digits, - and _, and is not clip"
            )
    return tuple(sorted(names, key=lambda name: name != own))


def check_embedded_by(corpus: Corpus, encoders: Sequence[str]) -> None:
    """Check that every shard of a corpus is embedded by all these encoders.

    Raises:
        PackError: When an encoder's folder is missing, or a shard is not embedded.
    """
    for name in encoders:
        committed = committed_shards(corpus.store, EMBED.model_folder(name))
        if not committed:
            found = ", ".join(sorted(corpus.store.folders(EMBED.folder))) or "none"
            raise PackError(f"{corpus.url} holds no vectors of {name} in embeddings/; it holds those of {found}")
        check_complete(f"{corpus.url}/{EMBED.model_folder(name)}", EMBED, len(committed), corpus.shards)


def packed_columns(store: Store, settings: PackBlock, own: str) -> tuple[VectorColumn, ...]:
    """Return the vector columns of a pack; only the descriptions of encoders that are not the corpus's own are read.

    Raises:
        PackError: As `packed_encoders`.
        CorruptFileError: When the description of an encoder is missing or damaged.
    """
    names = packed_encoders(settings, own)
    return tuple(
        VectorColumn(name) if name == own else with_fingerprint(store, VectorColumn(name, member_of(name)))
        for name in names
    )


def with_fingerprint(store: Store, column: VectorColumn) -> VectorColumn:
    """Return a vector column with the fingerprint of its encoder, and with what the fingerprint says of the vectors.

    Raises:
        CorruptFileError: When the description of the encoder is missing or damaged.
    """
    name = EMBED.described_in(column.encoder)
    try:
        fingerprint = check_fingerprint(parse_object(store.read(name)))
    except (ValueError, FileNotFoundError) as error:
        raise CorruptFileError(
            name, f"{store.url}/{name}, which describes the encoder of a pack, is gone or damaged ({error})"
        ) from error
    kind = fingerprint.get("input", "frames")
    return replace(column, input=kind, dimensions=fingerprint["dimensions"], fingerprint=fingerprint)


def vectors_of_segment(
    column: VectorColumn, clip: ClipVectors, segment: Segment, begin_seconds: float, end_seconds: float
) -> ClipVectors:
    """Return the vectors of a clip that belong to a segment of it.

    Args:
        column: Vector column of the pack.
        clip: All vectors of the clip.
        segment: The segment.
        begin_seconds: Time of the segment's first sound sample on the clip's clock, where the segment's clock starts.
        end_seconds: Time after its last sound sample, on the clip's clock.
    """
    if column.input == "frames":
        return ClipVectors(clip.values[segment.first_frame : segment.first_frame + segment.frames])
    if column.input == "text" or segment.whole:
        return clip
    starts = np.asarray(clip.seconds)
    inside = np.flatnonzero((starts < end_seconds) & (starts + column.fingerprint["window_seconds"] > begin_seconds))
    return ClipVectors(clip.values[inside], tuple((starts[inside] - begin_seconds).tolist()))


def described_vectors(vectors: Sequence[tuple[VectorColumn, ClipVectors]]) -> dict[str, Any]:
    """Return what a sample's JSON member says of its vectors; nothing of those of pictures, which have the times."""
    seconds = {c.encoder: [round(s, 6) for s in own.seconds] for c, own in vectors if c.input == "sound"}
    texts = {c.encoder: list(own.texts) for c, own in vectors if c.input == "text"}
    return {
        **({"vectors_seconds": seconds} if seconds else {}),
        **({"vectors_texts": texts} if texts else {}),
    }
