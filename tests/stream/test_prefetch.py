"""Sending for the next block's shards: many at a time where a process is alone, by every process that reads."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tests.stream.synthetic import write_shards
from vidaudio.stream import MixtureStream, StreamConfig, WindowShape
from vidaudio.stream.prefetch import LEAST_THREADS, MOST_THREADS, Prefetcher


class Gathering:
    """Tars whose fetching ends only when `together` of them are being fetched at once."""

    def __init__(self, together: int, of: int) -> None:
        self._barrier = threading.Barrier(together)
        self._left = of
        self._guard = threading.Lock()
        self.order: list[int] = []
        self.done = threading.Event()

    def prefetch(self, shard: int) -> None:
        with self._guard:
            self.order.append(shard)
        self._barrier.wait(timeout=60)
        with self._guard:
            self._left -= 1
            if not self._left:
                self.done.set()


@pytest.mark.parametrize(("reader_count", "together"), [(1, MOST_THREADS), (2, MOST_THREADS // 2), (64, LEAST_THREADS)])
def test_processes_have_as_many_requests_under_way_together_as_one_alone(reader_count, together):
    tars = Gathering(together, of=2 * MOST_THREADS)
    Prefetcher(tars).want(range(MOST_THREADS), range(MOST_THREADS, 2 * MOST_THREADS), reader_count=reader_count)
    assert tars.done.wait(60)
    assert sorted(tars.order) == list(range(2 * MOST_THREADS))


def test_each_process_begins_elsewhere_in_a_block():
    tars = Gathering(LEAST_THREADS, of=6)
    Prefetcher(tars).want([0, 1, 2, 3], [4, 5], reader_index=32, reader_count=64)
    assert tars.done.wait(60)
    # Two at a time, which wait for one another.
    assert [set(tars.order[place : place + 2]) for place in (0, 2, 4)] == [{2, 3}, {0, 1}, {4, 5}]


class Recorder:
    def __init__(self) -> None:
        self.wanted: list[tuple] = []

    def want(self, *blocks: list[int], reader_index: int, reader_count: int) -> None:
        self.wanted.append((blocks, reader_index, reader_count))


def test_a_process_sends_for_its_first_block_though_the_one_it_was_forked_from_has_looked_at_it(tmp_path: Path):
    write_shards(tmp_path / "noise", shards=4, samples_a_shard=4)
    config = StreamConfig(shape=WindowShape(frames=1, samples=8_000), batch_size=4, block_shards=2)
    stream = MixtureStream(str(tmp_path / "noise"), config, rank=1, world_size=2)
    recorder = Recorder()
    vars(stream.corpora[0])["_prefetcher"] = recorder
    stream.rows(0)
    stream.rows(0)
    assert [wanted[1:] for wanted in recorder.wanted] == [(0, 1)]
    next(iter(stream))
    (first, *_), (again, reader_index, reader_count) = recorder.wanted
    assert (first, reader_index, reader_count) == (again, 1, 2)
    assert len(again) == 2
