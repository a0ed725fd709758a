"""embed: CLIP vectors of every picture of a shard, batched over clips, in clip order."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from vidaudio.encoders.files import file_versions
from vidaudio.encoders.naming import description_bytes
from vidaudio.errors import EncoderError, MediaError
from vidaudio.media.pictures import read_frame
from vidaudio.pipeline.corpus import Corpus
from vidaudio.pipeline.recipe import CorpusSettings, EncoderBlock, RunSettings
from vidaudio.shards.commit import CommitRecord, commit, read_table, table_name
from vidaudio.shards.damage import Damaged
from vidaudio.shards.read import TarReader

# Pictures held decoded at once, in batches of the encoder.
BATCHES_AHEAD = 4


def cached_encoder(block: EncoderBlock):
    """The encoder of a recipe, loaded once a process and kept as long as its files are the same."""
    return _loaded(block, file_versions(block.architecture, block.pretrained))


@functools.lru_cache(maxsize=2)
def _loaded(block: EncoderBlock, _versions: tuple):
    from vidaudio.encoders.clip import EncoderSpec, load_encoder

    return load_encoder(EncoderSpec(**block.model_dump()))


class EncoderIdentity(NamedTuple):
    """What an encoder is: its name, its fingerprint as `encoder.json` has it, and the size of picture it wants."""

    name: str
    fingerprint: bytes
    image_size: int


def encoder_identity(block: EncoderBlock) -> EncoderIdentity:
    """Return what an encoder is, found out once a process as long as its files are the same."""
    return _identified(block, file_versions(block.architecture, block.pretrained))


@functools.lru_cache(maxsize=2)
def _identified(block: EncoderBlock, _versions: tuple) -> EncoderIdentity:
    """Load an encoder to know what it is, and let it go: a driver embeds nothing, and may have a long list to hold."""
    from vidaudio.encoders.clip import EncoderSpec, load_encoder

    encoder = load_encoder(EncoderSpec(**block.model_dump()))
    return EncoderIdentity(encoder.name, description_bytes(encoder.fingerprint), encoder.image_size)


def check_encoder(settings: CorpusSettings) -> EncoderIdentity:
    """What a corpus's encoder is, found out before anything is built.

    Raises:
        EncoderError: It cannot be had, or wants larger pictures than the corpus keeps.
    """
    identity = encoder_identity(settings.embed.encoder)
    _check_size(settings, identity.image_size)
    return identity


def check_encoder_named(settings: CorpusSettings) -> None:
    """What of `check_encoder` can be told without loading the encoder.

    Raises:
        EncoderError: As `check_encoder`.
    """
    from vidaudio.encoders.clip import EncoderSpec, check_encoder_files

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


def prepare_encoder(corpus: Corpus) -> str:
    """Write down what the corpus's encoder is; returns its name.

    Raises:
        EncoderError: As `check_encoder`, or it differs from the one recorded.
    """
    encoder = check_encoder(corpus.settings)
    name = f"embeddings/{encoder.name}/encoder.json"
    if not corpus.store.create(name, encoder.fingerprint) and corpus.store.read(name) != encoder.fingerprint:
        raise EncoderError(f"{corpus.url}/{name} describes another encoder of the same name; their vectors do not mix")
    return encoder.name


def embed_shard(corpus: Corpus, shard: int, folder: str, _: RunSettings) -> CommitRecord:
    """Embed every picture of a shard: one row a picture, float16."""
    encoder = cached_encoder(corpus.settings.embed.encoder)
    if folder != f"embeddings/{encoder.name}":
        raise EncoderError(
            f"this worker has the encoder {encoder.name} and the task wants {folder}: the weights at "
            f"{encoder.spec.architecture} differ between machines or were replaced while it ran"
        )
    av, record = read_table(corpus.store, table_name("av", shard))
    done = [row for row in av.to_pylist() if row["state"] == "done"]
    spans = [
        (f"{row['id']}.{number:03d}.jpg", *span)
        for row in done
        for number, span in enumerate(zip(row["frame_offsets"], row["frame_lengths"], strict=True))
    ]

    vectors = [np.zeros((0, encoder.dimensions), np.float32)]
    name = f"av/{record.tar}"
    with TarReader(corpus.store, name) as tar, ThreadPoolExecutor(max_workers=2) as pool:

        def square(span: tuple[str, int, int]) -> np.ndarray:
            member, offset, length = span
            try:
                return encoder.square(read_frame(tar.read(offset, length), name=f"{corpus.url}/{name}: {member}"))
            except MediaError as error:
                raise Damaged(name, f"{error}; `vidaudio verify` names the remedy") from error

        for group in _groups(spans, encoder.spec.batch_size * BATCHES_AHEAD):
            vectors.append(encoder.embed_squares(list(pool.map(square, group))))
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
    return commit(corpus.store, folder, shard, stage="embed", plan_hash=corpus.plan_hash, table=table)


def _groups(items: list, size: int) -> Iterator[list]:
    for first in range(0, len(items), size):
        yield items[first : first + size]
