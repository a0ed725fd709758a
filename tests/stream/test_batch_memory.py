"""How a batch comes from a loader's process: what is large in one shared piece, what is small in the message."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
import torch

from tests.stream.synthetic import write_shards
from vidaudio.errors import CorpusError
from vidaudio.stream import EpochLoader, MixtureStream, StreamConfig, WindowShape
from vidaudio.stream.batch_memory import ALIGNMENT_BYTES, allocate_shared, write_pictures

CONFIG = StreamConfig(sources=2, shape=WindowShape(frames=1, samples=8_000), batch_size=4, seed=7, block_shards=2)


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> MixtureStream:
    # Vectors so long that a batch of them is no longer small.
    folder = write_shards(tmp_path_factory.mktemp("noise"), shards=4, samples_a_shard=8, dimensions=8192)
    return MixtureStream(str(folder), CONFIG)


def test_parts_of_a_piece_keep_their_own_values():
    parts = {"a": ((3, 5), torch.int16), "none": ((2, 0), torch.float16), "b": ((7,), torch.float32)}
    found = allocate_shared(parts)
    assert {name: (tuple(part.shape), part.dtype) for name, part in found.items()} == parts
    assert len({part.untyped_storage().data_ptr() for part in found.values()}) == 1
    assert all(part.data_ptr() % ALIGNMENT_BYTES == 0 for part in found.values() if part.numel())
    for number, part in enumerate(found.values()):
        part.fill_(number)
    assert all((part == number).all() for number, part in enumerate(found.values()))


def test_a_batch_of_another_process_is_the_batch_of_this_one(stream: MixtureStream):
    for sent, own in zip(islice(stream.loader(workers=2), 5), stream, strict=False):
        assert sent.keys() == own.keys()
        for name, value in own.items():
            assert torch.equal(sent[name], value) if isinstance(value, torch.Tensor) else sent[name] == value


def test_what_is_large_is_asked_for_once_and_what_is_small_may_be_kept(stream: MixtureStream):
    for loader in (stream.loader(workers=1), EpochLoader(stream, workers=1)):
        batch = next(iter(loader))
        assert batch["audio"].is_shared()
        assert batch["vectors"].untyped_storage().data_ptr() == batch["audio"].untyped_storage().data_ptr()
        for name in ("rows", "corpora", "gains"):
            assert not batch[name].is_shared()
            assert batch[name].untyped_storage().nbytes() == batch[name].nbytes
            batch[name].zero_()


def test_pytorchs_own_loader_hands_on_the_same(stream: MixtureStream):
    plain = torch.utils.data.DataLoader(stream, batch_size=None, num_workers=1)
    assert torch.equal(next(iter(plain))["audio"], stream.batch(0)["audio"])


def test_pictures_of_two_sizes_are_refused():
    place = torch.zeros(3, 3, 8, 8, dtype=torch.uint8)
    write_pictures(np.full((3, 3, 8, 8), 5, np.uint8), place)
    assert (place == 5).all()
    with pytest.raises(CorpusError, match=r"pictures of 9 x 8 cannot be put into one batch with those of 8 x 8"):
        write_pictures(np.zeros((3, 3, 9, 8), np.uint8), place)
