"""Pictures of a window, where the pack holds them and the stream is asked for them."""

from __future__ import annotations

import io
import uuid
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image

from vidaudio.errors import CorpusError, UsageError
from vidaudio.shards.open import open_store
from vidaudio.stream import MixtureStream, StreamConfig, WindowShape, shard_urls, webdataset

CONFIG = StreamConfig(sources=2, shape=WindowShape(samples=16_000), batch_size=3, frames=True)


def test_they_are_those_of_the_window_decoded(packed_as: Callable[..., str]):
    url = packed_as("pictures", frames=True)
    whole = {
        sample["__key__"]: [np.asarray(Image.open(io.BytesIO(image)).convert("RGB")) for image in sample["images"]]
        for sample in webdataset(shard_urls(url, "train"))
    }
    stream = MixtureStream(url, CONFIG)
    for batch in (stream.batch(step) for step in range(3)):
        assert (batch["frames"].dtype, batch["frames"].shape) == (torch.uint8, (3, 2, 3, 3, 96, 96))
        for row, frames, vectors in zip(
            batch["rows"].flatten().tolist(),
            batch["frames"].flatten(0, 1).numpy(),
            batch["vectors"].flatten(0, 1).numpy(),
            strict=True,
        ):
            own = stream.corpora[0].reader.vectors(row)
            begin = next(n for n in range(len(own)) if np.array_equal(own[n : n + 3], vectors))
            pictures = whole[stream.index.text("key", row)][begin : begin + 3]
            assert np.array_equal(frames, np.stack(pictures).transpose(0, 3, 1, 2))


def test_a_remote_corpus_gives_the_same_and_needs_its_cache(packed_as: Callable[..., str], tmp_path):
    url = packed_as("pictures", frames=True)
    remote = f"memory://{uuid.uuid4().hex}"
    here = open_store(url)
    for name in here.list(""):
        open_store(remote).create(name, here.read(name))
    batch = MixtureStream(remote, CONFIG).batch(1)
    assert torch.equal(batch["frames"], MixtureStream(url, CONFIG).batch(1)["frames"])
    with pytest.raises(UsageError, match="set cache_bytes above 0"):
        MixtureStream(remote, StreamConfig(shape=CONFIG.shape, batch_size=3, frames=True, cache_bytes=0))


def test_a_pack_without_pictures_is_named(packed_as: Callable[..., str]):
    url = packed_as("short-pcm16", max_segment_seconds=8.0, audio="pcm16")
    with pytest.raises(CorpusError, match=r"holds no pictures .* pack\.frames: true"):
        MixtureStream(url, CONFIG)
    assert "frames" not in MixtureStream(url, StreamConfig(shape=CONFIG.shape, batch_size=3)).batch(0)
