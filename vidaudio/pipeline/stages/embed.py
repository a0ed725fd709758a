"""The embed stage: CLIP vectors of every picture of a shard, batched over clips, in clip order."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from vidaudio.config.corpus import CorpusSettings, EncoderBlock, RunSettings
from vidaudio.corpus.columns import EMBED, EXTRACT
from vidaudio.corpus.corpus import Corpus
from vidaudio.corpus.encoders import is_own_encoder, named_by_corpus
from vidaudio.encoders.cache import _stamps, cached_encoder
from vidaudio.encoders.named_by import NamedByFile
from vidaudio.encoders.naming import description_bytes
from vidaudio.errors import EncoderError, MediaError
from vidaudio.media.pictures import read_frame
from vidaudio.pipeline.clip_progress import Advance, ignore_progress
from vidaudio.shards.commit import CommitRecord, commit, read_table, table_name
from vidaudio.shards.corruption import CorruptFileError
from vidaudio.shards.read import TarReader

if TYPE_CHECKING:
    from vidaudio.encoders.spec import EncoderSpec

# Number of encoder batches of decoded pictures that are held at once.
BATCHES_AHEAD = 4


class EncoderIdentity(NamedTuple):
    """What identifies an encoder: its name, its fingerprint as in `encoder.json`, and its picture size in pixels."""

    name: str
    fingerprint: bytes
    image_size: int


def encoder_identity(block: EncoderBlock, named_by: NamedByFile | None = None) -> EncoderIdentity:
    """Return an encoder's identity; the encoder is loaded and freed, since a driver needs memory for its manifest."""
    from vidaudio.encoders.spec import EncoderSpec

    spec = EncoderSpec(**block.model_dump(), named_by=named_by)
    return _identity(spec, _stamps(spec))


@functools.lru_cache(maxsize=2)
def _identity(spec: EncoderSpec, stamps: tuple[tuple[str, int, int], ...]) -> EncoderIdentity:
    from vidaudio.encoders.load import load_encoder

    encoder = load_encoder(spec)
    return EncoderIdentity(encoder.name, description_bytes(encoder.fingerprint), encoder.image_size)


def check_encoder(settings: CorpusSettings, named_by: NamedByFile | None = None) -> EncoderIdentity:
    """Return the identity of a corpus's encoder, found before anything is built.

    Args:
        settings: Settings of the corpus.
        named_by: The corpus, where the settings are read from it; None where they are the user's.

    Raises:
        EncoderError: When the encoder cannot be loaded, or needs larger pictures than the corpus keeps.
    """
    identity = encoder_identity(settings.embed.encoder, named_by)
    _check_size(settings, identity.image_size)
    return identity


def check_encoder_named(settings: CorpusSettings) -> None:
    """Check an encoder as `check_encoder` does, as far as this is possible without loading it.

    Raises:
        EncoderError: As `check_encoder`.
    """
    from vidaudio.encoders.load import check_encoder_files
    from vidaudio.encoders.spec import EncoderSpec

    size = check_encoder_files(EncoderSpec(**settings.embed.encoder.model_dump()))
    if size is not None:
        _check_size(settings, size)


def _check_size(settings: CorpusSettings, image_size: int) -> None:
    kept = settings.extract.frame_size
    if image_size > kept:
        raise EncoderError(
            f"{settings.embed.encoder.architecture} wants pictures of {image_size} px and the corpus keeps "
            f"{kept}; begin one with extract.frame_size={image_size}"
        )


def recorded_encoder(corpus: Corpus) -> str:
    """Return the name of the encoder of a corpus's vectors; load the encoder only if the corpus does not record it.

    Raises:
        EncoderError: As `prepare_encoder`; a model that only the corpus names is not fetched.
    """
    found = [name for name in corpus.store.folders(EMBED.folder) if is_own_encoder(corpus, name)]
    if len(found) == 1:
        return found[0]
    return prepare_encoder(corpus, named_by_corpus(corpus, "name it in a recipe, and run `vidaudio build` with that"))


def prepare_encoder(corpus: Corpus, named_by: NamedByFile | None = None) -> str:
    """Record the identity of the corpus's encoder in the corpus; return the encoder's name.

    Args:
        corpus: Corpus whose settings name the encoder.
        named_by: The corpus, where its own recipe names the encoder; None where the user's does.

    Raises:
        EncoderError: As `check_encoder`, or when the encoder differs from the recorded one.
    """
    encoder = check_encoder(corpus.settings, named_by)
    name = EMBED.described_in(encoder.name)
    if not corpus.store.create(name, encoder.fingerprint) and corpus.store.read(name) != encoder.fingerprint:
        raise EncoderError(f"{corpus.url}/{name} describes another encoder of the same name; their vectors do not mix")
    return encoder.name


def embed_shard(
    corpus: Corpus, shard: int, folder: str, _: RunSettings, advance: Advance = ignore_progress
) -> CommitRecord:
    """Embed every picture of a shard: one float16 row per picture."""
    encoder = cached_encoder(corpus.settings.embed.encoder)
    if folder != EMBED.model_folder(encoder.name):
        raise EncoderError(
            f"this worker has the encoder {encoder.name} and the task wants {folder}: the weights at "
            f"{encoder.spec.architecture} differ between machines or were replaced while it ran"
        )
    av, record = read_table(corpus.store, table_name(EXTRACT.folder, shard))
    done = [row for row in av.to_pylist() if row["state"] == "done"]
    spans = [
        (f"{row['id']}.{number:03d}.jpg", *span)
        for row in done
        for number, span in enumerate(zip(row["frame_offsets"], row["frame_lengths"], strict=True))
    ]

    vectors = [np.zeros((0, encoder.dimensions), np.float32)]
    pictures = clips = 0
    name = f"{EXTRACT.folder}/{record.tar}"
    with TarReader(corpus.store, name) as tar, ThreadPoolExecutor(max_workers=2) as pool:

        def square(span: tuple[str, int, int]) -> np.ndarray:
            member, offset, length = span
            try:
                return encoder.square(read_frame(tar.read(offset, length), name=f"{corpus.url}/{name}: {member}"))
            except MediaError as error:
                raise CorruptFileError(name, f"{error}; `vidaudio verify` names the remedy") from error

        for group in _groups(spans, encoder.spec.batch_size * BATCHES_AHEAD):
            vectors.append(encoder.embed_squares(list(pool.map(square, group))))
            pictures += len(group)
            # Number of clips that corresponds to the pictures done so far.
            advance(len(done) * pictures // len(spans) - clips)
            clips = len(done) * pictures // len(spans)
    flat = np.concatenate(vectors).astype(np.float16)
    if not np.isfinite(flat).all():
        raise EncoderError(f"{encoder.name} gave values that float16 cannot hold, in shard {shard}")
    table = pa.table(
        {
            "id": pa.array([row["id"] for row in done for _ in row["frame_seconds"]], pa.string()),
            "frame_seconds": pa.array([s for row in done for s in row["frame_seconds"]], pa.float64()),
            "embedding": pa.FixedSizeListArray.from_arrays(pa.array(flat.reshape(-1)), encoder.dimensions),
        }
    )
    return commit(corpus.store, folder, shard, stage=EMBED.stage, plan_hash=corpus.plan_hash, table=table)


def _groups(items: list, size: int) -> Iterator[list]:
    for first in range(0, len(items), size):
        yield items[first : first + size]
