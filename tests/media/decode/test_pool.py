"""Decoders that wait are few and do not wait for ever."""

from __future__ import annotations

import threading

import pytest

from vidaudio.media.decode.extractor import ExtractOptions
from vidaudio.media.decode.pool import DecoderPool


class Decoder:
    """Stands for a process."""

    def __init__(self, options: ExtractOptions) -> None:
        self.options, self.closed = options, threading.Event()

    def close(self) -> None:
        self.closed.set()


def options(size: int) -> ExtractOptions:
    return ExtractOptions(frame_size=size)


def test_a_decoder_is_kept_for_the_next_with_its_options():
    pool = DecoderPool(2, make=Decoder)
    with pool.borrowed(options(16)) as first:
        pass
    with pool.borrowed(options(32)) as other:
        assert other is not first
    with pool.borrowed(options(16)) as again:
        assert again is first
    pool.clear()
    assert first.closed.is_set()
    assert other.closed.is_set()
    assert len(pool) == 0


def test_there_is_a_bound_on_those_that_wait():
    pool, made = DecoderPool(3, make=Decoder), []
    for size in range(16, 40):
        with pool.borrowed(options(size)) as decoder:
            made.append(decoder)
    assert len(pool) == 3
    assert [decoder.closed.is_set() for decoder in made] == [True] * 21 + [False] * 3
    pool.clear()


def test_one_that_waits_too_long_is_closed():
    pool = DecoderPool(3, idle_seconds=0.05, make=Decoder)
    with pool.borrowed(options(16)) as decoder:
        pass
    assert decoder.closed.wait(30)
    assert len(pool) == 0
    with pool.borrowed(options(16)) as another:
        assert another is not decoder
    assert another.closed.wait(30)


def test_one_that_failed_does_not_come_back():
    pool = DecoderPool(3, make=Decoder)
    with pytest.raises(RuntimeError), pool.borrowed(options(16)) as decoder:
        raise RuntimeError
    assert decoder.closed.is_set()
    assert len(pool) == 0
